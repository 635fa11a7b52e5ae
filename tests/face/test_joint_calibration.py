"""Simulation-based calibration over the joint posterior of an image and what else is unknown."""

from dataclasses import dataclass, replace

import pyro
import pyro.distributions as dist
import pytest
import torch

import bayes_ir as bir
from bayes_ir.inference import BlockedGibbs, Enumerated, Exact, GuidedDiffusion, ModelError, TwistedSMC
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior

F64 = torch.float64
RNG = torch.Generator().manual_seed(0)
PRIORS = [GaussianPrior(torch.full((3,), shift, dtype=F64), torch.eye(3, dtype=F64)) for shift in (0.0, 1.0)]
A = DenseOperator(torch.randn(8, 3, generator=RNG, dtype=F64), dtype=F64)
THREE, ONE = torch.tensor(3.0, dtype=F64), torch.tensor(1.0, dtype=F64)
pytestmark = pytest.mark.filterwarnings("ignore::bayes_ir.analysis.FewReplicationsWarning")


def unknown_noise():
    variance = pyro.sample("variance", dist.InverseGamma(THREE, ONE))
    pyro.sample("y", Gaussian(A(pyro.sample("x", PRIORS[0])), variance.sqrt()))


def unknown_label():
    label = pyro.sample("label", dist.Categorical(torch.tensor([0.4, 0.6])))
    pyro.sample("y", Gaussian(A(pyro.sample("x", PRIORS[int(label)])), 2.0))


@dataclass(frozen=True, kw_only=True)
class Narrowed(Exact):
    """Exact draws, pulled towards zero by a half."""

    def step(self, problem, state, rng):
        state, info = super().step(problem, state, rng)
        return (replace(state, x=state.x / 2) if state.done else state), info


def calibrated(model, kernel, replications=30, **settings):
    return bir.simulation_based_calibration(
        model, kernel, replications=replications, draws=9, progress=False, **settings
    )


def test_gibbs_sampling_is_calibrated_and_a_wrong_image_step_is_seen_in_the_noise():
    right, wrong = (
        calibrated(unknown_noise, BlockedGibbs(image=image, warmup=5, thinning=3))
        for image in (Exact(), Narrowed())
    )
    assert [*right["prior_sbc"].data_vars][-2:] == ["variance", "log_likelihood"]
    assert right.attrs["verdict"] == "no deviation at level 0.05"
    p = wrong["sbc_test"]["p_value"]
    assert float(p.sel(quantity="variance")) < 1e-3
    assert float(p.sel(quantity="log_likelihood")) < 1e-3


def test_a_label_summed_out_is_calibrated():
    tree = calibrated(unknown_label, Enumerated(image=TwistedSMC(particles=16, steps=4, kept=1 / 16)), 20)
    assert "label" in tree["prior_sbc"].data_vars
    assert tree.attrs["verdict"] == "no deviation at level 0.05"


def test_a_study_goes_on_and_its_replications_are_their_own(tmp_path):
    kernel = BlockedGibbs(image=GuidedDiffusion(steps=4), warmup=2)
    calibrated(unknown_noise, kernel, 3, store=tmp_path / "sbc", seed=2)
    on = calibrated(unknown_noise, kernel, 5, store=tmp_path / "sbc", seed=2)
    at_once = calibrated(unknown_noise, kernel, 5, seed=2)
    for name, ranks in at_once["prior_sbc"].data_vars.items():
        assert (on["prior_sbc"][name].values == ranks.values).all()


def test_entries_of_an_unknown_array_have_a_rank_each():
    def per_sensor():
        s = pyro.sample("s", dist.LogNormal(torch.zeros(2, dtype=F64), 0.3).to_event(1))
        x = pyro.sample("x", PRIORS[0])
        pyro.sample("one", Gaussian(A(x), s[0]))
        pyro.sample("two", Gaussian(A(x), s[1]))

    kernel = BlockedGibbs(image=Exact(), warmup=2)
    tree = calibrated(per_sensor, kernel, 2, quantities=["s_0", "s_1", "log_likelihood"])
    assert [*tree["prior_sbc"].data_vars] == ["s_0", "s_1", "log_likelihood"]


def test_a_chain_whose_first_image_diverges_says_so():
    @dataclass(frozen=True, kw_only=True)
    class Broken(Exact):
        def step(self, problem, state, rng):
            state, info = super().step(problem, state, rng)
            return (replace(state, x=state.x * torch.nan) if state.done else state), info

    with pytest.raises(ModelError, match=r"first image of chain 0 is not finite: .*Broken.* diverged"):
        calibrated(unknown_noise, BlockedGibbs(image=Broken(), warmup=2), 2)

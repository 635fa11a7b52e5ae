"""Simulation-based calibration of a kernel on a Pyro model, end to end."""

from dataclasses import dataclass, replace

import numpy as np
import pyro
import pytest
import torch
import xarray as xr

import bayes_ir as bir
from bayes_ir.analysis import FewReplicationsWarning
from bayes_ir.calibration import simulation_based_calibration
from bayes_ir.inference import Exact, GuidedDiffusion, ModelError, exact_posterior
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior
from bayes_ir.replication import Replicator

F64 = torch.float64
RNG = torch.Generator().manual_seed(0)
PRIOR = GaussianPrior(torch.zeros(16, dtype=F64), torch.eye(16, dtype=F64), event_shape=(1, 4, 4))
A = DenseOperator(torch.randn(6, 16, generator=RNG, dtype=F64) / 4, event_shape=(1, 4, 4), dtype=F64)
SETTINGS = {"replications": 12, "draws": 9, "progress": False}
pytestmark = pytest.mark.filterwarnings("ignore::bayes_ir.analysis.FewReplicationsWarning")


def model():
    x = pyro.sample("x", PRIOR)
    pyro.sample("y", Gaussian(A(x), 0.3))


@dataclass(frozen=True, kw_only=True)
class Widened(Exact):
    """Exact draws, moved away from zero or made NaN: a kernel that is wrong by a known factor."""

    factor: float = 2.0

    def step(self, problem, state, rng):
        state, info = super().step(problem, state, rng)
        return (state if not state.done else _scaled(state, self.factor)), info


def _scaled(state, factor):
    return replace(state, x=state.x * factor)


def _ranks(tree):
    return np.stack([v.values[0] for v in tree["prior_sbc"].data_vars.values()])


def test_the_exact_kernel_is_calibrated_and_a_widened_one_is_not():
    settings = SETTINGS | {"replications": 60, "draws": 19}
    with pytest.warns(FewReplicationsWarning, match="60 replications of 19 draws"):
        tree = simulation_based_calibration(model, Exact(), **settings)
    assert tree.attrs["verdict"] == "no deviation at level 0.05"
    assert list(tree["prior_sbc"].data_vars) == [
        *("linear_0", "linear_1", "linear_2", "frequency_0_0", "frequency_0_1", "frequency_1_0"),
        *("patch_top_left", "patch_top_right", "patch_bottom_left", "patch_bottom_right", "energy"),
        *("log_likelihood", "residual_norm", "data_product", "log_joint"),
    ]
    assert tree.attrs["kernel"] == repr(Exact()) and tree.attrs["seed"] == 0
    assert tree.attrs["draws_per_replication"] == 19 and tree.attrs["replications"] == 60
    wrong = simulation_based_calibration(model, Widened(), **settings)
    assert {"energy", "log_joint"} <= set(wrong.attrs["verdict"].removeprefix("not calibrated: ").split(", "))


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    whole = simulation_based_calibration(model, Exact(), **SETTINGS)
    call = Replicator.__call__

    def killed(self, index, *rest):
        if index == 5:
            raise KeyboardInterrupt
        return call(self, index, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Replicator, "__call__", killed)
        simulation_based_calibration(model, Exact(), **SETTINGS, store=tmp_path / "run")
    assert len(list((tmp_path / "run").glob("*.npz"))) == 5
    made = []
    monkeypatch.setattr(
        Replicator, "__call__", lambda self, i, *rest: (made.append(i), call(self, i, *rest))[1]
    )
    resumed = simulation_based_calibration(model, Exact(), **SETTINGS, store=tmp_path / "run")
    assert made == list(range(5, 12))
    xr.testing.assert_identical(resumed["prior_sbc"].to_dataset(), whole["prior_sbc"].to_dataset())
    xr.testing.assert_identical(resumed["sbc_test"].to_dataset(), whole["sbc_test"].to_dataset())
    longer = simulation_based_calibration(
        model, Exact(), **(SETTINGS | {"replications": 14}), store=tmp_path / "run"
    )
    assert made[7:] == [12, 13] and (_ranks(longer)[:, :12] == _ranks(whole)).all()


def test_a_replication_is_a_function_of_seed_and_number():
    replicate = Replicator.of(model, Exact(), draws=5, seed=3)
    (one,), (again,), (other,) = (
        replicate(4),
        Replicator.of(model, Exact(), draws=5, seed=3)(4),
        replicate(5),
    )
    assert torch.equal(one.x, again.x) and torch.equal(one.draws, again.draws)
    assert torch.equal(one.problem.y, again.problem.y)
    assert not torch.equal(one.x, other.x) and not torch.equal(one.draws, other.draws)
    assert one.draws.shape == (5, 1, 4, 4) and one.x.shape == (1, 1, 4, 4)


def test_replications_drawn_together_keep_their_truths_and_their_own_data():
    """On a Gaussian prior GuidedDiffusion is exact: means of 4,000 draws within five standard errors of Exact's."""
    kernel = GuidedDiffusion(steps=8)
    together = Replicator.of(model, kernel, draws=4000, seed=3, together=3)(1)
    for i, made in enumerate(together, start=3):
        alone = Replicator.of(model, kernel, draws=2, seed=3).truth(i)
        assert torch.equal(made.x, alone.x) and torch.equal(made.problem.y, alone.problem.y)
        law, _ = exact_posterior(made.problem)
        mean = law.log_weights.exp() @ law.means
        error = made.draws.flatten(1).double().mean(0) - mean
        assert (error.abs() / (made.draws.flatten(1).std(0) / 4000**0.5)).max() < 5


def test_a_group_that_is_cut_short_is_drawn_whole(tmp_path):
    settings = SETTINGS | {"kernel": GuidedDiffusion(steps=4), "together": 5, "store": tmp_path / "run"}
    first = simulation_based_calibration(model, **(settings | {"replications": 7}))
    more = simulation_based_calibration(model, **(settings | {"replications": 10}))
    assert (_ranks(more)[:, :7] == _ranks(first)).all()


def test_own_quantities_get_images_and_data():
    seen = []

    def product(x, y):
        seen.append((x.shape, y.shape))
        return x[:, 0, 0, 0] * y[0]

    tree = simulation_based_calibration(model, Exact(), quantities={"own": product}, **SETTINGS)
    assert list(tree["prior_sbc"].data_vars) == ["own", "log_likelihood", "residual_norm", "data_product"]
    assert set(seen) == {((1, 1, 4, 4), (6,)), ((10, 1, 4, 4), (6,))}
    named = simulation_based_calibration(model, Exact(), quantities=["energy", "log_joint"], **SETTINGS)
    assert list(named["prior_sbc"].data_vars) == ["energy", "log_joint"]


def test_refusals(tmp_path):
    y = bir.simulate(model, seed=1)["y"]
    with pytest.raises(ModelError, match=r"the model observes \['y'\]"):
        simulation_based_calibration(pyro.condition(model, data={"y": y}), Exact(), **SETTINGS)
    with pytest.raises(ModelError, match=r"expected x = pyro\.sample"):
        simulation_based_calibration(lambda: pyro.sample("x", PRIOR), Exact(), **SETTINGS)
    with pytest.raises(ValueError, match="unknown quantity 'log_jont'"):
        simulation_based_calibration(model, Exact(), quantities=["log_jont"], **SETTINGS)
    with pytest.raises(ValueError, match="draws is 1; expected a whole number of at least 2"):
        simulation_based_calibration(model, Exact(), replications=5, draws=1)
    with pytest.raises(ValueError, match="9 of 9 draws of replication 0 are not finite"):
        simulation_based_calibration(model, Widened(factor=float("inf")), **SETTINGS)
    simulation_based_calibration(model, Exact(), **SETTINGS, store=tmp_path / "run")
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        simulation_based_calibration(model, Exact(), **SETTINGS, seed=1, store=tmp_path / "run")

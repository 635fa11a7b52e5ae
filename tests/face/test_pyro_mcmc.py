"""Pyro's own tools on our models: MCMC with its options, Predictive, the graph of the model, ArviZ's converter."""

import json
import pickle
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, Predictive
from pyro.infer.inspect import get_model_relations

import bayes_ir as bir
from bayes_ir.inference import BlockedGibbs, Exact, GuidedDiffusion, ModelError
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit

F64 = torch.float64
N, M = 4, 8
PRIOR = GaussianPrior(torch.zeros(N, dtype=F64), torch.eye(N, dtype=F64))
MATRIX = torch.randn(M, N, generator=torch.Generator().manual_seed(0), dtype=F64) / 2
A = DenseOperator(MATRIX, dtype=F64)
Y = A(torch.tensor([1.0, -1, 0.5, 2], dtype=F64)) + 0.1


def plain(scale=0.3):
    x = pyro.sample("x", PRIOR)
    pyro.sample("y", Gaussian(A(x), scale))


def with_noise():
    x = pyro.sample("x", PRIOR)
    sigma = pyro.sample("sigma", dist.LogNormal(torch.tensor(-1.0, dtype=F64), 0.5))
    pyro.sample("y", Gaussian(A(x), sigma))


def _run(model=plain, kernel=None, args=(), **settings):
    pyro.set_rng_seed(0)
    settings = {"num_samples": 30, "warmup_steps": 20, "disable_progbar": True} | settings
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="num_chains=")
        mcmc = MCMC(bir.DiffusionKernel(model, kernel, data={"y": Y}), **settings)
    mcmc.run(*args)
    return mcmc


def test_draws_have_the_exact_posterior():
    """Mean of 1,500 independent draws within five standard errors of conjugate algebra."""
    draws = _run(num_samples=1500, warmup_steps=0).get_samples()["x"]
    precision = torch.eye(N, dtype=F64) + MATRIX.T @ MATRIX / 0.09
    mean = torch.linalg.solve(precision, MATRIX.T @ Y / 0.09)
    error = (draws.mean(0) - mean).abs() / (torch.linalg.inv(precision).diagonal() / 1500).sqrt()
    assert error.max() < 5


def test_several_chains_grouped_with_diagnostics(capsys):
    mcmc = _run(with_noise, num_chains=2, num_samples=40)
    grouped, flat = mcmc.get_samples(group_by_chain=True), mcmc.get_samples()
    assert grouped["x"].shape == (2, 40, N) and grouped["sigma"].shape == (2, 40)
    assert flat["x"].shape == (80, N) and (grouped["x"][0] != grouped["x"][1]).any()
    diagnostics = mcmc.diagnostics()
    assert {"n_eff", "r_hat"} <= set(diagnostics["sigma"])
    assert set(diagnostics["divergences"]) == {"chain 0", "chain 1"}
    mcmc.summary()
    printed = capsys.readouterr().out
    assert "sigma" in printed and "Number of divergences" in printed


def test_arguments_of_run_reach_the_model():
    narrow, wide = (_run(args=(s,), num_samples=200).get_samples()["x"].std(0) for s in (0.05, 1.0))
    assert (narrow < 0.5 * wide).all()


def test_hooks_see_every_transition_and_the_kernel_reports():
    seen = []

    def hook(kernel, params, stage, i):
        seen.append((stage, i, set(params), json.loads(json.dumps(kernel.logging()))))

    _run(
        with_noise, BlockedGibbs(image=GuidedDiffusion(steps=4)), hook_fn=hook, num_samples=3, warmup_steps=2
    )
    assert [s[:2] for s in seen] == [
        *(("Warmup", 0), ("Warmup", 1)),
        *(("Sample", 0), ("Sample", 1), ("Sample", 2)),
    ]
    assert seen[-1][2] == {"x", "sigma"} and seen[-1][3]["network calls"] == "20"


def test_a_run_repeats_under_its_seed_and_starts_where_it_is_told():
    one, two = (_run(with_noise, num_samples=5).get_samples() for _ in range(2))
    assert torch.equal(one["x"], two["x"]) and torch.equal(one["sigma"], two["sigma"])
    start = {"sigma": torch.tensor(0.77, dtype=F64)}
    started = []

    def hook(kernel, params, stage, i):
        started.append(kernel.initial_params["sigma"])

    kernel = bir.DiffusionKernel(with_noise, data={"y": Y})
    kernel.initial_params = start
    kernel.setup(0)
    assert kernel.initial_params["sigma"] == start["sigma"] and kernel.initial_params["x"].shape == (N,)


def test_a_finished_run_can_be_pickled():
    mcmc = _run(with_noise, num_samples=4)
    again = pickle.loads(pickle.dumps(mcmc))
    assert torch.equal(again.get_samples()["sigma"], mcmc.get_samples()["sigma"])


def test_predictive_draws_from_posterior_draws():
    """Replicated measurements scatter around A x with the noise of their own draw: five standard errors."""
    samples = _run(with_noise, num_samples=400).get_samples()
    made = Predictive(with_noise, posterior_samples=samples)()["y"]
    z = (made - samples["x"] @ MATRIX.T) / samples["sigma"][:, None]
    assert made.shape == (400, M)
    assert abs(float(z.mean())) < 5 / z.numel() ** 0.5
    assert abs(float(z.square().mean()) - 1) < 5 * (2 / z.numel()) ** 0.5


def test_pyro_sees_what_depends_on_what():
    relations = get_model_relations(pyro.condition(with_noise, data={"y": Y}))
    assert relations["observed"] == ["y"] and relations["sample_dist"]["x"] == "GaussianPrior"
    assert set(relations["sample_sample"]["y"]) == {"x", "sigma"}


@pytest.mark.filterwarnings("ignore")
def test_arviz_reads_the_run():
    from arviz import from_pyro

    data = from_pyro(_run(with_noise, num_samples=6), log_likelihood=False)
    assert data.posterior["x"].shape == (1, 6, N)
    np.testing.assert_array_equal(data.observed_data["y"], Y)


def test_models_are_refused_in_words_by_run():
    kernel = bir.DiffusionKernel(
        lambda: pyro.sample("y", dist.Normal(0.0, 1.0)), data={"y": torch.tensor(0.1)}
    )
    with pytest.raises(ModelError, match="the model has no image site"):
        kernel.setup(0)

    def signs():
        pyro.sample("y", OneBit(A(pyro.sample("x", PRIOR)), 0.1))

    with pytest.raises(ModelError, match="expected only -1 and 1"):
        MCMC(bir.DiffusionKernel(signs, Exact(), data={"y": Y}), num_samples=2, disable_progbar=True).run()

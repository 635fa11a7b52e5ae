"""Importance weights: a known ratio of normals, heavy tails told, refusals, and a weighted run end to end."""

import numpy as np
import pyro
import pytest
import torch

import bayes_ir as bir
from bayes_ir.analysis import importance_weights
from bayes_ir.inference import TwistedSMC
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior


def log_ratio(x: np.ndarray, sd: float) -> np.ndarray:
    """log N(x; 0, 1) - log N(x; 0, sd) up to a constant."""
    return -0.5 * x**2 + 0.5 * (x / sd) ** 2


def test_weights_of_a_wider_proposal():
    n, sd = 20_000, 1.5
    x = sd * np.random.default_rng(0).normal(size=n)
    found = importance_weights(log_ratio(x, sd).reshape(4, -1))
    assert found.weights.shape == (4, n // 4) and found.weights.sum() == pytest.approx(1)
    assert found.trusted and found.pareto_k < 0.5
    # E w^2 / (E w)^2 = sd^2 / (2 sd^2 - 1)^{1/2} for these normals.
    assert found.effective_sample_size == pytest.approx(n / (sd**2 / np.sqrt(2 * sd**2 - 1)), rel=0.05)
    assert float((found.weights.ravel() * x**2).sum()) == pytest.approx(1, abs=4 * np.sqrt(2 / n) * 1.5)


def test_a_narrow_proposal_is_not_trusted():
    x = 0.4 * np.random.default_rng(0).normal(size=5000)
    assert not importance_weights(log_ratio(x, 0.4)).trusted


def test_a_run():
    prior = GaussianPrior(torch.zeros(3), torch.diag(torch.tensor([0.5, 1.0, 2.0])))
    operator = DenseOperator(torch.eye(3)[:2].clone())

    def model():
        pyro.sample("y", Gaussian(operator(pyro.sample("x", prior)), 0.3))

    kernel = TwistedSMC(steps=6, particles=50, kept=1.0, weighted=True, ess_threshold=0.0)
    y = torch.tensor([0.5, -1.0])
    posterior = bir.sample(model, kernel, data={"y": y}, draws=100, chains=2, seed=0, progress=False)
    found = importance_weights(posterior)
    assert found.weights.shape == (2, 100) and found.effective_sample_size > 150
    exact = 0.5 / (0.5 + 0.09) * 0.5  # pixel 0
    mean = float((found.weights * posterior.posterior["x"].values[..., 0]).sum())
    assert mean == pytest.approx(exact, abs=4 * 0.28 / np.sqrt(200))


def test_refusals():
    with pytest.raises(ValueError, match="at least 25 numbers"):
        importance_weights(np.zeros(3))
    with pytest.raises(ValueError, match="at least 25 numbers"):
        importance_weights(np.full(30, np.nan))
    import xarray

    with pytest.raises(ValueError, match="no sample_stats/log_weight"):
        importance_weights(xarray.DataTree())

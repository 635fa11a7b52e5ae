"""Evidence and component weights: against scipy, and their standard errors against repetitions."""

import math

import numpy as np
import pyro
import pytest
import torch
from scipy.stats import multivariate_normal

from bayes_ir import simulate
from bayes_ir.inference import ModelError, read_problem
from bayes_ir.inference.exact import component_weights, log_evidence
from bayes_ir.models import DenseOperator, Gaussian, GaussianMixturePrior, OneBit, Poisson, Quantized

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


N, M = 6, 7
ROOTS = normal(3, N, N, seed=1)
WEIGHTS, MEANS = torch.tensor([0.2, 0.3, 0.5], dtype=F64), 0.7 * normal(3, N, seed=2)
COVARIANCES = 0.6 * ROOTS @ ROOTS.mT / N + 0.1 * torch.eye(N, dtype=F64)
A = normal(M, N, seed=3) / math.sqrt(M)
CHANNELS = {
    "Gaussian": lambda z: Gaussian(z, 0.4),
    "one-bit": lambda z: OneBit(z, 0.3, 0.1),
    "quantized": lambda z: Quantized(z, 0.3, bits=2, step=0.8),
}


def problem(channel):
    prior, operator = GaussianMixturePrior(WEIGHTS, MEANS, COVARIANCES), DenseOperator(A, dtype=F64)

    def model():
        pyro.sample("y", channel(operator(pyro.sample("x", prior))))

    return read_problem(model, {"y": simulate(model, seed=4)["y"]})


def by_scipy(name, p):
    """``w_k p(y | k)``: densities, or probabilities of boxes to 1e-5 or so."""
    y, found = p.y.numpy(), []
    for k in range(3):
        noise = 0.4 if name == "Gaussian" else 0.3
        law = multivariate_normal(
            (A @ MEANS[k]).numpy(),
            (A @ COVARIANCES[k] @ A.T).numpy() + noise**2 * np.eye(M),
            maxpts=500_000,
            abseps=1e-9,
            releps=1e-5,
            seed=np.random.default_rng(0),
        )
        if name == "Gaussian":
            found.append(law.pdf(y))
            continue
        if name == "one-bit":
            low, high = np.where(y > 0, 0.1, -np.inf), np.where(y > 0, np.inf, 0.1)
        else:
            low = np.where(y < -0.9, -np.inf, y - 0.4)
            high = np.where(y > 0.9, np.inf, y + 0.4)
        found.append(law.cdf(high, lower_limit=low))
    return WEIGHTS.numpy() * np.array(found)


@pytest.mark.parametrize("name", CHANNELS)
def test_against_scipy(name):
    p = problem(CHANNELS[name])
    if name == "quantized":
        assert set(p.y.abs().numpy().round(6)) <= {0.4, 1.2}
    joint = by_scipy(name, p)
    evidence, weights = log_evidence(p), component_weights(p)
    assert evidence.value == pytest.approx(math.log(joint.sum()), abs=4 * evidence.standard_error + 2e-4)
    difference = np.abs(weights.value.numpy() - joint / joint.sum())
    assert (difference < 4 * weights.standard_error.numpy() + 1e-4).all()
    assert float(weights.value.sum()) == pytest.approx(1)
    assert np.abs(joint / joint.sum() - WEIGHTS.numpy()).max() > 0.05  # the data do say something
    if name == "Gaussian":
        assert evidence.standard_error == 0 and not weights.standard_error.any()
    else:
        assert 0 < evidence.standard_error < 0.01


def test_standard_errors_are_the_spread_of_repetitions():
    """A hundred seeds: the spread of the estimates is known to 7 %, the tolerance is 4 times that."""
    p = problem(CHANNELS["one-bit"])
    evidences = [log_evidence(p, samples=300, seed=seed) for seed in range(100)]
    values, errors = np.array(evidences).T
    assert values.std() == pytest.approx(errors.mean(), rel=0.3)
    weights = [component_weights(p, samples=300, seed=seed) for seed in range(100)]
    spread = torch.stack([w.value for w in weights]).std(0)
    claimed = torch.stack([w.standard_error for w in weights]).mean(0)
    assert torch.allclose(spread, claimed, rtol=0.3)


def test_refusals():
    with pytest.raises(ModelError, match="Gaussian channel"):
        log_evidence(problem(lambda z: Poisson(z, peak=5.0, background=1.0)))

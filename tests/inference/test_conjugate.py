"""Exact conditionals of scales: the parameters that theory gives, and what is not conjugate left to NUTS."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import bayes_ir as bir
from bayes_ir.inference import BlockedGibbs, Exact, ModelError, read_joint
from bayes_ir.inference.gibbs.conjugate import ConjugateUpdate
from bayes_ir.inference.gibbs.nuisance import EnumeratedUpdate, NutsUpdate, updates_of
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit

F64 = torch.float64
N, M = 4, 9


def _normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


PRIOR = GaussianPrior(torch.zeros(N, dtype=F64), torch.eye(N, dtype=F64))
A = DenseOperator(_normal(M, N, seed=1), dtype=F64)
X, Y = _normal(N, seed=2), _normal(M, seed=3)
THREE, HALF = torch.tensor(3.0, dtype=F64), torch.tensor(0.5, dtype=F64)
RESIDUAL = Y - A(X)


def variance():
    v = pyro.sample("theta", dist.InverseGamma(THREE, HALF))
    pyro.sample("y", Gaussian(A(pyro.sample("x", PRIOR)), v.sqrt()))


def precision():
    v = pyro.sample("theta", dist.Gamma(THREE, HALF))
    pyro.sample("y", Gaussian(A(pyro.sample("x", PRIOR)), v.rsqrt()))


def masked_sensors():
    v = pyro.sample("theta", dist.InverseGamma(THREE, HALF))
    x = pyro.sample("x", PRIOR)
    with pyro.poutine.mask(mask=torch.arange(M) < 5):
        pyro.sample("y", Gaussian(A(x), v.sqrt()))
    pyro.sample("sharp", Gaussian(A(x), 0.1))
    pyro.sample("blunt", Gaussian(A(x), 2 * v.sqrt()))


def prior_scale():
    v = pyro.sample("theta", dist.InverseGamma(THREE, HALF))
    x = pyro.sample("x", GaussianPrior(torch.zeros(N, dtype=F64), v * torch.eye(N, dtype=F64)))
    pyro.sample("y", Gaussian(A(x), 0.1))


def offset():
    shift = pyro.sample("theta", dist.Normal(HALF, THREE))
    pyro.sample("y", Gaussian(A(pyro.sample("x", PRIOR)) + shift, 0.5))


def share():
    p = pyro.sample("theta", dist.Beta(THREE, HALF))
    label = pyro.sample("label", dist.Bernoulli(p))
    x = pyro.sample("x", PRIOR)
    pyro.sample("y", Gaussian(A(x), 0.1 + label))


def parameters(model, data, theta):
    return ConjugateUpdate(read_joint(model, data), "theta")._parameters(X, theta)


@pytest.mark.parametrize(
    ("model", "data", "expected"),
    [
        (variance, {"y": Y}, (M / 2, float(RESIDUAL @ RESIDUAL) / 2)),
        (precision, {"y": Y}, (M / 2, float(RESIDUAL @ RESIDUAL) / 2)),
        (
            masked_sensors,
            {"y": Y, "sharp": Y, "blunt": Y},
            ((5 + M) / 2, float(RESIDUAL[:5] @ RESIDUAL[:5]) / 2 + float(RESIDUAL @ RESIDUAL) / 8),
        ),
        (prior_scale, {"y": Y}, (N / 2, float(X @ X) / 2)),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
@pytest.mark.parametrize("at", [0.01, 0.3, 40.0])
def test_what_the_data_add_to_a_scale(model, data, expected, at):
    found = parameters(model, data, {"theta": torch.tensor(at, dtype=F64)})
    assert found == pytest.approx(expected, rel=1e-6)


def test_what_the_data_add_to_an_offset_and_a_share():
    found = parameters(offset, {"y": Y}, {"theta": HALF})
    assert found == pytest.approx((float(RESIDUAL.sum()) / 0.25, M / 0.25), rel=1e-6)
    theta = {"theta": torch.tensor(0.4, dtype=F64), "label": torch.tensor(1.0, dtype=F64)}
    assert parameters(share, {"y": Y}, theta) == pytest.approx((1, 0), abs=1e-9)


def test_draws_have_the_mean_and_variance_of_the_conditional():
    update = ConjugateUpdate(read_joint(variance, {"y": Y}), "theta")
    a, b = 3 + M / 2, 0.5 + float(RESIDUAL @ RESIDUAL) / 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = torch.stack([update(X, {"theta": HALF})[0]["theta"] for _ in range(2000)])
    sd = b / (a - 1) / math.sqrt(a - 2)
    assert abs(float(drawn.mean()) - b / (a - 1)) < 4 * sd / math.sqrt(2000)
    assert float(drawn.std()) == pytest.approx(sd, rel=0.12)  # kurtosis 15: standard error 4 %


def kinds(model, data, theta, conjugate=True):
    return [type(u) for u in updates_of(read_joint(model, data), X, theta, 10, 1, 5, conjugate)]


def test_what_is_not_conjugate_is_left_to_nuts():
    def deviation():  # the same prior, of the standard deviation
        v = pyro.sample("theta", dist.InverseGamma(THREE, HALF))
        pyro.sample("y", Gaussian(A(pyro.sample("x", PRIOR)), v))

    def signs():
        v = pyro.sample("theta", dist.InverseGamma(THREE, HALF))
        pyro.sample("y", OneBit(A(pyro.sample("x", PRIOR)), v.sqrt()))

    def gain_and_offset():
        g, o = (pyro.sample(name, dist.Normal(HALF, THREE)) for name in ("gain", "theta"))
        pyro.sample("y", Gaussian(g * A(pyro.sample("x", PRIOR)) + o, 0.5))

    def many():
        v = pyro.sample("theta", dist.InverseGamma(THREE, HALF).expand([M]).to_event(1))
        pyro.sample("y", Gaussian(A(pyro.sample("x", PRIOR)), v.sqrt()))

    one, nuts = {"theta": HALF}, [NutsUpdate]
    assert kinds(variance, {"y": Y}, one) == [ConjugateUpdate]
    assert kinds(variance, {"y": Y}, one, conjugate=False) == nuts
    assert kinds(deviation, {"y": Y}, one) == nuts
    assert kinds(signs, {"y": Y.sign()}, one) == nuts
    assert kinds(offset, {"y": Y}, one) == [ConjugateUpdate]
    assert kinds(gain_and_offset, {"y": Y}, one | {"gain": HALF}) == nuts
    assert kinds(many, {"y": Y}, {"theta": HALF.expand(M)}) == nuts
    assert kinds(share, {"y": Y}, one | {"label": HALF.round()}) == [EnumeratedUpdate, ConjugateUpdate]
    with pytest.raises(ModelError, match="not conjugate to the prior of 'theta', InverseGamma"):
        ConjugateUpdate(read_joint(deviation, {"y": Y}), "theta")(X, one)


def test_both_ways_have_one_posterior():
    """Mean of the variance by exact conditionals and by NUTS, within four standard errors."""
    y = bir.simulate(variance, seed=4)["y"]
    found = []
    for conjugate in (True, False):
        kernel = BlockedGibbs(image=Exact(), warmup=50, conjugate=conjugate)
        tree = bir.sample(variance, kernel, {"y": y}, draws=400, chains=2, seed=1, progress=False)
        found.append(tree["posterior"]["theta"].values)
        assert ("nuts_step_size" in tree["sample_stats"]) != conjugate
    from arviz_stats.base import array_stats

    mean = [v.mean() for v in found]
    errors = [v.std() / math.sqrt(array_stats.ess(v)) for v in found]
    assert abs(mean[0] - mean[1]) < 4 * math.hypot(*errors)

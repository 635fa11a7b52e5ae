"""What a Pyro model may be made of: several sensors, masks, powers, exposures; against exact posteriors."""

import pyro
import pytest
import torch
from pyro import poutine

import bayes_ir as bir
from bayes_ir.inference import Exact, GuidedDiffusion, exact_posterior, read_problem
from bayes_ir.inference.run import draw_block
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit, Poisson, Quantized, StackedChannel

F64 = torch.float64
N = 5


def _normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


ROOT = _normal(N, N, seed=1)
COVARIANCE = ROOT @ ROOT.T / N + 0.2 * torch.eye(N, dtype=F64)
PRIOR = GaussianPrior(_normal(N, seed=2), COVARIANCE)
A, B = (DenseOperator(_normal(m, N, seed=m) / m**0.5, dtype=F64) for m in (3, 4))
YA, YB = _normal(3, seed=5), _normal(4, seed=6)


def _posterior(matrix, y, variance):
    """Mean and covariance of ``x | y = A x + n``, ``n ~ N(0, diag(variance))``."""
    s = COVARIANCE
    gain = s @ matrix.T @ torch.linalg.inv(matrix @ s @ matrix.T + torch.diag(variance))
    return PRIOR.mean + gain @ (y - matrix @ PRIOR.mean), s - gain @ matrix @ s


def _check(problem, mean, covariance):
    law, _ = exact_posterior(problem)
    torch.testing.assert_close(law.means[0], mean)
    torch.testing.assert_close(law.covariance_matrix, covariance)


def test_two_gaussian_sensors_merge_exactly():
    def model():
        x = pyro.sample("x", PRIOR)
        pyro.sample("a", Gaussian(A(x), 0.3))
        pyro.sample("b", Gaussian(B(x), torch.tensor([0.1, 0.2, 0.5, 1.0], dtype=F64)))

    problem = read_problem(model, {"a": YA, "b": YB})
    assert isinstance(problem.channel, Gaussian)
    variance = torch.tensor([0.09] * 3 + [0.01, 0.04, 0.25, 1.0], dtype=F64)
    _check(problem, *_posterior(torch.cat([A.matrix, B.matrix]), torch.cat([YA, YB]), variance))


MASK = torch.tensor([True, False, True, True])


def _by_handler(x):
    with poutine.mask(mask=MASK):
        pyro.sample("b", Gaussian(B(x), 0.3))


def _by_distribution(x):
    pyro.sample("b", Gaussian(B(x), 0.3).mask(MASK))


def _within_an_event(x):
    pyro.sample("b", Gaussian(B(x), 0.3).mask(MASK).to_event(1))


def _in_two_steps(x):
    with poutine.mask(mask=torch.tensor([True, False, True, True])):
        pyro.sample("b", Gaussian(B(x), 0.3).mask(MASK | torch.tensor([False, True, False, False])))


@pytest.mark.parametrize("measure", [_by_handler, _by_distribution, _within_an_event, _in_two_steps])
def test_masked_measurements_are_left_out(measure):
    mask = MASK

    def model():
        measure(pyro.sample("x", PRIOR))

    y = YB.clone()
    y[1] = torch.nan  # what was never measured may be anything
    problem = read_problem(model, {"b": y})
    _check(problem, *_posterior(B.matrix[mask], YB[mask], torch.full((3,), 0.09, dtype=F64)))
    log_likelihood = draw_block(problem, Exact(), 0, 0, 0, 2, seed=0).log_likelihood["b"]
    assert log_likelihood.shape == (2, 4) and (log_likelihood[:, 1] == 0).all()


@pytest.mark.parametrize("scale", [0.25, torch.tensor([0.25, 1.0, 2.0, 4.0])])
def test_a_tempered_gaussian_has_more_noise(scale):
    def model():
        x = pyro.sample("x", PRIOR)
        with poutine.scale(scale=scale):
            pyro.sample("b", Gaussian(B(x), 0.3))

    variance = (0.09 / torch.as_tensor(scale, dtype=F64)).expand(4)
    _check(read_problem(model, {"b": YB}), *_posterior(B.matrix, YB, variance))


def test_exposures_of_one_image_count_as_often():
    exposures = YB + 0.3 * _normal(6, 4, seed=7)

    def model():
        x = pyro.sample("x", PRIOR)
        with pyro.plate("exposures", 6):
            pyro.sample("b", Gaussian(B(x), 0.3).to_event(1))

    problem = read_problem(model, {"b": exposures})
    _check(problem, *_posterior(B.matrix, exposures.mean(0), torch.full((4,), 0.09 / 6, dtype=F64)))
    assert draw_block(problem, Exact(), 0, 0, 0, 2, seed=0).log_likelihood["b"].shape == (2, 6, 4)


def test_signs_beside_full_precision_against_importance_sampling():
    """20,000 draws against the Gaussian posterior reweighted by the signs, within four standard errors of both.

    On a Gaussian prior the only approximation is that of EP, which is far below these errors here.
    """

    def model():
        x = pyro.sample("x", PRIOR)
        pyro.sample("b", Gaussian(B(x), 0.3))
        pyro.sample("bits", OneBit(A(x), 0.2))

    made = bir.simulate(model, seed=3)
    y, signs = made["b"], made["bits"]
    problem = read_problem(model, {"b": y, "bits": signs})
    assert isinstance(problem.channel, StackedChannel)
    mean, covariance = _posterior(B.matrix, y, torch.full((4,), 0.09, dtype=F64))
    x = mean + _normal(200_000, N, seed=8) @ torch.linalg.cholesky(covariance).T
    weights = torch.special.log_ndtr(signs * (x @ A.matrix.T) / 0.2).sum(1).softmax(0)
    truth = weights @ x
    sd = (weights @ (x - truth).square()).sqrt()
    draws = draw_block(problem, GuidedDiffusion(steps=32), 0, 0, 0, 20_000, seed=0).draws
    tolerance = 4 / 20_000**0.5 + 4 * float(weights.square().sum().sqrt())
    assert ((draws.mean(0) - truth) / sd).abs().max() < tolerance
    assert ((draws.std(0) / sd) - 1).abs().max() < tolerance


def test_a_stacked_channel_is_its_parts():
    z, y = _normal(2, 6, seed=9), torch.tensor([1.0, -1.0, 0.75, -0.25, 3.0, 0.0], dtype=F64)
    parts = [
        OneBit(z[:, :2], 0.3),
        Quantized(z[:, 2:4], 0.2, bits=3, step=0.5),
        Poisson(z[:, 4:], peak=5.0, background=1.0),
    ]
    stacked = StackedChannel(parts).with_location(z)
    torch.testing.assert_close(
        stacked.log_prob(y),
        torch.cat([p.log_prob(y[2 * k : 2 * k + 2]) for k, p in enumerate(parts)], dim=-1),
    )
    m, v = _normal(3, 6, seed=10), _normal(3, 6, seed=11).square()
    found = stacked.tilt(y, m, v)
    for k, part in enumerate(parts):
        here = slice(2 * k, 2 * k + 2)
        for got, expected in zip(found, part.tilt(y[here], m[:, here], v[:, here]), strict=True):
            torch.testing.assert_close(got[:, here], expected)
    assert stacked.largest_curvature(y).shape == stacked.scale(y).shape == (6,)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert stacked.sample((7,)).shape == (7, 2, 6)


def test_sample_of_two_sites_in_a_plate_has_both_under_their_names():
    def model():
        with pyro.plate("images", 3):
            x = pyro.sample("x", PRIOR)
            pyro.sample("b", Gaussian(B(x), 0.3).to_event(1))
            pyro.sample("bits", OneBit(A(x), 0.2).to_event(1))

    truth = bir.simulate(model, seed=1)
    tree = bir.sample(
        model,
        GuidedDiffusion(steps=8),
        {"b": truth["b"], "bits": truth["bits"]},
        draws=4,
        chains=2,
        progress=False,
    )
    assert tree["posterior"]["x"].dims == ("chain", "draw", "images", "x_dim_0")
    assert tree["log_likelihood"]["bits"].shape == (2, 4, 3, 3)
    assert tree["observed_data"]["b"].dims == ("images", "b_dim_0")
    assert bir.analysis.summary(tree, truth["x"]) is not None

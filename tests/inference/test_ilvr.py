"""ILVR: a refined step against the algorithm box, what is refined and for how long, its known bias."""

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import Exact, ModelError, read_problem
from bayes_ir.inference.kernels.ilvr import ILVR
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.models import BlockAverage, DenseOperator, Gaussian, GaussianPrior, Mask, OneBit, Operator

F64 = torch.float64
N, NOISE = 5, 0.2
SEEN = torch.tensor([True, False, True, False, True])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def problem(operator: Operator, noise=NOISE, correlation=0.8, channel=Gaussian, y=None):
    """An autoregressive Gaussian prior of unit variance, white for ``correlation=0``."""
    i = torch.arange(operator.event_shape.numel())
    covariance = torch.tensor(correlation, dtype=F64) ** (i[:, None] - i).abs()
    mean = normal(*operator.event_shape, seed=2)
    prior = GaussianPrior(mean, covariance, event_shape=operator.event_shape)

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior)), noise))

    away = torch.linspace(-1, 1, operator.measurement_shape.numel(), dtype=F64)
    y = operator(mean) + away.reshape(operator.measurement_shape) if y is None else y
    return read_problem(model, {"y": y})


def errors(p, kernel, draws=3000):
    """Largest error of the means, in exact standard deviations, and the ratios of the standard deviations."""
    exact = draw_block(p, Exact(), 0, 0, 0, 20_000, seed=9).draws
    found = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws
    return ((found.mean(0) - exact.mean(0)) / exact.std(0)).abs().max(), found.std(0) / exact.std(0)


def at(kernel, p, k, draws=4):
    """A state before step k."""
    state = kernel.init(p, Rng(0, draws=draws, dtype=F64))
    for _ in range(k):
        state = state.moved(state.x)
    return state


def test_one_step_is_the_algorithm_box():
    p, kernel = problem(Mask(SEEN, dtype=F64)), ILVR(steps=50)
    state = at(kernel, p, 30)
    now, then = ((float(level.a), float(level.b)) for level in state.levels)
    x0_hat = p.prior.with_diffusion(kernel.process(p.prior)).denoise(state.x, state.levels[0].t).numpy()
    moved, info = kernel.step(p, state, Rng(7, draws=4, dtype=F64))
    assert torch.equal(info["nfe"], torch.ones(4, dtype=torch.int64))
    rng = Rng(7, draws=4, dtype=F64)
    z, noise_of_y = rng.normal(N).numpy(), rng.normal(3).numpy()

    alpha = now[0] / then[0]
    beta2 = now[1] ** 2 - alpha**2 * then[1] ** 2
    mean = (alpha * then[1] ** 2 * state.x.numpy() + then[0] * beta2 * x0_hat) / now[1] ** 2
    wanted = mean + np.sqrt(beta2) * then[1] / now[1] * z
    a, b = then  # the level t-1 that the step leads to
    assert b > a * NOISE
    y_t = a * p.y.numpy() + np.sqrt(b**2 - a**2 * NOISE**2) * noise_of_y
    a_matrix = np.eye(N)[SEEN.numpy()]
    phi = np.linalg.pinv(a_matrix) @ a_matrix
    wanted = wanted - wanted @ phi.T + y_t @ np.linalg.pinv(a_matrix).T
    np.testing.assert_allclose(moved.x.numpy(), wanted, rtol=1e-9, atol=1e-9)


def test_the_last_steps_are_left_to_the_prior():
    operator = Mask(SEEN, dtype=F64)
    one, other = (problem(operator, y=y) for y in (torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64)))
    kernel = ILVR(steps=10, free_fraction=0.3)
    for k in range(10):
        moved = [kernel.step(p, at(kernel, p, k), Rng(7, draws=4, dtype=F64))[0].x for p in (one, other)]
        sees_y = not torch.equal(*moved)
        assert sees_y == (k < 7)


def test_draws_average_to_the_reference_over_blocks():
    """Down-sampling, with data finer than the lowest noise level: the residuals have the noise of the data."""
    noise, draws = 1e-3, 200
    operator = BlockAverage((1, 4, 4), 2, dtype=F64)
    p = problem(operator, noise)
    found = draw_block(p, ILVR(steps=30), 0, 0, 0, draws, seed=1).draws
    residual = (operator(found) - p.y) / noise
    assert abs(residual.std() - 1) < 4 / np.sqrt(2 * 4 * draws)


@pytest.mark.parametrize("noise", [0.3, 1e-3])
def test_exact_for_a_white_prior(noise):
    """Nothing to see for the unrefined part: Monte Carlo, and 4 % for 200 steps, are all that is left."""
    mean, spread = errors(problem(Mask(SEEN, dtype=F64), noise, correlation=0.0), ILVR(steps=200))
    assert mean < 4 * np.sqrt(1 / 3000 + 1 / 20_000) + 0.01
    assert (spread - 1).abs().max() < 4 / np.sqrt(2 * 3000) + 0.04


def test_known_bias_for_a_correlated_prior():
    """The unseen half sees too little of the data: up to 0.6 of a standard deviation off, and too wide, not more."""
    mean, spread = errors(problem(Mask(SEEN, dtype=F64), 0.05), ILVR(steps=200))
    assert 0.1 < mean < 0.7
    assert spread.max() < 1.3


def test_a_draw_does_not_depend_on_its_neighbours():
    p, kernel = problem(DenseOperator(normal(3, N, seed=3))), ILVR(steps=20)
    rngs = [Rng(0, draws=3, dtype=F64) for _ in range(2)]
    plain, pushed = (kernel.init(p, rng) for rng in rngs)
    pushed.x[0] += 1e3
    while not plain.done:
        (plain, _), (pushed, _) = kernel.step(p, plain, rngs[0]), kernel.step(p, pushed, rngs[1])
    torch.testing.assert_close(pushed.x[1:], plain.x[1:], rtol=1e-9, atol=1e-9)


def test_refusals_and_repr():
    assert eval(repr(ILVR(free_fraction=0.2))) == ILVR(free_fraction=0.2)
    with pytest.raises(ModelError, match="ILVR needs a Gaussian channel; site 'y' has OneBit"):
        ILVR().check(problem(Mask(SEEN, dtype=F64), channel=OneBit, y=torch.ones(3, dtype=F64)))
    for wrong in ({"steps": 1}, {"free_fraction": 1.0}, {"free_fraction": -0.1}):
        with pytest.raises(ValueError, match="expected steps >= 2 and 0 <= free_fraction < 1"):
            ILVR(**wrong)

"""A batch whose rows belong to different data sets: every row is what it would be alone."""

import gc
import weakref
from dataclasses import replace

import pyro
import pytest
import torch
from test_kernel_registry import SHORT

from bayes_ir.inference import DPS, Calibrated, Exact, GuidedDiffusion, ModelError, predictive, read_problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.models import (
    DenseOperator,
    Gaussian,
    GaussianMixturePrior,
    GaussianPrior,
    NonlinearBlur,
    OneBit,
    Poisson,
    Quantized,
    gaussian_kernel,
)

F64 = torch.float64
P, N, M = 3, 6, 3


def _normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def _prior():
    root = _normal(2, N, N, seed=1)
    return GaussianMixturePrior(
        torch.tensor([0.4, 0.6], dtype=F64),
        _normal(2, N, seed=2),
        root @ root.mT / N + 0.2 * torch.eye(N, dtype=F64),
    )


A = DenseOperator(_normal(M, N, seed=3) / M**0.5, dtype=F64)
CHANNELS = {
    "Gaussian": (lambda z: Gaussian(z, 0.3), _normal(P, M, seed=4)),
    "OneBit": (lambda z: OneBit(z, 0.3), _normal(P, M, seed=5).sign()),
    "Quantized": (
        lambda z: Quantized(z, 0.3, bits=2, step=0.5),
        0.5 * _normal(P, M, seed=6).sign() + 0.25,
    ),
}


def plate_problem(channel, y, prior=None, operator=A):
    def model():
        with pyro.plate("images", P):
            x = pyro.sample("x", prior or _prior())
            pyro.sample("y", channel(operator(x)).to_event(len(operator.measurement_shape)))

    return read_problem(model, {"y": y})


class _Row(Rng):
    """The random numbers of one row of a larger batch."""

    row: int

    def normal(self, *shape):
        return super().normal(*shape)[self.row : self.row + 1]

    def uniform(self, *shape):
        return super().uniform(*shape)[self.row : self.row + 1]


def _last(kernel, problem, rng):
    state = kernel.init(problem, rng)
    while not state.done:
        state, _ = kernel.step(problem, state, rng)
    return state.x


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("name", [n for n, k in SHORT.items() if k.one_batch])
@torch.no_grad()
def test_every_row_is_what_it_would_be_alone(name, channel):
    kernel, problem = SHORT[name], plate_problem(*CHANNELS[channel])
    try:
        kernel.check(problem.data_set(0))
    except ModelError:
        pytest.skip(f"{name} does not serve {channel}")
    together = _last(kernel, problem.rows(1), Rng(0, draws=P, dtype=F64))
    for i in range(P):
        rng = _Row(0, draws=P, dtype=F64)
        rng.row = i
        alone = _last(kernel, problem.data_set(i), rng)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-7, atol=1e-7)


def test_a_block_of_a_plate_has_an_axis_for_it():
    problem = plate_problem(*CHANNELS["OneBit"])
    block = draw_block(problem, GuidedDiffusion(steps=6), 0, 0, 0, 5, seed=0)
    assert block.draws.shape == (5, P, N)
    assert block.log_likelihood["y"].shape == (5, P, M)
    assert block.stats["nfe"].shape == (5, P) and (block.stats["nfe"] == 6).all()
    again = problem.log_likelihood(block.draws.to(F64))
    torch.testing.assert_close(block.log_likelihood["y"], again)


def test_images_of_a_plate_get_their_own_posteriors():
    """Means of 4,000 draws within five Monte Carlo standard errors of each image's exact one."""
    covariance = torch.eye(N, dtype=F64) * 0.5
    prior = GaussianPrior(_normal(N, seed=2), covariance)
    problem = plate_problem(*CHANNELS["Gaussian"], prior=prior)
    gain = (
        covariance @ A.matrix.T @ torch.linalg.inv(A.matrix @ covariance @ A.matrix.T + 0.09 * torch.eye(M))
    )
    for kernel in (Exact(), GuidedDiffusion(steps=16)):
        draws = draw_block(problem, kernel, 0, 0, 0, 4000, seed=1).draws
        for i in range(P):
            mean = prior.mean + gain @ (problem.y[i] - A(prior.mean))
            error = (draws[:, i].mean(0) - mean).abs() / (draws[:, i].std(0) / 4000**0.5)
            assert error.max() < 5, (kernel, i)


def test_exact_draws_of_a_plate_are_those_of_its_images():
    problem = plate_problem(*CHANNELS["Quantized"])
    block = draw_block(problem, Exact(), 1, 2, 0, 4, seed=3)
    for i in range(P):
        rng = Rng(3, 1, 2, i + 1, draws=4, dtype=F64)
        torch.testing.assert_close(block.draws[:, i], _last(Exact(), problem.data_set(i), rng))


@pytest.mark.parametrize(
    ("channel", "y"),
    [
        (lambda z: Poisson(z, peak=20.0, background=2.0), torch.tensor([[3.0, 9, 1], [20, 4, 2], [0, 0, 7]])),
        (
            lambda z: Gaussian(z, torch.tensor([[0.1], [0.4], [1.0]], dtype=F64)),
            CHANNELS["Gaussian"][1],
        ),
    ],
    ids=["Poisson", "noise of each image"],
)
def test_noise_that_differs_between_images_is_kept(channel, y):
    problem = plate_problem(channel, y)
    assert not problem.one_batch
    block = draw_block(problem, GuidedDiffusion(steps=6), 0, 0, 0, 2, seed=0)
    for i in range(P):
        alone = problem.data_set(i)
        torch.testing.assert_close(
            alone.log_likelihood(block.draws[:, i].to(F64)), block.log_likelihood["y"][:, i]
        )
    assert float(problem.data_set(2).channel.scale(y[2]).max()) != float(
        problem.data_set(0).channel.scale(y[0]).max()
    )


def test_operators_that_are_not_linear_take_a_plate():
    shape = (1, 6, 6)
    blur = NonlinearBlur(gaussian_kernel(3, 1.0), shape)
    prior = GaussianPrior(torch.zeros(shape), 0.1 * torch.eye(36), event_shape=shape)
    y = torch.rand(P, *blur.measurement_shape, generator=torch.Generator().manual_seed(0))
    problem = plate_problem(lambda z: Gaussian(z, 0.1), y, prior, blur)
    for kernel in (DPS(steps=4), GuidedDiffusion(steps=4)):
        assert draw_block(problem, kernel, 0, 0, 0, 2, seed=0).draws.shape == (2, P, *shape)


CALIBRATED = GuidedDiffusion(denoising_posterior=Calibrated(), steps=6)


def _one_problem(sigma, y, operator):
    def model():
        pyro.sample("y", OneBit(operator(pyro.sample("x", _PRIOR)), sigma))

    return read_problem(model, {"y": y})


_PRIOR = _prior()


def test_other_data_share_what_is_known_of_the_operator_and_nothing_else():
    first, second = CHANNELS["OneBit"][1][:2]
    warm = _one_problem(0.3, first, A)
    CALIBRATED.check(warm)
    draw_block(warm, CALIBRATED, 0, 0, 0, 2, seed=0)
    fresh = _one_problem(0.3, second, DenseOperator(A.matrix.clone(), dtype=F64))
    for again in (warm.with_data(second), _one_problem(0.3, second, A)):
        assert again.system.cache is warm.system.cache
        got, expected = (draw_block(p, CALIBRATED, 0, 0, 0, 3, seed=1).draws for p in (again, fresh))
        torch.testing.assert_close(got, expected)


def test_another_noise_or_gain_of_the_same_operator_shares_its_decompositions():
    y = CHANNELS["OneBit"][1][0]
    warm = _one_problem(0.3, y, A)
    draw_block(warm, CALIBRATED, 0, 0, 0, 2, seed=0)
    known = len(warm.system.cache)
    for sigma, gain in ((0.8, 1.0), (0.3, -2.5)):
        operator = A if gain == 1 else gain * A
        again = _one_problem(sigma, y, operator)
        fresh = _one_problem(sigma, y, DenseOperator(gain * A.matrix, dtype=F64))
        got, expected = (draw_block(p, CALIBRATED, 0, 0, 0, 3, seed=1).draws for p in (again, fresh))
        torch.testing.assert_close(got, expected)
        assert again.system.cache is warm.system.cache and len(warm.system.cache) == known


def test_priors_of_one_operator_are_told_apart():
    y = CHANNELS["OneBit"][1][0]
    draw_block(_one_problem(0.3, y, A), CALIBRATED, 0, 0, 0, 2, seed=0)
    other = GaussianPrior(torch.zeros(N, dtype=F64), 2 * torch.eye(N, dtype=F64))

    def model(operator):
        pyro.sample("y", OneBit(operator(pyro.sample("x", other)), 0.3))

    got, expected = (
        draw_block(read_problem(model, {"y": y}, (operator,)), CALIBRATED, 0, 0, 0, 3, seed=1).draws
        for operator in (A, DenseOperator(A.matrix.clone(), dtype=F64))
    )
    torch.testing.assert_close(got, expected)


def test_levels_of_an_earlier_run_make_way_when_there_is_no_room(monkeypatch):
    """Room for ten levels: those of the second run are kept, and nothing changes but the time."""
    monkeypatch.setattr(predictive, "_LARGEST_CACHE", 11 * M**2)
    y, operator = CHANNELS["OneBit"][1][0], DenseOperator(A.matrix.clone(), dtype=F64)
    kernels = [replace(CALIBRATED, steps=steps) for steps in (6, 9, 20)]
    for kernel in kernels:
        problem = _one_problem(0.3, y, operator)
        got, again = (draw_block(problem, kernel, 0, 0, 0, 3, seed=1).draws for _ in range(2))
        fresh = _one_problem(0.3, y, DenseOperator(A.matrix.clone(), dtype=F64))
        torch.testing.assert_close(got, draw_block(fresh, kernel, 0, 0, 0, 3, seed=1).draws)
        torch.testing.assert_close(got, again)
        kept = set(problem.system.cache) - {"rows"}
        assert len(kept) <= 10 and len(kept & problem.system.asked) == min(len(problem.system.asked), 10)


def test_an_operator_is_forgotten_when_nobody_has_it():
    operator = DenseOperator(A.matrix.clone(), dtype=F64)
    draw_block(_one_problem(0.3, CHANNELS["OneBit"][1][0], operator), CALIBRATED, 0, 0, 0, 2, seed=0)
    seen = weakref.ref(operator)
    del operator
    gc.collect()
    assert seen() is None

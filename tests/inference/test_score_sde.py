"""ScoreSDE: predictor and corrector steps with data put back, the level they are put at, its known bias."""

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import Ancestral, Exact, ModelError, read_problem
from bayes_ir.inference.kernels.repaint import RePaint
from bayes_ir.inference.kernels.score_sde import ScoreSDE
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.inference.samplers.predictor_corrector import PredictorCorrector
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, Mask, OneBit, Operator, SingleCoilMRI

F64 = torch.float64
N, M, NOISE = 5, 3, 0.2
SEEN = torch.tensor([True, False, True, False, True])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def mask() -> Mask:
    return Mask(SEEN, dtype=F64)


def dense() -> DenseOperator:
    return DenseOperator(normal(M, N, seed=3))


def problem(operator: Operator, noise=NOISE, correlation=0.8, channel=Gaussian, y=None):
    """An autoregressive Gaussian prior of unit variance, white for ``correlation=0``."""
    i = torch.arange(operator.event_shape.numel())
    covariance = torch.tensor(correlation, dtype=F64) ** (i[:, None] - i).abs()
    prior = GaussianPrior(normal(len(i), seed=2).reshape(operator.event_shape), covariance)

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior)), noise))

    away = torch.linspace(-1, 1, operator.measurement_shape.numel(), dtype=F64)
    y = operator(prior.mean) + away.reshape(operator.measurement_shape) if y is None else y
    return read_problem(model, {"y": y})


@pytest.mark.parametrize("grid", ["geometric", "uniform"])
@pytest.mark.parametrize("diffuse", [True, False])
@pytest.mark.parametrize("predicts", [True, False])
def test_known_pixels_are_the_data_at_the_level_of_the_state(grid, diffuse, predicts):
    """Both sub-steps: the move of the sampler where nothing was measured, data of the right mean and sd elsewhere."""
    sampler, draws = PredictorCorrector(steps=40, grid=grid), 20_000
    p, kernel = problem(mask()), ScoreSDE(sampler=sampler, diffuse_data=diffuse)
    state = kernel.init(p, Rng(0, draws=draws, dtype=F64))
    for _ in range(25 if predicts else 24):
        state = state.moved(state.x)
    now, then = state.levels
    assert (then.t < now.t) == predicts
    x_t, (a, b) = state.x.numpy(), (float(then.a), float(then.b))
    assert b > a * NOISE
    x0_hat = p.prior.with_diffusion(kernel.process(p.prior)).denoise(state.x, now.t).numpy()
    z = Rng(7, draws=draws, dtype=F64).normal(N).numpy()
    moved, info = kernel.step(p, state, Rng(7, draws=draws, dtype=F64))
    assert torch.equal(info["nfe"], torch.ones(draws, dtype=torch.int64))

    score = (float(now.a) * x0_hat - x_t) / float(now.b) ** 2
    if predicts:  # Song et al., appendix E: x_{i-1} = (2 - alpha) x_i + beta^2 s + beta z
        alpha = float(now.a) / a
        beta2 = float(now.b) ** 2 - alpha**2 * b**2
        wanted = (2 - alpha) * x_t + beta2 * score + np.sqrt(beta2) * z
    else:
        e = 2 * 0.16**2 * b**2
        wanted = x_t + e * score + np.sqrt(2 * e) * z
    unseen, found = ~SEEN.numpy(), moved.x.numpy()
    np.testing.assert_allclose(found[:, unseen], wanted[:, unseen], rtol=1e-9, atol=1e-9)
    known, y = found[:, SEEN.numpy()], p.y.numpy()
    sd = np.sqrt(b**2 - a**2 * NOISE**2) if diffuse else 0.0
    assert np.abs(known.mean(0) - a * y).max() <= 4 * sd / np.sqrt(draws) + 1e-12
    assert np.abs(known.std(0) - sd).max() <= 4 * sd / np.sqrt(2 * draws) + 1e-12


def test_ancestral_steps_are_plain_replacement():
    p = problem(dense())
    one, other = (
        draw_block(p, kernel, 0, 0, 0, 4, seed=1).draws
        for kernel in (ScoreSDE(sampler=Ancestral(steps=30)), RePaint(steps=30, jump_samples=1))
    )
    assert torch.equal(one, other)


def test_k_space_is_that_of_the_data():
    """Magnetic resonance imaging, real and complex: sampled points carry the noise of the data and no more."""
    noise, draws = 1e-3, 50
    for channels in (1, 2):
        p = problem(SingleCoilMRI(torch.eye(4, dtype=torch.bool), (channels, 4, 4), dtype=F64), noise)
        seen = p.operator.svd.rank
        sampler = PredictorCorrector(steps=20, grid="uniform")
        found = draw_block(p, ScoreSDE(sampler=sampler, diffuse_data=False), 0, 0, 0, draws, seed=1).draws
        y_hat = p.operator.forward(p.operator.pinv(p.y))  # the part of y that an image can have
        residual = (p.operator(found) - y_hat).flatten(1).norm(dim=1) / noise
        assert abs(residual.square().mean() / seen - 1) < 4 * np.sqrt(2 / (seen * draws))


def errors(p, kernel, draws=2000):
    """Largest error of the means, in exact standard deviations, and the ratios of the standard deviations."""
    exact = draw_block(p, Exact(), 0, 0, 0, 20_000, seed=9).draws
    found = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws
    return ((found.mean(0) - exact.mean(0)) / exact.std(0)).abs().max(), found.std(0) / exact.std(0)


@pytest.mark.parametrize("diffuse", [True, False])
def test_exact_for_a_white_prior(diffuse):
    """Correctors do not make the path forget data that are noisier than the level."""
    sampler = PredictorCorrector(steps=200, grid="geometric", corrector_steps=2)
    p = problem(mask(), 0.5, correlation=0.0)
    mean, spread = errors(p, ScoreSDE(sampler=sampler, diffuse_data=diffuse))
    assert mean < 4 * np.sqrt(1 / 2000 + 1 / 20_000) + 0.02
    assert (spread - 1).abs().max() < 4 / np.sqrt(2 * 2000) + 0.04  # 4 % for the steps


def test_correctors_mend_part_of_the_bias_of_replacement():
    """The worst mean is 1.01 standard deviations off with one corrector step a level, 0.56 with ten."""
    p, draws = problem(dense()), 1000
    one, ten = (
        errors(
            p, ScoreSDE(sampler=PredictorCorrector(steps=40, corrector_steps=k, signal_to_noise=0.3)), draws
        )
        for k in (1, 10)
    )
    assert abs(one[0] - 1.01) < 4 / np.sqrt(draws) and ten[0] < 0.56 + 4 / np.sqrt(draws)
    assert ten[1].max() < one[1].max() < 1.5


def test_a_draw_does_not_depend_on_its_neighbours():
    p, kernel = problem(dense()), ScoreSDE(sampler=PredictorCorrector(steps=10))
    rngs = [Rng(0, draws=3, dtype=F64) for _ in range(2)]
    plain, pushed = (kernel.init(p, rng) for rng in rngs)
    pushed.x[0] += 1e3
    while not plain.done:
        (plain, _), (pushed, _) = kernel.step(p, plain, rngs[0]), kernel.step(p, pushed, rngs[1])
    torch.testing.assert_close(pushed.x[1:], plain.x[1:], rtol=1e-9, atol=1e-9)


def test_refusals_and_repr():
    kernel = ScoreSDE(diffuse_data=False)
    assert eval(repr(kernel)) == kernel
    with pytest.raises(ModelError, match="ScoreSDE needs a Gaussian channel; site 'y' has OneBit"):
        kernel.check(problem(mask(), channel=OneBit, y=torch.ones(M, dtype=F64)))

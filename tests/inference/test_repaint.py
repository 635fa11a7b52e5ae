"""RePaint: replaced data and their level, the schedule of jumps, what the jumps repair, what is refused."""

from itertools import pairwise

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import Exact, ModelError, read_problem
from bayes_ir.inference.kernels._replacement import known_part
from bayes_ir.inference.kernels.ilvr import ILVR
from bayes_ir.inference.kernels.repaint import RePaint
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.inference.samplers import Level
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, LinearOperator, Mask, OneBit, Operator

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
    prior = GaussianPrior(normal(len(i), seed=2), covariance)

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior)), noise))

    y = operator(prior.mean) + torch.linspace(-1, 1, M, dtype=F64) if y is None else y
    return read_problem(model, {"y": y})


def level(t: float, a: float, b: float) -> Level:
    return Level(*(torch.tensor(v, dtype=F64) for v in (t, a, b)))


def replaced(p, before, now, then, draws):
    """``A x`` of many replacements after a move from one state to one other."""
    one, other = normal(N, seed=11).expand(draws, N), before.expand(draws, N)
    x = known_part(p).replace(one, other, now, then, Rng(5, draws=draws, dtype=F64))
    unseen = torch.eye(N, dtype=F64) - torch.linalg.pinv(p.operator.to_matrix()) @ p.operator.to_matrix()
    torch.testing.assert_close(x @ unseen.T, one @ unseen.T)
    return p.operator(x), p.operator(one[0])


@pytest.mark.parametrize("noise", [1e-7, 0.1])
@pytest.mark.parametrize("operator", [mask, dense])
def test_replaced_data_have_the_level_they_join(operator, noise):
    """``A x_t`` has mean ``a y`` and covariance ``b^2 A A^T - a^2 sigma^2 I``, b^2 A A^T for exact data."""
    p, a, b, draws = problem(operator(), noise), 0.8, 0.6, 40_000
    seen, _ = replaced(p, torch.zeros(N, dtype=F64), level(9, 0.6, 0.8), level(8, a, b), draws)
    matrix = p.operator.to_matrix().numpy()
    covariance = b**2 * matrix @ matrix.T - (a * noise) ** 2 * np.eye(M)
    sd = np.sqrt(np.diag(covariance))
    seen, y = seen.numpy(), p.y.numpy()
    assert (np.abs(seen.mean(0) - a * y) / sd).max() < 4 / np.sqrt(draws)
    # the standard error of an entry of a covariance is at most sqrt(2 / draws) of the two standard deviations
    assert (np.abs(np.cov(seen.T) - covariance) / np.outer(sd, sd)).max() < 4 * np.sqrt(2 / draws)


def test_data_noisier_than_the_level_are_no_longer_put_in():
    """Going down the state is the prior's; going up it is a bridge from the state to the datum; level, it stays."""
    sigma, draws = 0.5, 40_000
    p, before = problem(mask(), sigma), normal(N, seed=12)
    low, high = level(1, 0.98, 0.2), level(2, 0.9, 0.4)
    seen, own = replaced(p, before, high, low, 3)
    torch.testing.assert_close(seen, own.expand(3, M))
    kept, _ = replaced(p, before, high, high, 3)
    torch.testing.assert_close(kept, p.operator(before).expand(3, M))

    up, _ = replaced(p, before, low, high, draws)
    # precisions: v' is v plus noise of variance r'^2 - r^2, and the datum is v' plus noise of variance sigma^2 - r'^2
    one, other = float(high.ratio**2 - low.ratio**2), sigma**2 - float(high.ratio**2)
    variance = 1 / (1 / one + 1 / other)
    mean = variance * (p.operator(before) / low.a / one + p.y / other)
    assert ((up.mean(0) / high.a - mean) / variance**0.5).abs().max() < 4 / np.sqrt(draws)
    assert (up.var(0) / high.a**2 / variance - 1).abs().max() < 4 * np.sqrt(2 / draws)


def test_the_clean_image_takes_data_finer_than_the_lowest_level():
    clean, lowest = level(0, 1.0, 0.0), level(1, 1.0, 0.1)
    p, draws = problem(mask(), 0.05), 40_000
    fine, _ = replaced(p, torch.zeros(N, dtype=F64), lowest, clean, draws)
    assert ((fine.mean(0) - p.y) / 0.05).abs().max() < 4 / np.sqrt(draws)
    assert (fine.std(0) / 0.05 - 1).abs().max() < 4 / np.sqrt(2 * draws)
    coarse, own = replaced(problem(mask(), 0.2), torch.zeros(N, dtype=F64), lowest, clean, 3)
    torch.testing.assert_close(coarse, own.expand(3, M))


def test_schedule_of_the_paper():
    """250 levels, jumps of 10 walked 10 times: 2410 moves down, 2160 up."""
    p = problem(mask())
    path = RePaint().init(p, Rng(0, draws=1, dtype=F64)).schedule
    up = sum(bool(then.ratio > now.ratio) for now, then in pairwise(path))
    assert (len(path) - 1 - up, up) == (2410, 2160) and RePaint().length(p) == 4570


def test_one_move_down_and_one_up_are_the_algorithm():
    p, kernel = problem(mask()), RePaint(steps=40, jump_length=3, jump_samples=2)
    state = kernel.init(p, Rng(0, draws=4, dtype=F64))
    path = [float(one.ratio) for one in state.schedule]
    up = next(k for k in range(8, len(path)) if path[k + 1] > path[k])
    seen = SEEN.numpy()
    for k, network in ((up - 1, 1), (up, 0)):
        at = state
        for _ in range(k):
            at = at.moved(at.x)
        now, then = ((float(one.a), float(one.b)) for one in at.levels)
        x0_hat = p.prior.with_diffusion(kernel.process(p.prior)).denoise(at.x, at.levels[0].t).numpy()
        moved, info = kernel.step(p, at, Rng(7, draws=4, dtype=F64))
        assert info["nfe"].tolist() == [network] * 4
        rng = Rng(7, draws=4, dtype=F64)
        z, eps = rng.normal(N).numpy(), rng.normal(M).numpy()
        if network:
            alpha = now[0] / then[0]
            beta2 = now[1] ** 2 - alpha**2 * then[1] ** 2
            mean = (alpha * then[1] ** 2 * at.x.numpy() + then[0] * beta2 * x0_hat) / now[1] ** 2
            wanted = mean + np.sqrt(beta2) * then[1] / now[1] * z
        else:
            alpha = then[0] / now[0]
            wanted = alpha * at.x.numpy() + np.sqrt(then[1] ** 2 - alpha**2 * now[1] ** 2) * z
        a, b = then  # the level of the state that is made
        assert b > a * NOISE
        wanted[:, seen] = a * p.y.numpy() + np.sqrt(b**2 - a**2 * NOISE**2) * eps
        np.testing.assert_allclose(moved.x.numpy(), wanted, rtol=1e-9, atol=1e-9)


def test_one_sample_is_plain_replacement():
    p = problem(dense())
    one, other = (
        draw_block(p, k, 0, 0, 0, 4, seed=1) for k in (RePaint(steps=30, jump_samples=1), ILVR(steps=30))
    )
    assert torch.equal(one.draws, other.draws) and one.stats["nfe"].tolist() == [30] * 4


def errors(p, kernel, draws=2000):
    """Largest error of the means, in exact standard deviations, and the ratios of the standard deviations."""
    exact = draw_block(p, Exact(), 0, 0, 0, 20_000, seed=9).draws
    found = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws
    return ((found.mean(0) - exact.mean(0)) / exact.std(0)).abs().max(), found.std(0) / exact.std(0)


def test_exact_for_a_white_prior():
    """With jumps, too, and data of every fineness: their noise is neither forgotten nor counted twice."""
    operator = DenseOperator(torch.diag(torch.tensor([100.0, 1.0, 0.2, 1.0, 1.0], dtype=F64))[:M])
    y = torch.tensor([50.0, 0.5, 0.1], dtype=F64)
    p = problem(operator, 0.3, correlation=0.0, y=y)  # read with noise 0.003, 0.3 and 1.5
    mean, spread = errors(p, RePaint(steps=120, jump_length=20, jump_samples=4))
    assert mean < 4 * np.sqrt(1 / 2000 + 1 / 20_000) + 0.02
    assert (spread - 1).abs().max() < 4 / np.sqrt(2 * 2000) + 0.06  # 6 % for the steps


@pytest.mark.parametrize("operator, bias, repaired", [(mask, 0.33, 0.11), (dense, 1.20, 0.46)])
def test_jumps_repair_the_bias_of_plain_replacement(operator, bias, repaired):
    """The worst mean, in standard deviations of the posterior: a third as wrong with ten samples of each stretch."""
    p, monte_carlo = problem(operator()), 4 / np.sqrt(2000)
    plain, _ = errors(p, RePaint(steps=60, jump_samples=1))
    mean, spread = errors(p, RePaint(steps=60, jump_length=10, jump_samples=10))
    assert abs(plain - bias) < monte_carlo and mean < repaired + monte_carlo
    assert mean < plain / 2
    assert (spread - 1).abs().max() < 0.08 + monte_carlo / np.sqrt(2)


def test_a_draw_does_not_depend_on_its_neighbours():
    p, kernel = problem(dense()), RePaint(steps=10, jump_length=3, jump_samples=2)
    rngs = [Rng(0, draws=3, dtype=F64) for _ in range(2)]
    plain, pushed = (kernel.init(p, rng) for rng in rngs)
    pushed.x[0] += 1e3
    steps = 0
    while not plain.done:
        (plain, _), (pushed, _) = kernel.step(p, plain, rngs[0]), kernel.step(p, pushed, rngs[1])
        steps += 1
    assert steps == kernel.length(p)
    torch.testing.assert_close(pushed.x[1:], plain.x[1:], rtol=1e-9, atol=1e-9)


class _Absolute(Operator):
    def forward(self, x):
        return x.abs()


class _Unknown(LinearOperator):
    """A linear operator that cannot be decomposed."""

    has_svd = False

    def forward(self, x):
        return x.clone()

    def adjoint(self, z):
        return z.clone()


def test_refusals_and_repr():
    kernel, ones = RePaint(), torch.ones(M, dtype=F64)
    assert eval(repr(kernel)) == kernel
    with pytest.raises(
        ModelError, match=r"RePaint needs a Gaussian channel; site 'y' has OneBit.*QCSSGMPlus"
    ):
        kernel.check(problem(mask(), channel=OneBit, y=ones))
    with pytest.raises(ModelError, match=r"needs a linear operator.*not linear. Use DPS\(\)"):
        kernel.check(problem(_Absolute((M,), (M,), dtype=F64), y=ones))
    with pytest.raises(ModelError, match=r"singular value decomposition.*Use DMPS\(\)"):
        kernel.check(problem(_Unknown((M,), (M,), dtype=F64), y=ones))
    for wrong in ({"steps": 1}, {"jump_length": 0}, {"jump_samples": 0}):
        with pytest.raises(ValueError, match="expected steps >= 2, jump_length >= 1 and jump_samples >= 1"):
            RePaint(**wrong)

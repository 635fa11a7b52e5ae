"""MCG: a step against the Jacobian written out, where its gradient acts, its known bias, what is refused."""

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import Exact, ModelError, read_problem
from bayes_ir.inference.kernels.mcg import MCG
from bayes_ir.inference.kernels.repaint import RePaint
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, Mask, OneBit, Operator

F64 = torch.float64
N, M, NOISE = 5, 3, 0.1
SEEN = torch.tensor([True, False, True, False, True])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def mask() -> Mask:
    return Mask(SEEN, dtype=F64)


def dense() -> DenseOperator:
    return DenseOperator(normal(M, N, seed=3))


def problem(operator: Operator, noise=NOISE, correlation=0.8, channel=Gaussian, y=None):
    """An autoregressive Gaussian prior of unit variance, white for ``correlation=0``."""
    i = torch.arange(N)
    prior = GaussianPrior(normal(N, seed=2), torch.tensor(correlation, dtype=F64) ** (i[:, None] - i).abs())

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior)), noise))

    y = operator(prior.mean) + torch.linspace(-1, 1, M, dtype=F64) if y is None else y
    return read_problem(model, {"y": y})


@pytest.mark.parametrize("weight", ["identity", "pseudo-inverse"])
def test_one_step_is_the_algorithm_box(weight):
    """On an operator with orthogonal rows of length 2, so that A^+ = A^T / 4 and the noise of A^+ y is sigma / 2."""
    a_matrix = 2 * np.linalg.qr(normal(N, M, seed=5).numpy())[0].T
    p = problem(DenseOperator(torch.as_tensor(a_matrix)))
    kernel = MCG(steps=40, zeta=0.3, weight=weight)
    state = kernel.init(p, Rng(0, draws=4, dtype=F64))
    for _ in range(25):
        state = state.moved(state.x)
    now, then = ((float(level.a), float(level.b)) for level in state.levels)
    moved, info = kernel.step(p, state, Rng(7, draws=4, dtype=F64))
    assert torch.equal(info["nfe"], torch.ones(4, dtype=torch.int64))
    rng = Rng(7, draws=4, dtype=F64)
    z, noise_of_y = rng.normal(N).numpy(), rng.normal(M).numpy()

    t, prior = state.levels[0].t, p.prior.with_diffusion(kernel.process(p.prior))
    pinv, y, (a, b) = a_matrix.T / 4, p.y.numpy(), then
    w = np.eye(M) if weight == "identity" else pinv
    v = p.operator.svd.right(torch.eye(M, dtype=F64)).numpy().T  # the coordinates the noise is drawn in
    assert b > a * NOISE / 2
    for i, x_t in enumerate(state.x):
        x0_hat = prior.denoise(x_t, t).numpy()
        jacobian = torch.autograd.functional.jacobian(lambda x: prior.denoise(x, t), x_t).numpy()
        residual = w @ (y - a_matrix @ x0_hat)
        gradient = -jacobian.T @ a_matrix.T @ w.T @ residual / np.linalg.norm(residual)
        alpha = now[0] / a
        beta2 = now[1] ** 2 - alpha**2 * b**2
        mean = (alpha * b**2 * x_t.numpy() + a * beta2 * x0_hat) / now[1] ** 2
        x = mean + np.sqrt(beta2) * b / now[1] * z[i] - 0.3 * gradient
        known = a * pinv @ y + np.sqrt(b**2 - a**2 * NOISE**2 / 4) * v @ noise_of_y[i]
        wanted = x - pinv @ a_matrix @ x + known
        np.testing.assert_allclose(moved.x[i].numpy(), wanted, rtol=1e-9, atol=1e-9)


def test_without_a_gradient_it_is_plain_replacement():
    """For zeta = 0, and for any zeta where the prior does not tie what is measured to the rest."""
    for p, zeta in ((problem(dense()), 0.0), (problem(mask(), correlation=0.0), 0.7)):
        one, other = (
            draw_block(p, kernel, 0, 0, 0, 4, seed=1).draws
            for kernel in (MCG(steps=30, zeta=zeta), RePaint(steps=30, jump_samples=1))
        )
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def errors(p, kernel, draws=2000):
    """Largest error of the means, in exact standard deviations, and the ratios of the standard deviations."""
    exact = draw_block(p, Exact(), 0, 0, 0, 20_000, seed=9).draws
    found = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws
    return ((found.mean(0) - exact.mean(0)) / exact.std(0)).abs().max(), found.std(0) / exact.std(0)


@pytest.mark.parametrize("noise", [0.3, 1e-3])
def test_exact_for_a_white_prior(noise):
    mean, spread = errors(problem(mask(), noise, correlation=0.0), MCG(steps=200))
    assert mean < 4 * np.sqrt(1 / 2000 + 1 / 20_000) + 0.01
    assert (spread - 1).abs().max() < 4 / np.sqrt(2 * 2000) + 0.04  # 4 % for the steps


def test_known_bias_for_a_correlated_prior():
    """The worst mean is 0.39 standard deviations off by replacement alone, 0.20 with a small step; a large one makes
    the draws of what was not measured a third too narrow."""
    p, monte_carlo = problem(mask()), 4 / np.sqrt(2000)
    (none, wide), (small, _), (_, narrow) = (
        errors(p, MCG(steps=200, zeta=zeta)) for zeta in (0.0, 0.03, 0.3)
    )
    assert abs(none - 0.39) < monte_carlo and small < 0.20 + monte_carlo and small < none - 0.1
    assert wide[~SEEN].min() > 1 and 0.6 < narrow[~SEEN].min() < 0.8


def test_a_draw_does_not_depend_on_its_neighbours():
    p, kernel = problem(dense()), MCG(steps=20)
    rngs = [Rng(0, draws=3, dtype=F64) for _ in range(2)]
    plain, pushed = (kernel.init(p, rng) for rng in rngs)
    pushed.x[0] += 1e3
    while not plain.done:
        (plain, _), (pushed, _) = kernel.step(p, plain, rngs[0]), kernel.step(p, pushed, rngs[1])
    torch.testing.assert_close(pushed.x[1:], plain.x[1:], rtol=1e-9, atol=1e-9)


def test_refusals_and_repr():
    assert eval(repr(MCG(zeta=0.1))) == MCG(zeta=0.1)
    with pytest.raises(ModelError, match="MCG needs a Gaussian channel; site 'y' has OneBit"):
        MCG().check(problem(mask(), channel=OneBit, y=torch.ones(M, dtype=F64)))
    for wrong in ({"steps": 1}, {"zeta": -1.0}, {"weight": "bayes"}):
        with pytest.raises(ValueError, match="expected steps >= 2, zeta >= 0 and weight"):
            MCG(**wrong)

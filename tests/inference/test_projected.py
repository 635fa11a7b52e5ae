"""Projected: a step against the formula, constraints met, exact where it should be, alone and on top of a kernel."""

import math
from dataclasses import dataclass

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import DDIM, Ancestral, Exact, ModelError, read_problem
from bayes_ir.inference.kernels.conditioned import ComposedKernel, Conditioned
from bayes_ir.inference.kernels.projected import Projected
from bayes_ir.inference.projections import AffineProjection, BoxProjection
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.models import DDPM, DenseOperator, Gaussian, GaussianPrior, VarianceExploding

F64 = torch.float64
N, NOISE, V = 5, 0.3, 0.6


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def rows(*picked: int) -> DenseOperator:
    """Some rows of one rotation: what one operator sees, another with other rows does not."""
    return DenseOperator(torch.linalg.qr(normal(N, N, seed=3)).Q[list(picked)])


def problem(y=(-1.0, 1.0), mean=None):
    """Two coordinates of a white prior, read with noise."""
    operator = rows(0, 1)
    prior = GaussianPrior(normal(N, seed=2) if mean is None else mean, V * torch.eye(N, dtype=F64))

    def model() -> None:
        pyro.sample("y", Gaussian(operator(pyro.sample("x", prior)), NOISE))

    return read_problem(model, {"y": torch.tensor(y, dtype=F64)})


@dataclass(frozen=True, kw_only=True)
class _White(ComposedKernel):
    """Mean and spread of x_0 given x_t and y, exact for a white Gaussian prior and orthonormal rows."""

    def condition(self, problem, prior, state, rng):
        now, _ = state.levels
        a_t, x0_hat = problem.operator, prior.denoise(state.x, now.t)
        v = V * now.b**2 / (now.a**2 * V + now.b**2)  # of x_0 given x_t
        gain = v / (v + NOISE**2)

        def spread(rng):
            e = v**0.5 * rng.normal(N)
            return e - gain * a_t.adjoint(a_t(e) + NOISE * rng.normal(*problem.y.shape))

        return Conditioned(x0_hat + gain * a_t.adjoint(problem.y - a_t(x0_hat)), spread=spread)


class _Drawn(_White):
    drawn = True


def clipped(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(-0.5, 0.5)


def test_one_step_is_the_formula():
    """DDIM's step from the projected mean: x_{t-1} = a P(x0_hat) + b (x_t - a_t P(x0_hat)) / b_t for eta = 0."""
    p, kernel = problem(), Projected(projection=clipped, sampler=DDIM(steps=20))
    state = kernel.init(p, Rng(0, draws=4, dtype=F64))
    for _ in range(8):
        state = state.moved(state.x)
    now, then = ((float(level.a), float(level.b)) for level in state.levels)
    x0_hat = p.prior.with_diffusion(DDPM()).denoise(state.x, state.levels[0].t).numpy()
    assert (np.abs(x0_hat) > 0.5).any()
    projected = np.minimum(np.maximum(x0_hat, -0.5), 0.5)
    wanted = then[0] * projected + then[1] * (state.x.numpy() - now[0] * projected) / now[1]
    moved, info = kernel.step(p, state, Rng(7, draws=4, dtype=F64))
    np.testing.assert_allclose(moved.x.numpy(), wanted, rtol=1e-9, atol=1e-9)
    assert info["nfe"].tolist() == [1] * 4


def test_box_and_affine_projections_are_the_nearest_points():
    x = normal(6, N, seed=8)
    b, c = DenseOperator(normal(2, N, seed=9)), normal(2, seed=10)
    matrix = b.to_matrix()
    multiplier = torch.linalg.solve(matrix @ matrix.T, (x @ matrix.T - c).T).T
    torch.testing.assert_close(AffineProjection(b, c)(x), x - multiplier @ matrix)
    assert BoxProjection()(x).min() == 0 and torch.equal(BoxProjection(-9, 9)(x), x)
    with pytest.raises(ValueError, match="expected low < high"):
        BoxProjection(1.0, 1.0)
    with pytest.raises(ValueError, match=r"expected a value of shape \(2,\)"):
        AffineProjection(b, normal(3))


def test_a_linear_constraint_alone_is_exact_for_a_white_prior():
    """The draws are those of the prior given B x = c, which is met to rounding; y plays no part."""
    b, c, draws = rows(2, 3), torch.tensor([0.7, -0.4], dtype=F64), 3000
    p = problem()
    kernel = Projected(projection=AffineProjection(b, c), sampler=DDIM(steps=200, eta=1.0))
    found = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws
    torch.testing.assert_close(b(found), c.expand(draws, 2), rtol=0, atol=1e-9)
    rest = rows(0, 1, 4)
    mean = rest(p.prior.mean)
    assert ((rest(found).mean(0) - mean) / V**0.5).abs().max() < 4 / math.sqrt(draws) + 0.01
    assert (rest(found).std(0) / V**0.5 - 1).abs().max() < 4 / math.sqrt(2 * draws) + 0.03
    other = draw_block(problem(y=(0.5, 0.5)), kernel, 0, 0, 0, draws, seed=1).draws
    assert torch.equal(found, other)


@pytest.mark.parametrize("drawn", [False, True])
def test_data_and_a_constraint_act_together(drawn):
    """The posterior given y and B x = c: a path of means needs many steps for it, one of draws a few."""
    b, c, draws = rows(2), torch.tensor([0.7], dtype=F64), 3000
    p, inner = problem(), _Drawn(steps=8) if drawn else _White(steps=200)
    found = draw_block(p, Projected(projection=AffineProjection(b, c), kernel=inner), 0, 0, 0, draws, seed=1)
    torch.testing.assert_close(b(found.draws), c.expand(draws, 1), rtol=0, atol=1e-9)
    exact = draw_block(p, Exact(), 0, 0, 0, 20_000, seed=9).draws
    rest = rows(0, 1, 3, 4)
    error = (rest(found.draws).mean(0) - rest(exact).mean(0)) / rest(exact).std(0)
    assert error.abs().max() < 4 * math.sqrt(1 / draws + 1 / 20_000) + 0.01
    assert (rest(found.draws).std(0) / rest(exact).std(0) - 1).abs().max() < 4 / math.sqrt(2 * draws) + 0.03


def test_known_bias_of_a_bound():
    """Non-negative draws of a white prior around zero are no half-normal ones: mean 0.47 instead of 0.80 sd, and one
    in eight on the bound."""
    p, draws = problem(mean=torch.zeros(N, dtype=F64)), 3000
    found = draw_block(p, Projected(projection=BoxProjection()), 0, 0, 0, draws, seed=1).draws / math.sqrt(V)
    monte_carlo = 4 / math.sqrt(N * draws)
    assert found.min() == 0 and abs((found == 0).double().mean() - 0.12) < monte_carlo
    assert abs(found.mean() - 0.47) < monte_carlo and abs(found.std() - 0.55) < monte_carlo


def test_a_draw_does_not_depend_on_its_neighbours():
    p, kernel = problem(), Projected(projection=BoxProjection(-1, 1), kernel=_White(steps=20))
    rngs = [Rng(0, draws=3, dtype=F64) for _ in range(2)]
    plain, pushed = (kernel.init(p, rng) for rng in rngs)
    pushed.x[0] += 1e3
    while not plain.done:
        (plain, _), (pushed, _) = kernel.step(p, plain, rngs[0]), kernel.step(p, pushed, rngs[1])
    torch.testing.assert_close(pushed.x[1:], plain.x[1:], rtol=1e-9, atol=1e-9)


def test_the_path_is_that_of_the_kernel():
    inner = _White(sampler=DDIM(steps=30, grid="karras"))
    kernel, p = Projected(projection=clipped, kernel=inner), problem()
    assert kernel.sampler == inner.sampler and kernel.length(p) == 30
    assert isinstance(kernel.process(p.prior), VarianceExploding)
    assert Projected(projection=clipped, steps=7).length(p) == 7
    for more in ({"steps": 5}, {"sampler": Ancestral()}):
        with pytest.raises(ValueError, match="expected no sampler and no steps beside it"):
            Projected(projection=clipped, kernel=inner, **more)


def test_refusals_and_repr():
    for kernel in (
        Projected(projection=BoxProjection(0, 1), steps=20),
        Projected(projection=clipped, kernel=_White(steps=9)),
    ):
        assert eval(repr(kernel)) == kernel
    with pytest.raises(TypeError, match="expected a projection to call"):
        Projected(projection=3)
    with pytest.raises(TypeError, match="conditions the denoised mean and leaves the path to a sampler"):
        Projected(projection=clipped, kernel=Exact())
    with pytest.raises(ModelError, match=r"made \(2, 4\).*of images \(2, 5\)"):
        draw_block(problem(), Projected(projection=lambda x: x[:, 1:]), 0, 0, 0, 2, seed=1)

    class Refusing(_White):
        def check(self, problem):
            raise ModelError("not here")

    with pytest.raises(ModelError, match="not here"):
        Projected(projection=clipped, kernel=Refusing()).check(problem())

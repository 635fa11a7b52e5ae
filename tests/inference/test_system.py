"""The measurement system: decomposed and matrix-free ones agree, with each other and with dense linear algebra."""

import pyro
import pytest
import torch

from bayes_ir.inference import QCSSGM, AnnealedLangevin, ModelError, QCSSGMPlus, read_problem
from bayes_ir.inference.covariances import ScalarCovariance
from bayes_ir.inference.linearised import Linearised
from bayes_ir.inference.predictive import predictive
from bayes_ir.inference.run import draw_block
from bayes_ir.inference.system import measurement_system
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, LinearOperator, OneBit, Operator

F64 = torch.float64
N, M = 12, 7


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class _Large(DenseOperator):
    """A small matrix that is treated as if it were too large to decompose."""

    has_svd = False

    def gram_diagonal(self):
        return self.matrix.square().sum(1)


def noises(kind: str) -> torch.Tensor:
    return torch.full((M,), 0.3, dtype=F64) if kind == "uniform" else 0.1 + normal(M, seed=3).abs()


@pytest.mark.parametrize("kind", ["uniform", "varying"])
def test_agrees_with_dense_linear_algebra(kind):
    a, noise, y = normal(M, N), noises(kind), normal(M, seed=1)
    white = a / noise[:, None]
    residual, v = normal(4, M, seed=2), torch.tensor(0.7, dtype=F64)
    exact = torch.linalg.solve(torch.eye(M, dtype=F64) + v * white @ white.T, residual.T).T @ white
    for operator in (DenseOperator(a), _Large(a)):
        system = measurement_system(operator, Gaussian(y, noise), y)
        law = predictive(system, ScalarCovariance(v), normal(4, N))
        torch.testing.assert_close(law.pulled_solve(residual, F64).image, exact, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(system.adjoint(residual, F64), residual @ white)
        torch.testing.assert_close(system.residual(residual @ white), y / noise - residual @ white @ white.T)
        largest = torch.linalg.matrix_norm(white, 2) ** 2
        assert largest * (1 - 1e-9) <= system.largest_eigenvalue <= 1.03 * largest
        torch.testing.assert_close(system.row_energy, white.square().sum(1))


def problem(operator: LinearOperator, channel: type):
    prior = GaussianPrior(torch.zeros(N, dtype=F64), torch.eye(N, dtype=F64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        y = channel(operator(normal(N, seed=5)), 0.1).sample()

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior)), 0.1))

    return read_problem(model, {"y": y})


@pytest.mark.parametrize("kernel", [AnnealedLangevin, QCSSGMPlus])
def test_a_kernel_draws_the_same_either_way(kernel):
    steps = {"levels": 30, "steps_per_level": 2}
    decomposed, matrix_free = (problem(kind(normal(M, N)), Gaussian) for kind in (DenseOperator, _Large))
    one = draw_block(decomposed, AnnealedLangevin(**steps), 0, 0, 0, 5, seed=1)
    two = draw_block(matrix_free, kernel(**steps), 0, 0, 0, 5, seed=1)
    spread = one.draws.std()
    assert (one.draws - two.draws).abs().max() < 0.05 * spread  # solves to 1e-5, steps 2 % shorter
    assert (two.stats["cg_residual"] <= 1e-5).all() and (two.stats["cg_iterations"] > 0).all()


def test_expectation_propagation_says_what_it_needs():
    with pytest.raises(ModelError, match=r"too large for that under ScalarCovariance; use .*QCSSGM"):
        QCSSGMPlus().check(problem(_Large(normal(M, N)), OneBit))
    p = problem(_Large(normal(M, N)), OneBit)
    QCSSGM().check(p)
    assert draw_block(p, QCSSGM(levels=5), 0, 0, 0, 3, seed=1).draws.isfinite().all()


class _Squares(Operator):
    """``(x_1^2, x_1 x_2, x_3)``."""

    def forward(self, x):
        return torch.stack([x[..., 0] ** 2, x[..., 0] * x[..., 1], x[..., 2]], dim=-1)


def test_a_nonlinear_operator_is_linearised_draw_by_draw():
    mu, noise = normal(2, 4, seed=1), torch.tensor([0.1, 0.2, 0.5], dtype=F64)
    operator = _Squares((4,), (3,), dtype=F64)
    linear = Linearised(operator, mu, noise)
    for i, x in enumerate(mu):
        a, b = x[0], x[1]
        jacobian = torch.tensor([[2 * a, 0, 0, 0], [b, a, 0, 0], [0, 0, 1, 0]], dtype=F64) / noise[:, None]
        step, z = normal(2, 4, seed=2), normal(2, 3, seed=3)
        torch.testing.assert_close(linear.forward(step)[i], jacobian @ step[i])
        torch.testing.assert_close(linear.adjoint(z)[i], jacobian.T @ z[i])

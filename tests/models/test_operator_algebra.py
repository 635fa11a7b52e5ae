"""Composition, multiples, sums, stacks, blocks, gains and adapters, against NumPy and SciPy."""

import numpy as np
import pytest
import scipy.sparse
import torch
from operator_case import OperatorCase, close, normal

from bayes_ir.models.operators import JPEG, BlockAverage, DenseOperator, Identity, Mask
from bayes_ir.models.operators.adapters import FunctionOperator, from_physics, from_scipy, to_scipy
from bayes_ir.models.operators.base import Operator
from bayes_ir.models.operators.combination import Scaled, Sum
from bayes_ir.models.operators.composition import Composition
from bayes_ir.models.operators.diagonal import Diagonal
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.stacking import BlockDiagonal, Stack

SHAPE = (2, 3, 4)


def dense(m: int, n: int, seed: int, dtype: torch.dtype) -> DenseOperator:
    return DenseOperator(normal(m, n, seed=seed).float(), dtype=dtype)


def array(m: int, n: int, seed: int) -> np.ndarray:
    return normal(m, n, seed=seed).float().double().numpy()


def seen() -> torch.Tensor:
    return normal(*SHAPE, seed=3) > -0.5


class TestComposition(OperatorCase):
    def build(self, dtype=torch.float64):
        mask = Mask(seen(), dtype=dtype)
        return dense(5, int(seen().sum()), 1, dtype) @ mask

    def truth(self, operator):
        return array(5, int(seen().sum()), 1) @ np.eye(24)[seen().flatten().numpy()]


class TestScaled(OperatorCase):
    def build(self, dtype=torch.float64):
        return -1.5 * dense(5, 7, 1, dtype)

    def truth(self, operator):
        return -1.5 * array(5, 7, 1)


class TestScaledStructured(OperatorCase):
    def build(self, dtype=torch.float64):
        return Mask(seen(), dtype=dtype) * 0.25

    def truth(self, operator):
        return 0.25 * np.eye(24)[seen().flatten().numpy()]


class TestSum(OperatorCase):
    def build(self, dtype=torch.float64):
        return dense(5, 7, 1, dtype) - dense(5, 7, 2, dtype)

    def truth(self, operator):
        return array(5, 7, 1) - array(5, 7, 2)


class TestStack(OperatorCase):
    def build(self, dtype=torch.float64):
        return Stack([dense(3, 7, 1, dtype), Identity((7,), dtype), dense(2, 7, 2, dtype)])

    def truth(self, operator):
        return np.concatenate([array(3, 7, 1), np.eye(7), array(2, 7, 2)])

    def test_split(self, operator):
        x = self.image(operator, 2)
        parts = operator.split(operator(x))
        for part, sensor in zip(parts, operator.operators, strict=True):
            close(part, sensor(x))


class TestBlockDiagonal(OperatorCase):
    def build(self, dtype=torch.float64):
        return BlockDiagonal([dense(3, 4, 1, dtype), dense(3, 4, 2, dtype), 2.0 * dense(3, 4, 3, dtype)])

    def truth(self, operator):
        from scipy.linalg import block_diag

        return block_diag(array(3, 4, 1), array(3, 4, 2), 2 * array(3, 4, 3))


class TestDiagonal(OperatorCase):
    def gain(self) -> torch.Tensor:
        gain = normal(*SHAPE, seed=4).float().double()
        gain[0, 0, 0] = 0.0
        return gain

    def build(self, dtype=torch.float64):
        return Diagonal(self.gain(), dtype=dtype)

    def truth(self, operator):
        return np.diag(self.gain().flatten().numpy())


def difference(x: torch.Tensor) -> torch.Tensor:
    return torch.diff(x, dim=-1)


class TestFunction(OperatorCase):
    def build(self, dtype=torch.float64):
        return LinearOperator.from_function(difference, (2, 5), dtype=dtype)

    def truth(self, operator):
        return np.kron(np.eye(2), np.diff(np.eye(5), axis=0))


class TestScipy(OperatorCase):
    def matrix_(self) -> scipy.sparse.csr_array:
        return scipy.sparse.csr_array(np.round(array(4, 6, 1), 1))

    def build(self, dtype=torch.float64):
        return from_scipy(self.matrix_(), event_shape=(2, 3), dtype=dtype)

    def truth(self, operator):
        return self.matrix_().toarray()

    @pytest.mark.skip(reason="SciPy works on the CPU with real data, so there is no meta or CUDA run")
    def test_every_part_follows_the_device(self):
        pass

    @pytest.mark.skip(reason="SciPy works on the CPU")
    def test_agrees_on_the_gpu(self):
        pass


def test_to_scipy_is_the_same_map():
    operator = Mask(seen(), dtype=torch.float64)
    exported = to_scipy(operator)
    x, z = normal(24, seed=5), normal(*operator.measurement_shape, seed=6)
    np.testing.assert_allclose(exported @ x.numpy(), operator(x.reshape(SHAPE)).numpy(), rtol=1e-14)
    np.testing.assert_allclose(exported.T @ z.numpy(), operator.adjoint(z).flatten().numpy(), rtol=1e-14)
    columns = normal(24, 3, seed=7).numpy()
    np.testing.assert_allclose(exported @ columns, np.stack([exported @ c for c in columns.T], 1), rtol=1e-14)
    solution = scipy.sparse.linalg.lsqr(exported, z.numpy())[0]
    np.testing.assert_allclose(solution, operator.pinv(z).flatten().numpy(), atol=1e-8)


class _Physics:
    """What deepinv's linear physics look like from outside."""

    def A(self, x, **kwargs):
        return x[:, :, ::2]

    def A_adjoint(self, y, **kwargs):
        x = y.new_zeros(len(y), 1, 4, 3)
        x[:, :, ::2] = y
        return x


def test_physics_by_duck_typing():
    operator = from_physics(_Physics(), (1, 4, 3))
    x = normal(5, 1, 4, 3, dtype=torch.float32)
    assert operator.measurement_shape == (1, 2, 3)
    close(operator(x), x[:, :, ::2])


class _Square(Operator):
    def forward(self, x):
        return x.square()

    def pinv(self, z):
        return z.sqrt()


def test_composition_with_nonlinear_parts():
    mask = Mask(seen())
    square = _Square(SHAPE, SHAPE)
    chain = mask @ square
    assert isinstance(chain, Composition) and not chain.linear
    x = normal(3, *SHAPE, dtype=torch.float32)
    close(chain(x), x.flatten(1)[:, seen().flatten()] ** 2, 1e-6)
    z = chain(x)
    close(chain(chain.pinv(z)), z, 1e-6)
    assert chain.to(dtype=torch.float64)(x.double()).dtype == torch.float64
    assert repr(chain).endswith(f"@ {square!r}")


def test_jpeg_after_super_resolution_after_masking():
    """The degradation chain of the PiGDM lecture, forwards and through its pseudo-inverses."""
    shape = (1, 32, 32)
    missing = torch.ones(shape)
    missing[:, 8:16, 8:24] = 0
    chain = JPEG((1, 16, 16), quality=60) @ BlockAverage(shape, 2) @ Diagonal(missing)
    x = torch.linspace(0, 1, 32).expand(4, *shape) * 0.9
    z = chain(x)
    assert z.shape == (4, 1, 16, 16) and not chain.linear
    blocks = (missing * x).unflatten(-1, (16, 2)).mean(-1).unflatten(-2, (16, 2)).mean(-2)
    assert (z - blocks).abs().mean() < 0.02  # JPEG at quality 60
    onto = JPEG((1, 16, 16), quality=60) @ BlockAverage(shape, 2)
    close(onto(onto.pinv(z)), z, 1e-4)
    assert (chain(chain.pinv(z)) - z).abs().max() < 0.02  # the masked pixels cannot make JPEG's ringing
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(chain(leaf).sum(), leaf)  # straight through: that of the linear part
    close(gradient, missing.expand_as(x) / 4, 1e-4)


def test_large_operators_without_structure_use_conjugate_gradients():
    n = 4096
    operator = LinearOperator.from_function(lambda x: x + 0.3 * x.roll(1, -1), (n,), dtype=torch.float64)
    assert not operator.has_svd
    x = normal(2, n, seed=8)
    z = operator(x)
    close(operator.pinv(z), x, 1e-9)
    solved = operator.solve(z, scale=2.0, shift=0.5)
    close(2 * operator(operator.adjoint(solved)) + 0.5 * solved, z, 1e-9)
    assert abs(operator.norm() / 1.3 - 1) < 1e-2


A, B = DenseOperator(torch.ones(3, 4)), DenseOperator(torch.ones(5, 4))
LARGE = LinearOperator.from_function(torch.neg, (4096,))
REFUSED = [
    (lambda: A @ B, "DenseOperator measures shape (5,) but DenseOperator takes shape (4,)"),
    (lambda: A @ Identity((4,), dtype=torch.float64), "bring them together with .to("),
    (lambda: A + B, "a sum needs the same shapes"),
    (lambda: A * float("nan"), "expected a finite c other than zero, got nan"),
    (lambda: 0 * A, "expected a finite c other than zero, got 0.0"),
    (lambda: A * "2 m", "expected a number c, got '2 m'"),
    (lambda: Stack([]), "expected at least one linear operator, got none"),
    (lambda: Stack([A, _Square((4,), (4,))]), "got ['DenseOperator', '_Square']"),
    (lambda: Stack([A, Identity((3,))]), "images of different shapes, (4,) and (3,)"),
    (lambda: BlockDiagonal([A, B]), "measure different shapes, (3,) and (5,)"),
    (lambda: Diagonal(torch.zeros(3)), "expected finite gains, not all zero"),
    (lambda: Diagonal(torch.ones(3) * 1j), "expected a real gain"),
    (lambda: LinearOperator.from_function(lambda x: x + 1, (3,)), "the function is not linear"),
    (lambda: LinearOperator.from_function(lambda x: x - x.mean(0), (3,)), "for each alone"),
    (lambda: LinearOperator.from_function(lambda x: x.sum(), (3,)), "expected torch.float32 of shape (2, *"),
    (lambda: FunctionOperator(difference, (3,), lambda z: z), "the adjoint returns images of shape (2,)"),
    (lambda: FunctionOperator(torch.neg, (3,), torch.sin), "the adjoint does not match"),
    (lambda: from_scipy(np.eye(3) * 1j), "expected a real operator"),
    (lambda: from_scipy(np.eye(3), event_shape=(2, 2)), "does not take images of shape (2, 2)"),
    (lambda: from_physics(object(), (3,)), "object has no method A"),
    (lambda: (A @ _Square((4,), (4,))).to().outer.to().solve(torch.ones(3), shift=0.0), "shift > 0"),
    (lambda: Composition(_Square((4,), (4,)), "B"), "expected an operator as inner, got str"),
    (
        lambda: Composition(_NoInverse((4,), (4,)), Identity((4,))).pinv(torch.ones(4)),
        "_NoInverse has no pseudo-inverse",
    ),
    (lambda: Identity((3000,)).pinv(torch.ones(3000), rcond=1.0), "0 <= rcond < 1"),
    (lambda: LARGE.svd, "too large to decompose"),
    (
        lambda: LARGE.pinv(torch.ones(4096), rcond=0.1),
        "needs singular values",
    ),
]


class _NoInverse(Operator):
    def forward(self, x):
        return x.abs()


@pytest.mark.parametrize(("build", "words"), REFUSED)
def test_refusals(build, words):
    with pytest.raises((TypeError, ValueError)) as refusal:
        build()
    assert words in str(refusal.value)


def test_the_wings_know_scaled_and_sum():
    assert isinstance(2 * A, Scaled) and isinstance(A + A, Sum) and isinstance(-A, Scaled)

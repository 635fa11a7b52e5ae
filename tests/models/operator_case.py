"""A battery for linear operators: give the operator and its matrix, inherit the tests."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from pyro.poutine.messenger import Messenger

from bayes_ir.models.operators import LinearOperator

BATCHES = [(), (3,), (2, 3), (0,)]
# torch itself scripts its forward-mode rules when torch.func.jvp is first called.
JVP_WARNS = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")


class Recorder(Messenger):
    """Remembers the operators that were applied."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, Any, Any]] = []

    def _pyro_post_operator(self, msg: Any) -> None:
        self.seen.append((*msg["args"], msg["value"]))


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def close(got: torch.Tensor, wanted: Any, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=got.dtype), rtol=tolerance, atol=tolerance)


class OperatorCase:
    """Inherit as ``TestMine(OperatorCase)`` and give ``build`` and ``truth``."""

    def build(self, dtype: torch.dtype = torch.float64) -> LinearOperator:
        raise NotImplementedError

    def truth(self, operator: LinearOperator) -> np.ndarray:
        """The matrix (M, N), float64, made without calling the operator."""
        raise NotImplementedError

    @pytest.fixture
    def operator(self) -> LinearOperator:
        return self.build()

    @pytest.fixture
    def matrix(self, operator: LinearOperator) -> np.ndarray:
        return self.truth(operator)

    def image(self, operator: LinearOperator, *batch: int, seed: int = 1) -> torch.Tensor:
        return normal(*batch, *operator.event_shape, seed=seed, dtype=operator.dtype)

    def measurement(self, operator: LinearOperator, *batch: int, seed: int = 2) -> torch.Tensor:
        return normal(*batch, *operator.measurement_shape, seed=seed, dtype=operator.dtype)

    def test_shapes(self, operator, matrix):
        assert {type(operator.event_shape), type(operator.measurement_shape)} == {torch.Size}
        assert matrix.shape == (operator.measurement_shape.numel(), operator.event_shape.numel())
        assert operator.linear and operator.dtype == torch.float64 and operator.device.type == "cpu"

    @pytest.mark.parametrize("batch", BATCHES)
    def test_applies_its_matrix(self, operator, matrix, batch):
        x = self.image(operator, *batch)
        z = operator(x)
        assert z.shape == (*batch, *operator.measurement_shape) and z is not x
        close(z.reshape(-1, len(matrix)), x.numpy().reshape(-1, matrix.shape[1]) @ matrix.T)

    @pytest.mark.parametrize("batch", BATCHES)
    def test_adjoint_applies_the_transpose(self, operator, matrix, batch):
        x, z = self.image(operator, *batch), self.measurement(operator, *batch)
        assert operator.adjoint(z).shape == (*batch, *operator.event_shape)
        close(operator.adjoint(z).reshape(-1, matrix.shape[1]), z.numpy().reshape(-1, len(matrix)) @ matrix)
        close((operator(x) * z).sum(), (x * operator.adjoint(z)).sum())

    @pytest.mark.parametrize("batch", BATCHES)
    def test_pinv_is_moore_penrose(self, operator, matrix, batch):
        z = self.measurement(operator, *batch)
        wanted = z.numpy().reshape(-1, len(matrix)) @ np.linalg.pinv(matrix, rcond=1e-10).T
        assert operator.pinv(z).shape == (*batch, *operator.event_shape)
        close(operator.pinv(z).reshape(-1, matrix.shape[1]), wanted, 1e-9)

    def test_to_matrix(self, operator, matrix):
        close(operator.to_matrix(), matrix)

    def test_svd_reconstructs_the_matrix(self, operator, matrix):
        svd, r = operator.svd, np.linalg.matrix_rank(matrix)
        s, basis = svd.singular_values, torch.eye(r, dtype=torch.float64)
        u, v = svd.left(basis).reshape(r, -1).mT, svd.right(basis).reshape(r, -1).mT
        assert s.dtype == torch.float64 and s.shape == (svd.rank,) == (r,)
        assert (s > 0).all() and (s.diff() <= 0).all()
        close(s, np.linalg.svd(matrix, compute_uv=False)[:r])
        close((u * s) @ v.mT, matrix)
        close(u.mT @ u, np.eye(r))
        close(v.mT @ v, np.eye(r))
        close(svd.left_matrix(), u)

    @pytest.mark.parametrize("batch", BATCHES)
    def test_svd_maps_are_batched_and_adjoint(self, operator, batch):
        svd = operator.svd
        x, z, c = self.image(operator, *batch), self.measurement(operator, *batch), normal(*batch, svd.rank)
        assert svd.left(c).shape == z.shape and svd.left_adjoint(z).shape == c.shape
        assert svd.right(c).shape == x.shape and svd.right_adjoint(x).shape == c.shape
        close((svd.left(c) * z).sum(), (c * svd.left_adjoint(z)).sum())
        close((svd.right(c) * x).sum(), (c * svd.right_adjoint(x)).sum())

    def test_gram_diagonal(self, operator, matrix):
        wanted = np.square(matrix).sum(1).reshape(operator.measurement_shape)
        close(operator.gram_diagonal(), wanted)
        close(operator.svd.gram_diagonal(), wanted)

    def test_norm_and_condition_number(self, operator, matrix):
        s = np.linalg.svd(matrix, compute_uv=False)
        s = s[: np.linalg.matrix_rank(matrix)]
        assert abs(operator.norm() / s[0] - 1) < 1e-9
        assert abs(operator.condition_number() / (s[0] / s[-1]) - 1) < 1e-6

    @pytest.mark.parametrize("batch", BATCHES)
    def test_solve_agrees_with_dense_linear_algebra(self, operator, matrix, batch):
        z = self.measurement(operator, *batch)
        shifted = 0.7 * matrix @ matrix.T + 0.3 * np.eye(len(matrix))
        wanted = np.linalg.solve(shifted, z.numpy().reshape(-1, len(matrix)).T).T
        solved = operator.solve(z, scale=0.7, shift=0.3)
        assert solved.shape == z.shape
        close(solved.reshape(-1, len(matrix)), wanted, 1e-9)

    def test_conjugate_gradients_agree_with_the_decomposition(self, operator, monkeypatch):
        z = operator(self.image(operator, 2))  # consistent: in the range of A
        solved, inverted, size = operator.solve(z, 0.7, 0.3), operator.pinv(z), operator.norm()
        monkeypatch.setattr(type(operator), "has_svd", False)
        close(operator.solve(z, 0.7, 0.3), solved, 1e-7)
        assert abs(operator.norm(tolerance=1e-8) / size - 1) < 1e-3
        close(operator(operator.pinv(z)), z, 1e-5)
        if operator.to().svd.singular_values.min() > 0.05 * size:  # else the solution is not well determined
            close(operator.pinv(z), inverted, 1e-6)

    def test_gradients(self, operator, matrix):
        x = self.image(operator, 2).requires_grad_()
        (gradient,) = torch.autograd.grad(0.5 * operator(x).square().sum(), x)
        close(gradient, operator.adjoint(operator(x)).detach())
        z = self.measurement(operator, 2).requires_grad_()
        for back in (operator.adjoint, operator.pinv):
            (gradient,) = torch.autograd.grad(0.5 * back(z).square().sum(), z)
            root = torch.autograd.functional.jvp(back, z.detach(), z.detach())[1]
            close((gradient * z).sum(), root.square().sum(), 1e-9)

    @JVP_WARNS
    def test_functional_transforms(self, operator):
        x, v = self.image(operator, 3), self.image(operator, 3, seed=5)
        close(torch.func.jvp(operator, (x,), (v,))[1], operator(v))
        close(torch.func.vmap(operator)(x), operator(x))
        z = operator(v)
        close(torch.func.vmap(operator.adjoint)(z), operator.adjoint(z))

    def test_one_map_in_every_dtype(self, operator):
        single = self.build(torch.float32)
        x, z = self.image(operator, 2), self.measurement(operator, 2)
        assert single(x.float()).dtype == single.adjoint(z.float()).dtype == single.pinv(z.float()).dtype
        assert single(x.float()).dtype == single.gram_diagonal().dtype == torch.float32
        assert single.svd.singular_values.dtype == torch.float64
        assert single.svd.left_matrix().dtype == torch.float32
        close(single(x.float()).double(), operator(x), 1e-5)
        close(single.adjoint(z.float()).double(), operator.adjoint(z), 1e-5)
        close(single.svd.singular_values, operator.svd.singular_values, 1e-6)

    def test_to_makes_a_copy(self, operator):
        before = operator.svd
        single = operator.to(dtype=torch.float32)
        x, z = self.image(operator, 2), self.measurement(operator, 2)
        assert type(single) is type(operator) and single.dtype == torch.float32
        assert operator.dtype == torch.float64 and operator.svd is before
        assert single.svd.dtype == torch.float32 and single.svd.singular_values.dtype == torch.float64
        close(single(x.float()).double(), operator(x), 1e-5)
        close(single.pinv(z.float()).double(), operator.pinv(z), 1e-3)
        double = single.to(dtype=torch.float64)
        close(double(x), operator(x), 1e-5)
        basis = torch.eye(double.svd.rank, dtype=torch.float64)
        close(double.svd.right_adjoint(double.svd.right(basis)), basis)

    def test_to_takes_the_decomposition_along(self, operator, monkeypatch):
        made = operator.svd
        for name in ("svd", "qr"):
            monkeypatch.setattr(torch.linalg, name, None)
        for copied in (operator.to(), operator.to(dtype=torch.float32), operator.to(device="cpu")):
            close(copied.svd.left_matrix().double(), made.left_matrix(), 1e-7)

    def test_every_part_follows_the_device(self, operator):
        # The meta device computes shapes only, and refuses to mix with tensors that stayed behind.
        assert isinstance(operator.svd.rank, int)
        moved = operator.to(device="meta")
        x, z = self.image(operator, 2).to("meta"), self.measurement(operator, 2).to("meta")
        results = moved(x), moved.adjoint(z), moved.pinv(z), moved.gram_diagonal()
        assert all(result.device.type == "meta" for result in results)
        assert moved.device.type == "meta" and operator.device.type == "cpu"
        assert moved.svd.device.type == "meta"

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_agrees_on_the_gpu(self, operator):
        moved = operator.to(device="cuda")
        x, z = self.image(operator, 2), self.measurement(operator, 2)
        close(moved(x.cuda()).cpu(), operator(x))
        close(moved.adjoint(z.cuda()).cpu(), operator.adjoint(z))
        close(moved.pinv(z.cuda()).cpu(), operator.pinv(z), 1e-9)

    def test_construction_is_reproducible(self, operator):
        x = self.image(operator, 2)
        assert torch.equal(self.build()(x), operator(x))
        assert torch.equal(copy.deepcopy(operator)(x), operator(x))

    def test_announces_itself(self, operator):
        x = self.image(operator, 2)
        with Recorder() as recorder:
            z = operator(x)
            operator.adjoint(z), operator.pinv(z), operator.svd.right_adjoint(x), operator.gram_diagonal()
        ((seen_operator, seen_x, seen_z),) = recorder.seen
        assert seen_operator is operator and seen_x is x and seen_z is z
        assert torch.equal(z, operator(x))

    def test_refuses_in_words(self, operator):
        name, x, z = type(operator).__name__, self.image(operator), self.measurement(operator)
        for wrong in (x[..., 1:], x.flatten()[0]):
            with pytest.raises(ValueError, match=rf"{name}: expected x of shape \(\*batch, .*reshape x"):
                operator(wrong)
        with pytest.raises(TypeError, match=rf"{name}: x is torch.float32 .*A\.to\(dtype=torch\.float32\)"):
            operator(x.float())
        with pytest.raises(TypeError, match=rf"{name}: expected x in torch.float64, got torch.uint8"):
            operator((x > 0).to(torch.uint8))
        with pytest.raises(TypeError, match=rf"{name}: expected x to be a tensor, got list"):
            operator(x.tolist())
        with pytest.raises(ValueError, match=rf"{name}: x is on meta .*A\.to\(device='meta'\)"):
            operator(x.to("meta"))
        for back in (operator.adjoint, operator.pinv):
            with pytest.raises(ValueError, match=r"expected z of shape \(\*batch, .*reshape z"):
                back(z[..., 1:])
            with pytest.raises(TypeError, match=r"z is torch.float32 .*A\.to\(dtype=torch\.float32\)"):
                back(z.float())

    def test_svd_refuses_in_words(self, operator):
        svd, c = operator.svd, normal(operator.svd.rank)
        for apply in (svd.left, svd.right):
            with pytest.raises(ValueError, match="expected c of shape"):
                apply(torch.cat([c, c]))
            with pytest.raises(TypeError, match=r"c is torch\.float32"):
                apply(c.float())
        with pytest.raises(ValueError, match="expected x of shape"):
            svd.right_adjoint(self.image(operator)[..., 1:])
        with pytest.raises(ValueError, match="expected z of shape"):
            svd.left_adjoint(self.measurement(operator)[..., 1:])

    def test_repr(self, operator):
        text = repr(operator)
        assert text.startswith(f"{type(operator).__name__}(") and text.endswith("dtype=torch.float64)")
        assert f"event_shape={tuple(operator.event_shape)}" in text
        assert "dtype" not in repr(operator.to(dtype=torch.float32))
        assert repr(operator.to(device="meta")).endswith(".to(device='meta')")
        assert repr(operator.svd).startswith(f"{type(operator.svd).__name__}(rank={operator.svd.rank}, ")

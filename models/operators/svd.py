r"""Singular value decompositions that are applied, not stored.

The thin decomposition of a linear map A from images (N numbers) to measurements (M numbers) is

    A = U diag(s) V^T,    U^T U = V^T V = I_r,    s_1 >= ... >= s_r > 0,

with r <= min(M, N) the rank: null directions are left out.  A method needs only the four maps
``U c``, ``U^T z``, ``V c`` and ``V^T x``, and where A has structure they need no matrix.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import expect, follow

if TYPE_CHECKING:
    from bayes_ir.models.operators.linear import LinearOperator

__all__ = ["SVD", "DenseSVD", "OrthonormalRowsSVD"]


class SVD(ABC):
    """Thin decomposition ``A = U diag(s) V^T`` of a linear operator.

    The maps work over leading batch dimensions, are differentiable, and take and give the
    operator's dtype.  The singular values stay in float64: cast them, ``s.to(c.dtype)``, before
    multiplying coefficients, or torch promotes the product to float64.

    Attributes:
        singular_values: ``s``, shape (r,), float64, descending, positive.
        event_shape: shape of an image x.
        measurement_shape: shape of a measurement z.
        dtype: dtype of x, z and the coefficients c.
        device: where they live.
    """

    def __init__(
        self,
        singular_values: Tensor,
        event_shape: torch.Size,
        measurement_shape: torch.Size,
        dtype: torch.dtype,
    ) -> None:
        self.singular_values = singular_values  # (r,)
        self.event_shape = event_shape
        self.measurement_shape = measurement_shape
        self.dtype = dtype
        self.device = singular_values.device

    @property
    def rank(self) -> int:
        """Number ``r`` of singular values."""
        return self.singular_values.shape[0]

    @abstractmethod
    def left(self, c: Tensor) -> Tensor:
        """``U c``: (*batch, r) -> (*batch, *measurement_shape)."""

    @abstractmethod
    def left_adjoint(self, z: Tensor) -> Tensor:
        """``U^T z``: (*batch, *measurement_shape) -> (*batch, r)."""

    @abstractmethod
    def right(self, c: Tensor) -> Tensor:
        """``V c``: (*batch, r) -> (*batch, *event_shape)."""

    @abstractmethod
    def right_adjoint(self, x: Tensor) -> Tensor:
        """``V^T x``: (*batch, *event_shape) -> (*batch, r)."""

    @abstractmethod
    def gram_diagonal(self) -> Tensor:
        """``diag(A A^T)``, ``sum_k (U_mk s_k)^2``, shaped measurement_shape."""

    def left_matrix(self) -> Tensor:
        """``U`` as a matrix (M, r), M the number of measurements in row-major order."""
        basis = torch.eye(self.rank, dtype=self.dtype, device=self.device)
        return self.left(basis).reshape(self.rank, -1).mT

    def to(self, operator: LinearOperator) -> Self:
        """The same decomposition for a copy of the operator on another device or in another dtype.

        Every tensor attribute follows the operator, but the singular values stay in float64; an
        attribute ``operator`` becomes the copy.
        """
        other = copy.copy(self)
        other.dtype, other.device = operator.dtype, operator.device
        for name, value in vars(self).items():
            if name == "singular_values":
                other.singular_values = value.to(operator.device)
            elif name == "operator":
                setattr(other, name, operator)
            elif isinstance(value, Tensor):
                setattr(other, name, follow(value, operator.device, operator.dtype))
        return other

    def _expect(self, name: str, x: Tensor, shape: torch.Size) -> None:
        expect(type(self).__name__, name, x, shape, self.dtype, self.device)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(rank={self.rank}, event_shape={tuple(self.event_shape)}, "
            f"measurement_shape={tuple(self.measurement_shape)})"
        )


class DenseSVD(SVD):
    """Decomposition with the factors stored as matrices.

    Args:
        u: left factor ``U``, shape (M, r).
        singular_values: ``s``, shape (r,), float64, descending, positive.
        v: right factor ``V``, shape (N, r).
        event_shape: shape of an image, N numbers.
        measurement_shape: shape of a measurement, M numbers.
        rounding: relative rounding error ``eps`` of the entries of ``A`` that the factors were computed
            from.  What cannot be told from zero is left out: ``s_k <= max(M, N) eps s_1``.  Zero
            if the factors are known by construction.
    """

    def __init__(
        self,
        u: Tensor,
        singular_values: Tensor,
        v: Tensor,
        event_shape: torch.Size,
        measurement_shape: torch.Size,
        rounding: float = 0.0,
    ) -> None:
        super().__init__(singular_values, event_shape, measurement_shape, u.dtype)
        self.u, self.v, self.rounding = u, v, rounding

    @classmethod
    def of_matrix(
        cls, matrix: Tensor, event_shape: torch.Size, measurement_shape: torch.Size, rounding: float
    ) -> DenseSVD:
        """Decompose ``matrix`` (M, N) in float64; the factors carry no gradient back to it."""
        u, s, vt = torch.linalg.svd(matrix.detach().double(), full_matrices=False)
        full = cls(u, s, vt.mT, event_shape, measurement_shape, rounding)
        return full.cast(matrix.device, matrix.dtype)

    def to(self, operator: LinearOperator) -> Self:
        """The same decomposition for a copy of the operator on another device or in another dtype."""
        return self.cast(operator.device, operator.dtype)

    def cast(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Cast the factors, never the singular values; a computed rank is cut anew for the dtype."""
        s = self.singular_values
        rounding = max(self.rounding, torch.finfo(dtype).eps) if self.rounding > 0 else 0.0
        tolerance = max(self.u.shape[0], self.v.shape[0]) * rounding
        keep = slice(int((s > tolerance * s[:1]).sum()) if rounding > 0 else self.rank)
        return type(self)(
            self.u[:, keep].to(device, dtype),
            s[keep].to(device),
            self.v[:, keep].to(device, dtype),
            self.event_shape,
            self.measurement_shape,
            rounding,
        )

    def left(self, c: Tensor) -> Tensor:
        """``U c``."""
        self._expect("c", c, self.singular_values.shape)
        return (c @ self.u.mT).unflatten(-1, self.measurement_shape)

    def left_adjoint(self, z: Tensor) -> Tensor:
        """``U^T z``."""
        self._expect("z", z, self.measurement_shape)
        return z.flatten(-len(self.measurement_shape)) @ self.u

    def right(self, c: Tensor) -> Tensor:
        """``V c``."""
        self._expect("c", c, self.singular_values.shape)
        return (c @ self.v.mT).unflatten(-1, self.event_shape)

    def right_adjoint(self, x: Tensor) -> Tensor:
        """``V^T x``."""
        self._expect("x", x, self.event_shape)
        return x.flatten(-len(self.event_shape)) @ self.v

    def left_matrix(self) -> Tensor:
        """``U`` itself."""
        return self.u

    def gram_diagonal(self) -> Tensor:
        """``sum_k (U_mk s_k)^2``, summed in float64."""
        diagonal = (self.u.double() * self.singular_values).square().sum(-1)
        return diagonal.to(self.dtype).unflatten(0, self.measurement_shape)


class OrthonormalRowsSVD(SVD):
    """Decomposition of an operator with ``A A^T = I``: ``U = I``, ``s = 1``, ``V = A^T``.

    Args:
        operator: ``A``, whose own fast maps serve as ``V`` and ``V^T``.
    """

    def __init__(self, operator: LinearOperator) -> None:
        ones = torch.ones(operator.measurement_shape.numel(), dtype=torch.float64, device=operator.device)
        super().__init__(ones, operator.event_shape, operator.measurement_shape, operator.dtype)
        self.operator = operator

    def left(self, c: Tensor) -> Tensor:
        """``U c = c``, reshaped."""
        self._expect("c", c, self.singular_values.shape)
        return c.unflatten(-1, self.measurement_shape)

    def left_adjoint(self, z: Tensor) -> Tensor:
        """``U^T z = z``, flattened."""
        self._expect("z", z, self.measurement_shape)
        return z.flatten(-len(self.measurement_shape))

    def right(self, c: Tensor) -> Tensor:
        """``V c = A^T c``."""
        return self.operator.adjoint(self.left(c))

    def right_adjoint(self, x: Tensor) -> Tensor:
        """``V^T x = A x``."""
        self._expect("x", x, self.event_shape)
        return self.left_adjoint(self.operator.forward(x))

    def left_matrix(self) -> Tensor:
        """``U = I_M``."""
        return torch.eye(self.rank, dtype=self.dtype, device=self.device)

    def gram_diagonal(self) -> Tensor:
        """Ones, because ``A A^T = I``."""
        return torch.ones(self.measurement_shape, dtype=self.dtype, device=self.device)

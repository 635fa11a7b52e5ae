r"""Linear measurement operators: matrices that are rarely written down.

With N numbers in an image and M in a measurement, methods ask a linear operator for

    A x,    A^T z,    A^+ z = V diag(1/s) U^T z,    diag(A A^T),    A = U diag(s) V^T,    (c A A^T + d I)^-1 z,

all over leading batch dimensions and differentiable.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import expect
from bayes_ir.models.operators.base import Operator
from bayes_ir.models.operators.conjugate_gradients import conjugate_gradients
from bayes_ir.models.operators.svd import SVD, DenseSVD

__all__ = ["LinearOperator"]

_LARGEST_DENSE = 2**22  # entries of a matrix that is decomposed in seconds


class LinearOperator(Operator):
    """A linear map ``z = A x``.

    A subclass gives :meth:`forward` and :meth:`adjoint`, and, where its structure is known,
    :meth:`decompose` with ``structured = True``.  Without structure a small operator is decomposed as the
    matrix it is, and a large one is solved by conjugate gradients.

    Attributes:
        structured: whether :meth:`decompose` needs no M x N matrix.
    """

    linear: ClassVar[bool] = True
    structured: ClassVar[bool] = False

    @abstractmethod
    def adjoint(self, z: Tensor) -> Tensor:
        """``A^T z``: (*batch, *measurement_shape) -> (*batch, *event_shape)."""

    @property
    def has_svd(self) -> bool:
        """Whether :attr:`svd` can be had: by structure, or because the matrix is small (2048 x 2048)."""
        return self.structured or self.event_shape.numel() * self.measurement_shape.numel() <= _LARGEST_DENSE

    @cached_property
    def svd(self) -> SVD:
        """The thin decomposition ``A = U diag(s) V^T``, made at the first use and kept.

        Raises:
            ValueError: for an operator without structure that is too large to decompose as a matrix.
        """
        return self.decompose()

    def decompose(self) -> SVD:
        """Decompose the operator anew; :attr:`svd` keeps the result."""
        if not self.has_svd:
            raise ValueError(
                f"{type(self).__name__}: a matrix of {self.measurement_shape.numel()} x "
                f"{self.event_shape.numel()} is too large to decompose and this operator has no structure to use; "
                "check A.has_svd, and use A.solve or A.pinv, which then go by conjugate gradients."
            )
        return DenseSVD.of_matrix(self.to_matrix(), self.event_shape, self.measurement_shape, self.rounding)

    def pinv(self, z: Tensor, rcond: float = 0.0) -> Tensor:
        """Moore-Penrose inverse ``A^+ z = V diag(1/s) U^T z``.

        Without a decomposition (see :attr:`has_svd`) it is the least-norm solution of ``A^T A x = A^T z`` by
        conjugate gradients, up to a relative residual of 10 machine epsilons or 500 iterations, which leaves
        directions out whose singular values are small.

        Args:
            z: measurement, shape (*batch, *measurement_shape).
            rcond: singular values up to ``rcond`` times the largest count as null, beyond those
                that :attr:`svd` has already left out.

        Raises:
            ValueError: unless ``0 <= rcond < 1``, for a positive ``rcond`` without a decomposition, or for a wrong
                shape.
        """
        where = f"{type(self).__name__}.pinv"
        if not 0 <= rcond < 1:
            raise ValueError(f"{where}: expected 0 <= rcond < 1, got {rcond}.")
        if self.has_svd:
            s = self.svd.singular_values
            inverse = torch.where(s > rcond * s[:1], 1 / s, 0.0)
            return self.svd.right(self.svd.left_adjoint(z) * inverse.to(self.dtype))
        if rcond > 0:
            raise ValueError(
                f"{where}: rcond={rcond} needs singular values, and this operator is too large for them."
            )
        return conjugate_gradients(
            lambda x: self.adjoint(self.forward(x)),
            self.adjoint(z),
            len(self.event_shape),
            tolerance=10 * torch.finfo(self.dtype).eps,
            max_iterations=500,
        ).solution

    def solve(self, z: Tensor, scale: Tensor | float = 1.0, shift: Tensor | float = 1.0) -> Tensor:
        """``(scale A A^T + shift I)^-1 z``, by the decomposition or by conjugate gradients.

        Args:
            z: right-hand side, shape (*batch, *measurement_shape).
            scale: non-negative number.
            shift: positive number.

        Raises:
            ValueError: for a negative scale or a shift that is not positive, or for a wrong shape.
        """
        if not (scale >= 0 and shift > 0):
            raise ValueError(
                f"{type(self).__name__}.solve: expected scale >= 0 and shift > 0, got {scale}, {shift}."
            )
        self._expect_measurement(z)
        if self.has_svd:
            seen = self.svd.left_adjoint(z)
            solved = self.svd.left(seen / (scale * self.svd.singular_values**2 + shift).to(self.dtype))
            if self.svd.rank == self.measurement_shape.numel():
                return solved
            return solved + (z - self.svd.left(seen)) / float(shift)
        return conjugate_gradients(
            lambda r: float(scale) * self.forward(self.adjoint(r)) + float(shift) * r,
            z,
            len(self.measurement_shape),
            tolerance=10 * torch.finfo(self.dtype).eps,
            max_iterations=500,
        ).solution

    def norm(self, tolerance: float = 1e-4, max_iterations: int = 1000) -> float:
        """Largest singular value ``max |A x| / |x|``.

        From the decomposition where there is one; otherwise by power iteration on ``A^T A``, from below, until the
        estimate changes by less than ``tolerance`` of itself.
        """
        if self.has_svd:
            return float(self.svd.singular_values[:1].sum())  # zero for the zero operator
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.event_shape, generator=generator, dtype=torch.float64).to(
            self.device, self.dtype
        )
        size = 0.0
        for _ in range(max_iterations):
            x = self.adjoint(self.forward(x / x.norm()))
            previous, size = size, float(x.norm()) ** 0.5
            if abs(size - previous) <= tolerance * size:
                break
        return size

    def condition_number(self) -> float:
        """``s_1 / s_r``, the largest singular value over the smallest that is not zero.

        Raises:
            ValueError: for an operator without a decomposition, or the zero operator.
        """
        s = self.svd.singular_values
        if len(s) == 0:
            raise ValueError(
                f"{type(self).__name__}: every singular value is zero, so there is no condition number."
            )
        return float(s[0] / s[-1])

    @staticmethod
    def from_function(
        function: Callable[[Tensor], Tensor],
        event_shape: Any,
        adjoint: Callable[[Tensor], Tensor] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> LinearOperator:
        """``z = f(x)`` for a linear torch function f on batches; see :class:`FunctionOperator`."""
        from bayes_ir.models.operators.adapters import FunctionOperator

        return FunctionOperator(function, event_shape, adjoint, dtype, device)

    def to_matrix(self) -> Tensor:
        """``A`` as a matrix (M, N), both sides in row-major order."""
        n = self.event_shape.numel()
        basis = torch.eye(n, dtype=self.dtype, device=self.device).unflatten(-1, self.event_shape)
        return self.forward(basis).reshape(n, -1).mT

    def gram_diagonal(self) -> Tensor:
        """``diag(A A^T)``, the squared norms of the rows of ``A``, shaped measurement_shape.

        From the structured decomposition, or from the matrix of a small operator.

        Raises:
            ValueError: for an operator without structure that is too large for a matrix.
        """
        if self.structured or not self.has_svd:
            return self.svd.gram_diagonal()
        return self.to_matrix().square().sum(1).unflatten(0, self.measurement_shape)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy on another device or in another dtype; a decomposition already made goes along.

        A wider dtype invents no digits: the copy keeps the rounded entries, and decomposes them anew
        at the first use, because rounded factors are not orthonormal to the wider precision.
        """
        other = super().to(device, dtype)
        if other is self:
            return self
        made = vars(other).pop("svd", None)
        wider = torch.finfo(other.dtype).eps < torch.finfo(self.dtype).eps
        if isinstance(made, SVD) and not wider:
            other.svd = made.to(other)
        return other

    def __mul__(self, factor: float | Tensor) -> LinearOperator:
        """``c A`` for a number c, or a tensor of one."""
        from bayes_ir.models.operators.combination import Scaled

        return Scaled(self, factor)

    __rmul__ = __mul__

    def __neg__(self) -> LinearOperator:
        """``-A``."""
        return self * -1.0

    def __add__(self, other: LinearOperator) -> LinearOperator:
        """``A + B``."""
        from bayes_ir.models.operators.combination import Sum

        return Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __sub__(self, other: LinearOperator) -> LinearOperator:
        """``A - B``."""
        return self + (-other) if isinstance(other, LinearOperator) else NotImplemented

    def _expect_measurement(self, z: Tensor) -> None:
        expect(f"{type(self).__name__}.adjoint", "z", z, self.measurement_shape, self.dtype, self.device)

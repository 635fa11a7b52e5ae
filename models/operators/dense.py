r"""An operator that is a matrix: z = A x, with A of M rows and N columns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_shape
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.svd import SVD, DenseSVD

__all__ = ["DenseOperator"]


class DenseOperator(LinearOperator):
    """``z = A x`` for a matrix ``A``; images and measurements are flattened in row-major order.

    The decomposition is computed in float64 and keeps ``s_k > max(M, N) eps s_1`` with eps that of
    the coarsest dtype the entries have passed through: smaller ones cannot be told from rounding.

    Args:
        matrix: ``A``, shape (M, N).  May carry a gradient, which :attr:`svd` does not follow.
        event_shape: shape of an image with N numbers; (N,) if not given.
        measurement_shape: shape of a measurement with M numbers; (M,) if not given.
        dtype: dtype of the operator; that of the matrix (float32 for whole numbers) if not given.

    Raises:
        ValueError: if the matrix is not two-dimensional, empty or not finite, or if its sides do
            not fit the shapes.
        TypeError: if the matrix is complex.
    """

    structured = True  # its decomposition needs no matrix beyond its own

    def __init__(
        self,
        matrix: Tensor,
        event_shape: Any = None,
        measurement_shape: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        where = type(self).__name__
        matrix = torch.as_tensor(matrix)
        if matrix.ndim != 2 or matrix.numel() == 0:
            raise ValueError(f"{where}: expected a matrix of shape (M, N), got {tuple(matrix.shape)}.")
        if matrix.is_complex():
            raise TypeError(f"{where}: expected a real matrix, got {matrix.dtype}; stack its parts as rows.")
        rows, columns = matrix.shape
        event_shape = as_shape(where, "event_shape", (columns,) if event_shape is None else event_shape)
        measurement_shape = as_shape(
            where, "measurement_shape", (rows,) if measurement_shape is None else measurement_shape
        )
        if (measurement_shape.numel(), event_shape.numel()) != (rows, columns):
            raise ValueError(
                f"{where}: a matrix of shape ({rows}, {columns}) does not take images of shape "
                f"{tuple(event_shape)} to measurements of shape {tuple(measurement_shape)}; expected "
                f"({measurement_shape.numel()}, {event_shape.numel()})."
            )
        if dtype is None:
            dtype = matrix.dtype if matrix.is_floating_point() else torch.float32
        super().__init__(event_shape, measurement_shape, dtype, matrix.device)
        self.matrix = matrix.to(self.dtype)  # (M, N)
        if matrix.is_floating_point():
            self.rounding = max(torch.finfo(self.dtype).eps, torch.finfo(matrix.dtype).eps)
        if not self.matrix.isfinite().all():
            bad = int((~self.matrix.isfinite()).sum())
            raise ValueError(f"{where}: {bad} of the {matrix.numel()} entries are not finite in {dtype}.")

    def forward(self, x: Tensor) -> Tensor:
        """``A x`` as a matrix product."""
        z = x.flatten(-len(self.event_shape)) @ self.matrix.mT
        return z.unflatten(-1, self.measurement_shape)

    def adjoint(self, z: Tensor) -> Tensor:
        """``A^T z`` as a matrix product."""
        self._expect_measurement(z)
        x = z.flatten(-len(self.measurement_shape)) @ self.matrix
        return x.unflatten(-1, self.event_shape)

    def decompose(self) -> SVD:
        """The decomposition of the matrix, computed in float64."""
        return DenseSVD.of_matrix(self.matrix, self.event_shape, self.measurement_shape, self.rounding)

    def to_matrix(self) -> Tensor:
        """``A`` itself."""
        return self.matrix

    def gram_diagonal(self) -> Tensor:
        """Squared row norms; needs no decomposition."""
        return self.matrix.square().sum(-1).unflatten(0, self.measurement_shape)

    def extra_repr(self) -> str:
        """The size of the matrix stands for the matrix."""
        rows, columns = self.matrix.shape
        return f"matrix=<{rows} x {columns}>, {super().extra_repr()}"

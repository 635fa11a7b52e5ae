r"""Compressive sensing with an i.i.d. Gaussian matrix: A_mn ~ N(0, 1/M).

The squared norm of a row is N/M on average and that of the whole matrix is N, whatever M.
"""

from __future__ import annotations

from typing import Any

import torch

from bayes_ir.models.operators._checks import as_count, as_shape, seeded_generator
from bayes_ir.models.operators.dense import DenseOperator

__all__ = ["GaussianSensing"]


class GaussianSensing(DenseOperator):
    """``z = A x``, ``A_mn ~ N(0, 1/M)`` independent.

    The entries are drawn in float64 and then cast, so that a seed means one matrix in every
    dtype; the first rows drawn do not depend on how many follow.

    Args:
        measurements: number of measurements ``M``.
        event_shape: shape of an image with N numbers.
        seed: seed of the matrix.
        dtype: dtype of the operator.

    Raises:
        ValueError: if ``measurements`` or a size in ``event_shape`` is below one.

    Source: Meng and Kabashima 2023 (QCS-SGM, arXiv 2211.13006).
    """

    def __init__(
        self, measurements: int, event_shape: Any, seed: int, dtype: torch.dtype = torch.float32
    ) -> None:
        where = type(self).__name__
        self.seed = seed
        m = as_count(where, "measurements", measurements)
        n = as_shape(where, "event_shape", event_shape).numel()
        matrix = torch.empty(m, n, dtype=dtype)
        generator = seeded_generator(where, seed)
        for row in matrix:  # row by row: the float64 numbers never stand in memory all at once
            row.copy_(torch.randn(n, dtype=torch.float64, generator=generator) / m**0.5)
        super().__init__(matrix, event_shape, dtype=dtype)

    def extra_repr(self) -> str:
        """The settings, not the matrix."""
        m = self.measurement_shape.numel()
        return f"measurements={m}, event_shape={tuple(self.event_shape)}, seed={self.seed}"

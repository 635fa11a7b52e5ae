r"""Compressive sensing with an ill-conditioned matrix: A = U diag(d) V^T.

U and V are random orthonormal factors, uniform by Haar's measure, and the r = min(M, N) singular
values fall geometrically,

    d_i = c kappa^{-i/(r-1)},  i = 0 .. r-1,     sum_i d_i^2 = N,

so that d_0 / d_{r-1} = kappa exactly and ||A||_F^2 = N as for GaussianSensing.

The published code sets d_i^2, not d_i, proportional to kappa^{-i/M}: the condition number
of its matrices is kappa^{(M-1)/(2M)}, about sqrt(kappa), 31.35 for "kappa = 1000" and M = 400.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_count, as_shape, seeded_generator
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.svd import SVD, DenseSVD

__all__ = ["IllConditionedSensing"]


def _haar(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Random orthonormal columns (rows, columns), float64, uniform by Haar's measure."""
    q, r = torch.linalg.qr(torch.randn(rows, columns, dtype=torch.float64, generator=generator))
    # A QR routine chooses the signs by its own convention; diag(R) > 0 makes Q unique, hence uniform.
    return q * torch.where(r.diagonal() < 0, -1.0, 1.0)


class IllConditionedSensing(LinearOperator):
    """``z = U diag(d) V^T x`` with condition number ``d_max / d_min`` as asked.

    The decomposition is known, not computed; it is drawn in float64 at the first use.

    Args:
        measurements: number of measurements ``M``.
        event_shape: shape of an image with N numbers.
        condition_number: ``kappa = d_max / d_min >= 1``.
        seed: seed of the orthonormal factors.
        as_published: take ``d_i^2`` proportional to ``kappa^{-i/M}``, to reproduce published figures.
        dtype: dtype of the operator.

    Raises:
        ValueError: if ``condition_number`` is below one or infinite, or above one for an operator
            with a single singular value.

    Source: Meng and Kabashima 2023 (QCS-SGM+, arXiv 2302.00919).
    """

    structured = True

    def __init__(
        self,
        measurements: int,
        event_shape: Any,
        condition_number: float,
        seed: int,
        as_published: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        m = as_count(where, "measurements", measurements)
        if not 1 <= condition_number < math.inf:
            raise ValueError(f"{where}: expected a finite condition_number >= 1, got {condition_number}.")
        rank = min(m, as_shape(where, "event_shape", event_shape).numel())
        if rank == 1 and condition_number > 1:
            raise ValueError(
                f"{where}: with one singular value the condition number is 1, got {condition_number}; "
                "take more measurements or condition_number=1."
            )
        super().__init__(event_shape, (m,), dtype)
        seeded_generator(where, seed)  # refuses a bad seed here, not at the first use
        self._condition_number, self.seed, self.as_published = condition_number, seed, as_published

    def decompose(self) -> SVD:
        """Draw ``U`` and ``V`` from the seed, in float64, and set ``d``."""
        m, n = self.measurement_shape.numel(), self.event_shape.numel()
        r = min(m, n)
        generator = seeded_generator(type(self).__name__, self.seed)
        u, v = _haar(m, r, generator), _haar(n, r, generator)
        exponent = 0.5 / r if self.as_published else 1 / max(r - 1, 1)
        d = self._condition_number ** (-exponent * torch.arange(r, dtype=torch.float64))
        d = d * (n / d.square().sum()).sqrt()
        factors = DenseSVD(u, d, v, self.event_shape, self.measurement_shape)
        return factors.cast(self.device, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``U diag(d) V^T x``."""
        return self.svd.left(self._d * self.svd.right_adjoint(x))

    def adjoint(self, z: Tensor) -> Tensor:
        """``V diag(d) U^T z``."""
        self._expect_measurement(z)
        return self.svd.right(self._d * self.svd.left_adjoint(z))

    @property
    def _d(self) -> Tensor:
        return self.svd.singular_values.to(self.dtype)

    def extra_repr(self) -> str:
        """The settings, not the factors."""
        published = ", as_published=True" if self.as_published else ""
        return (
            f"measurements={self.measurement_shape.numel()}, event_shape={tuple(self.event_shape)}, "
            f"condition_number={self._condition_number}, seed={self.seed}{published}"
        )

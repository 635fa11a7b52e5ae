r"""Compressive sensing with a correlated matrix: A = R_L^{1/2} G R_R^{1/2} / sqrt(M).

G is i.i.d. standard normal and the covariances of rows and columns are Toeplitz,

    (R_L)_ij = rho^|i-j|  (M x M),    (R_R)_ij = rho^|i-j|  (N x N),

hence Cov(A_mn, A_kl) = rho^{|m-k| + |n-l|} / M and E ||A||_F^2 = N.  Any square root
R = L L^T gives the same law, because G is rotation invariant; with Cholesky factors every row and
every column is a stationary autoregressive process, and A takes O(M N) operations and no
factorisation:

    a_i = rho a_{i-1} + sqrt(1 - rho^2) g_i,    a_0 = g_0.

The published code takes *element-wise* square roots instead: A = K_L G K_R / sqrt(M) with
K_ij = rho^{|i-j|/2}.  Its covariance is K K^T, not R, and ||A||_F^2 grows: at rho = 0.4, M = 40,
N = 78 it is 410 on average (sd 53) instead of 78.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_count, as_shape, seeded_generator
from bayes_ir.models.operators.dense import DenseOperator

__all__ = ["CorrelatedSensing"]


def _autoregress(g: Tensor, rho: float) -> Tensor:
    """``L g`` for the Cholesky factor of ``rho^|i-j|``: (n, columns) -> (n, columns)."""
    a = g.clone(memory_format=torch.contiguous_format)  # its rows in one piece, after a transposition too
    for i in range(1, len(g)):
        a[i] = rho * a[i - 1] + (1 - rho**2) ** 0.5 * g[i]
    return a


def _element_wise_root(size: int, rho: float) -> Tensor:
    i = torch.arange(size, dtype=torch.float64)
    return rho ** ((i[:, None] - i).abs() / 2)


class CorrelatedSensing(DenseOperator):
    """``z = A x`` with ``Cov(A_mn, A_kl) = rho^{|m-k| + |n-l|} / M``.

    Args:
        measurements: number of measurements ``M``.
        event_shape: shape of an image with N numbers, correlated in row-major order.
        correlation: ``rho`` of neighbouring rows and of neighbouring columns, in (-1, 1).
        seed: seed of the matrix.
        as_published: take element-wise square roots, to reproduce published figures; needs
            ``rho >= 0``.
        dtype: dtype of the operator.

    Raises:
        ValueError: if ``correlation`` is not inside (-1, 1), or negative as published.

    Source: Meng and Kabashima 2023 (QCS-SGM+, arXiv 2302.00919).
    """

    def __init__(
        self,
        measurements: int,
        event_shape: Any,
        correlation: float,
        seed: int,
        as_published: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        m = as_count(where, "measurements", measurements)
        n = as_shape(where, "event_shape", event_shape).numel()
        if not -1 < correlation < 1:
            raise ValueError(f"{where}: expected -1 < correlation < 1, got {correlation}.")
        if as_published and correlation < 0:
            raise ValueError(
                f"{where}: as_published takes square roots of powers of the correlation, got {correlation}; "
                "expected correlation >= 0, or as_published=False."
            )
        self.correlation, self.seed, self.as_published = correlation, seed, as_published
        g = torch.randn(m, n, dtype=torch.float64, generator=seeded_generator(where, seed))
        if as_published:
            a = _element_wise_root(m, correlation) @ g @ _element_wise_root(n, correlation)
        else:
            a = _autoregress(_autoregress(g, correlation).mT, correlation).mT
        super().__init__((a / m**0.5).contiguous(), event_shape, dtype=dtype)

    def extra_repr(self) -> str:
        """The settings, not the matrix."""
        published = ", as_published=True" if self.as_published else ""
        return (
            f"measurements={self.measurement_shape.numel()}, event_shape={tuple(self.event_shape)}, "
            f"correlation={self.correlation}, seed={self.seed}{published}"
        )

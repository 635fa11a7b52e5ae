r"""Compressive sensing by some Fourier coefficients of real images.

The orthonormal DFT F of a real image has F_{-k} = conj(F_k): one frequency of every pair {k, -k} holds
what the pair knows, two real numbers,

    z = sqrt(2) Re F_k,    z' = sqrt(2) Im F_k,

and the few k = -k modulo (H, W) have one real number F_k.  Rows of these transforms are orthonormal: a pair
counts twice in |x|^2 = sum_k |F_k|^2, hence sqrt(2).  Noise of standard deviation s on z and z' is complex
noise of variance s^2 on F_k.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_image_shape, seeded_generator
from bayes_ir.models.operators._image_checks import as_low_frequencies, as_share, check_low_frequencies_fit
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.real_fourier import (
    half_plane,
    half_spectrum,
    inverse_half_spectrum,
    pack,
    packing,
    unpack,
)
from bayes_ir.models.operators.svd import SVD, OrthonormalRowsSVD

__all__ = ["SubsampledDFT"]


class SubsampledDFT(LinearOperator):
    """``z = (sqrt(2) Re F_k, sqrt(2) Im F_k)``: a share of the Fourier coefficients of every channel of real images.

    The coefficient is sqrt(2) times the orthonormal DFT; a frequency that is its own negative has only the
    real part, without the factor.  All channels share the choice.  Rows have unit norm.

    Args:
        event_shape: shape (C, H, W) of a real image.
        ratio: share of the frequencies of a half plane that is kept, rounded down to a whole number of them,
            close to the share of real numbers, ``M / (H W)``.
        seed: seed of the choice; a larger ratio keeps the frequencies of a smaller one.
        low_frequencies: number ``L``: the frequencies with ``|k_1| < L`` and ``|k_2| < L`` are always kept, and
            only the others are drawn; 1 keeps the mean.
        dtype: dtype of the operator.  A measurement has shape (C, M).

    Attributes:
        frequencies: ``(k_1, k_2)`` in cycles per image, int64, shape (K, 2), ``-H/2 < k_1 <= H/2`` and
            ``0 <= k_2 <= W/2``: first the ``pairs`` that give two numbers, then those that give one.
        pairs: number of frequencies that give two numbers.  A channel of z holds the real parts of these, their
            imaginary parts, and the rest.

    Raises:
        ValueError: for a ratio outside (0, 1] or that keeps nothing, or if the ratio does not hold the low
            frequencies.
    """

    structured = True

    def __init__(
        self,
        event_shape: Any,
        ratio: float = 0.25,
        seed: int = 0,
        low_frequencies: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        shape = as_image_shape(where, event_shape)
        channels, height, width = shape
        plane = half_plane(height, width)
        p = len(plane.pairs)
        place = torch.cat([plane.pairs, plane.singles])
        k1, k2 = place // (width // 2 + 1), place % (width // 2 + 1)
        k1 = torch.where(2 * k1 > height, k1 - height, k1)
        count = as_share(where, ratio, len(place), "frequencies")
        low = as_low_frequencies(where, low_frequencies)
        first = (k1.abs() < low) & (k2 < low)
        check_low_frequencies_fit(where, int(first.sum()), count)
        drawn = torch.randperm(len(place), generator=seeded_generator(where, seed))
        kept = torch.cat([first.nonzero().squeeze(-1), drawn[~first[drawn]]])[:count]
        pairs, singles = kept[kept < p], kept[kept >= p]
        chosen = torch.cat([pairs, pairs + p, singles + p])
        super().__init__(shape, (channels, len(chosen)), dtype)
        self.ratio, self.seed, self.low_frequencies = float(ratio), seed, low
        self.pairs = len(pairs)
        self.frequencies = torch.stack([k1, k2], dim=-1)[torch.cat([pairs, singles])]  # (K, 2)
        tables = packing(height, width, chosen)
        self.source, self.origin = tables.source, tables.origin
        self.weight, self.scale = tables.weight.to(dtype), tables.scale.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Transform, select."""
        return pack(half_spectrum(x), self.source, self.weight)

    def adjoint(self, z: Tensor) -> Tensor:
        """Put the coefficients back with their conjugates, transform back."""
        self._expect_measurement(z)
        _, height, width = self.event_shape
        return inverse_half_spectrum(unpack(z, self.origin, self.scale, height), width)

    def decompose(self) -> SVD:
        """``U = I``, ``s = 1``, ``V = A^T``."""
        return OrthonormalRowsSVD(self)

    def extra_repr(self) -> str:
        """The settings, not the frequencies."""
        low = f", low_frequencies={self.low_frequencies}" if self.low_frequencies else ""
        return f"event_shape={tuple(self.event_shape)}, ratio={self.ratio}, seed={self.seed}{low}"

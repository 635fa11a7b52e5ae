r"""Compressive sensing by some coefficients of an orthonormal transform of every channel.

With T orthonormal and S a choice of M of its N rows, A = S T has A A^T = I.  No matrix is formed.

Walsh-Hadamard: z = (H P x)_{0 .. M-1}, P a random permutation of the pixels and H the Walsh-Hadamard
transform in Sylvester's order.  After P the rows of H are random patterns of +-1/sqrt(N), but for the first
one, which is constant and measures the mean.

The released code of DDRM and DDNM permutes the *coefficients* instead: M random rows of H, applied to the
image in raster order.  Those are Walsh functions of an unscrambled image: most see little of its energy, and
the mean is measured with probability M/N only.

Cosines: M coefficients of the two-dimensional DCT-II, drawn at random, but for a square of the lowest
frequencies that can be kept always: an image has nearly all of its energy there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_image_shape, seeded_generator
from bayes_ir.models.operators._gather import take
from bayes_ir.models.operators._image_checks import as_low_frequencies, as_share, check_low_frequencies_fit
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.svd import SVD, OrthonormalRowsSVD
from bayes_ir.models.operators.transforms import dct, inverse_dct, walsh_hadamard

__all__ = ["SubsampledDCT", "WalshHadamardSensing"]


class WalshHadamardSensing(LinearOperator):
    """``z = S H P x``: a share of the Walsh-Hadamard coefficients of every channel with its pixels permuted.

    All channels share the permutation.  Rows have unit norm: ``noise_std`` has the unit of a pixel.

    Args:
        event_shape: shape (C, H, W) of an image, H W a power of two.
        ratio: share ``M / (H W)`` of the coefficients kept, rounded down to a whole ``M``.
        seed: seed of the permutation; the coefficients of a smaller ratio are the first of a larger one.
        as_published: permute the coefficients, not the pixels, to measure what the released code measures
            (its vectors list all channels of a coefficient together; here a channel stands together).
        dtype: dtype of the operator.  A measurement has shape (C, M).

    Raises:
        ValueError: if H W is not a power of two, or for a ratio outside (0, 1] or that keeps nothing.

    Source: Kawar, Elad, Ermon and Song 2022 (DDRM, arXiv 2201.11793); Wang, Yu and Zhang 2023 (DDNM,
    arXiv 2212.00490), where the ratio is 0.25.
    """

    structured = True

    def __init__(
        self,
        event_shape: Any,
        ratio: float = 0.25,
        seed: int = 0,
        as_published: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        shape = as_image_shape(where, event_shape)
        n = shape[1:].numel()
        if n & (n - 1):
            raise ValueError(
                f"{where}: expected images whose pixels are a power of two, got {shape[1]} x {shape[2]} = {n} (the "
                f"next is {1 << n.bit_length()}); pad or resize them, or try SubsampledDCT, which takes any size."
            )
        m = as_share(where, ratio, n, "coefficients")
        super().__init__(shape, (shape[0], m), dtype)
        self.ratio, self.seed, self.as_published = float(ratio), seed, as_published
        mixed, plain = torch.randperm(n, generator=seeded_generator(where, seed)), torch.arange(n)
        self.pixels = plain if as_published else mixed  # (N,)
        self.places = self.pixels.argsort()  # (N,), undoes the permutation
        self.rows = (mixed if as_published else plain)[:m].clone()  # (M,)

    def forward(self, x: Tensor) -> Tensor:
        """Permute, transform, select."""
        return take(walsh_hadamard(take(x.flatten(-2), self.pixels)), self.rows)

    def adjoint(self, z: Tensor) -> Tensor:
        """Put the coefficients back, transform, undo the permutation."""
        self._expect_measurement(z)
        c = z.new_zeros(*z.shape[:-1], len(self.pixels)).index_copy(-1, self.rows, z)
        return take(walsh_hadamard(c), self.places).unflatten(-1, self.event_shape[1:])

    def decompose(self) -> SVD:
        """``U = I``, ``s = 1``, ``V = A^T``."""
        return OrthonormalRowsSVD(self)

    def extra_repr(self) -> str:
        """The settings, not the permutation."""
        published = ", as_published=True" if self.as_published else ""
        return f"event_shape={tuple(self.event_shape)}, ratio={self.ratio}, seed={self.seed}{published}"


class SubsampledDCT(LinearOperator):
    """``z = S T x``: a share of the two-dimensional cosine coefficients (DCT-II) of every channel.

    All channels share the choice.  Rows have unit norm: ``noise_std`` has the unit of a pixel.

    Args:
        event_shape: shape (C, H, W) of an image.
        ratio: share ``M / (H W)`` of the coefficients kept, rounded down to a whole ``M``.
        seed: seed of the choice; the coefficients of a smaller ratio are the first of a larger one.
        low_frequencies: number ``L`` of frequencies in each direction: the coefficients (k_1, k_2) with both
            below ``L`` come first, and only the others are drawn; 1 keeps the mean.
        dtype: dtype of the operator.  A measurement has shape (C, M).

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
        _, height, width = shape
        m = as_share(where, ratio, height * width, "coefficients")
        low = as_low_frequencies(where, low_frequencies)
        k = torch.arange(height * width)
        first = (k // width < low) & (k % width < low)
        check_low_frequencies_fit(where, int(first.sum()), m)
        super().__init__(shape, (shape[0], m), dtype)
        self.ratio, self.seed, self.low_frequencies = float(ratio), seed, low
        drawn = torch.randperm(height * width, generator=seeded_generator(where, seed))
        self.rows = torch.cat([k[first], drawn[~first[drawn]]])[:m]  # (M,), k_1 W + k_2

    def forward(self, x: Tensor) -> Tensor:
        """Transform the rows and the columns, select."""
        return take(dct(dct(x).mT).mT.flatten(-2), self.rows)

    def adjoint(self, z: Tensor) -> Tensor:
        """Put the coefficients back, transform back."""
        self._expect_measurement(z)
        _, height, width = self.event_shape
        c = (
            z.new_zeros(*z.shape[:-1], height * width)
            .index_copy(-1, self.rows, z)
            .unflatten(-1, (height, width))
        )
        return inverse_dct(inverse_dct(c).mT).mT

    def decompose(self) -> SVD:
        """``U = I``, ``s = 1``, ``V = A^T``."""
        return OrthonormalRowsSVD(self)

    def extra_repr(self) -> str:
        """The settings, not the coefficients."""
        low = f", low_frequencies={self.low_frequencies}" if self.low_frequencies else ""
        return f"event_shape={tuple(self.event_shape)}, ratio={self.ratio}, seed={self.seed}{low}"

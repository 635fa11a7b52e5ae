r"""Phase retrieval: the magnitudes of an oversampled Fourier transform, as a far-field detector counts them.

The image, sides H and W, is surrounded by zeros, p_h rows above and below and p_w columns on either side,
and its orthonormal two-dimensional DFT is taken without the phases,

    z = |F pad(x)|,    p_h = floor(o H / 8),    p_w = floor(o W / 8),    |z| = |x|,

zero frequency in the middle of z.  This is the convention of the DPS experiments, where o is called
"oversample": o = 2 pads a 256 x 256 image to 384 x 384, a ratio of 1 + o/4 = 1.5 per axis, and o = 4 doubles
each side.  The magnitudes of a real image are symmetric under k -> -k, so half of them are independent.

What z does not tell apart, at any oversampling: x and -x, x and its point reflection, and shifts of x that
keep it inside its frame.  Where a magnitude is zero it has no derivative; the subgradient 0 is used.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_ir.models.operators._checks import as_image_shape
from bayes_ir.models.operators._image_checks import as_number
from bayes_ir.models.operators.base import Operator

__all__ = ["PhaseRetrieval"]


class PhaseRetrieval(Operator):
    """``z = |F pad(x)|``: magnitudes of the oversampled Fourier transform; subgradient 0 where z = 0.

    Differentiable wherever no magnitude vanishes.  z has the unit of x, because F is orthonormal, and the
    shape (C, H + 2 p_h, W + 2 p_w); the channels are measured separately.

    Args:
        event_shape: (C, H, W) of a real image.
        oversampling: ``o >= 0``; zeros of width ``floor(o/8)`` of the side on each side, so that the sampling
            ratio per axis is ``1 + o/4``.  0 pads nothing.
        dtype: dtype of the operator.

    Attributes:
        padding: ``(p_h, p_w)``, in pixels.

    Raises:
        TypeError: if ``oversampling`` is no number.
        ValueError: if ``event_shape`` is not (C, H, W), if ``oversampling`` is negative or not finite, or so small
            that it pads nothing.

    Source: Chung et al. 2023 (DPS, arXiv 2209.14687), appendix on phase retrieval.
    """

    def __init__(
        self, event_shape: Any, oversampling: float = 2.0, dtype: torch.dtype = torch.float32
    ) -> None:
        where = type(self).__name__
        channels, height, width = as_image_shape(where, event_shape)
        oversampling = as_number(where, "oversampling", oversampling)
        if oversampling < 0:
            raise ValueError(f"{where}: expected oversampling >= 0, got {oversampling}.")
        rows, columns = (math.floor(oversampling * side / 8 + 1e-9) for side in (height, width))
        if oversampling > 0 and 0 in (rows, columns):
            raise ValueError(
                f"{where}: oversampling={oversampling} pads ({rows}, {columns}) pixels around images of "
                f"{height} x {width}; try oversampling >= {8 / min(height, width):g}, or 0 for no padding."
            )
        super().__init__(event_shape, (channels, height + 2 * rows, width + 2 * columns), dtype)
        self.oversampling, self.padding = oversampling, (rows, columns)
        # A real FFT computes the columns from 0 on; the others are these, from the rows -k.
        k = torch.arange(self.measurement_shape[1]) - self.measurement_shape[1] // 2
        self.rows, self.opposite_rows = k % len(k), -k % len(k)  # (H',)

    def forward(self, x: Tensor) -> Tensor:
        """Pad, transform, forget the phases."""
        if x.numel() == 0:  # the FFT refuses an empty batch
            return x.new_zeros(*x.shape[:-3], *self.measurement_shape)
        rows, columns = self.padding
        spectrum = torch.fft.rfft2(F.pad(x, (columns, columns, rows, rows)), norm="ortho")
        magnitudes = spectrum.abs()  # of gradient 0 at 0
        right = magnitudes.index_select(-2, self.rows)[..., : (self.measurement_shape[2] + 1) // 2]
        left = magnitudes.index_select(-2, self.opposite_rows)[..., 1:].flip(-1)
        return torch.cat([left, right], -1)

    def extra_repr(self) -> str:
        return f"event_shape={tuple(self.event_shape)}, oversampling={self.oversampling}"

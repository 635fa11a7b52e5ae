r"""Quantisation before transmission: z = the nearest of 2^b levels.

With pixels in [low, high] and L = 2^b levels that include both ends,

    z = low + (high - low) / (L - 1) * round((L - 1) u),    u = clip((x - low) / (high - low), 0, 1),

ties to the even level.  b = 8 is what an image file with one byte per channel stores.  The map is
piecewise constant: its true gradient is zero almost everywhere, and useless.  What is returned is the
straight-through gradient, that of the map without the rounding: one inside [low, high], zero where x
is clipped.  A level is its own image, z = A(z), so the identity is a pseudo-inverse: A(A^+(A(x))) = A(x).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_count, expect
from bayes_ir.models.operators._image_checks import as_data_range
from bayes_ir.models.operators.base import Operator

__all__ = ["Rounding"]


def straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    """The value of ``rounded`` with the gradient of ``x``, in reverse and in forward mode."""
    return rounded.detach() + (x - x.detach())


class Rounding(Operator):
    """``z = nearest of 2^b levels``: each pixel as it is sent in b bits; straight-through gradient.

    The gradient is one inside ``data_range`` and zero where x is clipped.

    Args:
        event_shape: shape of an image, any number of dimensions.
        bits: ``b``, bits per number, from 1 to 16.
        data_range: smallest and largest level, in the unit of x; z has the same unit.
        dtype: dtype of the operator.

    Raises:
        TypeError: if ``bits`` is no whole number or ``data_range`` no pair of numbers.
        ValueError: if ``bits`` is not in 1..16, or ``data_range`` is empty.

    Source: straight-through gradient, Bengio, Leonard and Courville 2013 (arXiv 1308.3432).
    """

    def __init__(
        self,
        event_shape: Any,
        bits: int = 8,
        data_range: tuple[float, float] = (0.0, 1.0),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        super().__init__(event_shape, event_shape, dtype)
        self.bits = as_count(where, "bits", bits)
        if self.bits > 16:
            raise ValueError(
                f"{where}: expected bits in 1..16, got {self.bits}; beyond that the rounding of float32 itself "
                "is felt, and Identity with a little noise says the same."
            )
        self.data_range = as_data_range(where, data_range)

    @property
    def levels(self) -> int:
        """Number of levels, ``2^b``."""
        return 2**self.bits

    @property
    def step(self) -> float:
        """Distance of two levels, in the unit of x; the largest error of a pixel in range is half of it."""
        low, high = self.data_range
        return (high - low) / (self.levels - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Clip, round, and scale back."""
        low, high = self.data_range
        level = ((x - low) / (high - low)).clamp(0, 1) * (self.levels - 1)
        return low + straight_through(level, level.round()) * ((high - low) / (self.levels - 1))

    def pinv(self, z: Tensor) -> Tensor:
        """``A^+ z = z``: a level is decoded as itself."""
        expect(f"{type(self).__name__}.pinv", "z", z, self.measurement_shape, self.dtype, self.device)
        return z

    def extra_repr(self) -> str:
        return f"event_shape={tuple(self.event_shape)}, bits={self.bits}, data_range={self.data_range}"

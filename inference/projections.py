r"""Projections onto constraint sets, for :class:`bayes_ir.inference.kernels.projected.Projected`.

    box      {x : low <= x <= high}     P(x) = min(max(x, low), high)
    affine   {x : B x = c}              P(x) = x - B^+ (B x - c)

Each takes images (*batch, *event_shape) and gives the nearest image of its set.  Any callable that does so, such as a
simulator that makes its input physically possible, may stand in their place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from bayes_ir.models.operators import LinearOperator

__all__ = ["AffineProjection", "BoxProjection"]


@dataclass(frozen=True)
class BoxProjection:
    """``min(max(x, low), high)``; without bounds given, non-negativity.

    Attributes:
        low: lower bound, in units of the image.
        high: upper bound.

    Raises:
        ValueError: unless ``low < high``.
    """

    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"BoxProjection: expected low < high, got low={self.low}, high={self.high}.")

    def __call__(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


@dataclass(frozen=True, eq=False)
class AffineProjection:
    """``x - B^+ (B x - c)``, the nearest image with ``B x = c``; the least-squares one if there is none.

    Attributes:
        operator: B, of the dtype and on the device of the images.
        value: c, shape ``operator.measurement_shape``.

    Raises:
        ValueError: for a value of another shape.
    """

    operator: LinearOperator
    value: Tensor

    def __post_init__(self) -> None:
        if self.value.shape != self.operator.measurement_shape:
            raise ValueError(
                f"AffineProjection: expected a value of shape {tuple(self.operator.measurement_shape)}, as "
                f"{self.operator!r} gives, got {tuple(self.value.shape)}."
            )

    def __call__(self, x: Tensor) -> Tensor:
        return x - self.operator.pinv(self.operator.forward(x) - self.value)

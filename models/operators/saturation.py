r"""Tone curves of a camera, pixel by pixel: saturation and gamma.

A picture taken with too much gain loses what is brighter or darker than the sensor's range,

    z = clip(mid + g (x - mid), low, high),    mid = (low + high) / 2;

with g = 2 and pixels in [-1, 1] this is z = clip(2 x, -1, 1), the high-dynamic-range task of DAPS.
A response curve bends the scale but keeps it,

    z = low + (high - low) u^gamma,    u = max((x - low) / (high - low), 0).

Saturation has slope g inside (and on the edge of) the range and zero outside, where a measurement says only
"at least" or "at most".  Gamma has slope gamma u^(gamma - 1), and zero where u is clipped; for gamma < 1 the
slope grows without bound as u falls to 0, and is set to zero at u = 0 itself, so that no gradient is infinite
or undefined.  Both have pseudo-inverses with A(A^+(A(x))) = A(x).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import expect
from bayes_ir.models.operators._image_checks import as_data_range, as_positive
from bayes_ir.models.operators.base import Operator

__all__ = ["Gamma", "Saturation"]


def power(u: Tensor, exponent: float) -> Tensor:
    """``max(u, 0) ** exponent``, of gradient zero where ``u <= 0``."""
    lit = u > 0
    # The inner where keeps u = 0 out of pow: its infinite slope times a zero would be NaN.
    return torch.where(lit, torch.where(lit, u, 1.0).pow(exponent), 0.0)


class Saturation(Operator):
    """``z = clip(mid + g (x - mid), low, high)``: the sensor saturates; gradient g, zero where clipped.

    Args:
        event_shape: shape of an image, any number of dimensions.
        gain: ``g``, positive; above 1 the ends of the range are lost, up to 1 nothing in range is.
        data_range: ``(low, high)``, darkest and brightest value in the unit of x; z has the same unit.
        dtype: dtype of the operator.

    Raises:
        TypeError: if ``gain`` is no number or ``data_range`` no pair of numbers.
        ValueError: if ``gain`` is not positive, or ``data_range`` is empty.

    Source: Zhang et al. 2024 (DAPS, arXiv 2407.01521), high dynamic range.
    """

    def __init__(
        self,
        event_shape: Any,
        gain: float = 2.0,
        data_range: tuple[float, float] = (0.0, 1.0),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        super().__init__(event_shape, event_shape, dtype)
        self.gain, self.data_range = as_positive(where, "gain", gain), as_data_range(where, data_range)

    @property
    def _middle(self) -> float:
        return (self.data_range[0] + self.data_range[1]) / 2

    def forward(self, x: Tensor) -> Tensor:
        """Amplify about the middle of the range, then clip."""
        return (self._middle + self.gain * (x - self._middle)).clamp(*self.data_range)

    def pinv(self, z: Tensor) -> Tensor:
        """``mid + (z - mid) / g``: the unsaturated image; a clipped pixel is put at the edge of the clipping."""
        expect(f"{type(self).__name__}.pinv", "z", z, self.measurement_shape, self.dtype, self.device)
        return self._middle + (z - self._middle) / self.gain

    def extra_repr(self) -> str:
        return f"event_shape={tuple(self.event_shape)}, gain={self.gain}, data_range={self.data_range}"


class Gamma(Operator):
    """``z = low + (high - low) u^gamma``, u the image scaled to [0, 1]: a camera's response curve.

    The gradient is ``gamma u^(gamma - 1)``, and zero where ``x <= low``; above ``high`` nothing is clipped.

    Args:
        event_shape: shape of an image, any number of dimensions.
        gamma: exponent, positive; above 1 it darkens (a screen has 2.2), below 1 it brightens.
        data_range: ``(low, high)``, black and white in the unit of x; z has the same unit.
        dtype: dtype of the operator.

    Raises:
        TypeError: if ``gamma`` is no number or ``data_range`` no pair of numbers.
        ValueError: if ``gamma`` is not positive, or ``data_range`` is empty.

    Source: Poynton 1998, "The rehabilitation of gamma".
    """

    def __init__(
        self,
        event_shape: Any,
        gamma: float = 2.2,
        data_range: tuple[float, float] = (0.0, 1.0),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        super().__init__(event_shape, event_shape, dtype)
        self.gamma, self.data_range = as_positive(where, "gamma", gamma), as_data_range(where, data_range)

    def forward(self, x: Tensor) -> Tensor:
        """The power of the pixel's height above black."""
        low, high = self.data_range
        return low + (high - low) * power((x - low) / (high - low), self.gamma)

    def pinv(self, z: Tensor) -> Tensor:
        """``low + (high - low) v^(1 / gamma)``, v the measurement scaled to [0, 1]; the inverse above black."""
        expect(f"{type(self).__name__}.pinv", "z", z, self.measurement_shape, self.dtype, self.device)
        low, high = self.data_range
        return low + (high - low) * power((z - low) / (high - low), 1 / self.gamma)

    def extra_repr(self) -> str:
        return f"event_shape={tuple(self.event_shape)}, gamma={self.gamma}, data_range={self.data_range}"

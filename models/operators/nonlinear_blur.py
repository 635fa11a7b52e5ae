r"""Nonlinear deblurring: motion adds up light, and the camera records a curve of it.

A frame taken during an exposure is the mean of the sharp frames S_s that the sensor saw, in units of light,
bent by the response g of the camera (equations 1 and 2 of Nah et al.):

    z = g( sum_s k_s S_s ),    S_s = g^{-1}(x shifted by s),    g(v) = v^{1/gamma},  gamma = 2.2,

with k_s >= 0 the share of the exposure spent at the shift s, sum_s k_s = 1.  For a camera that moves in
front of a still scene this is one convolution between two curves,

    z = (k * u^gamma)^{1/gamma},    u = max((x - low) / (high - low), 0),

both sides in the unit of the pixels through data_range = (low, high).  Bright points leave brighter streaks
than the linear blur k * x would: at gamma = 1 the map is linear for x >= low.

k is fixed when the operator is made.  The operator of the DPS experiments, a network, draws a new kernel on
each call, so that the likelihood is not that of the measurement.

The derivative dz_p/dx_q = k_{p-q} (u_q / v_p)^{gamma - 1}, v = z scaled to [0, 1], is at most
k_{p-q}^{1/gamma} for gamma >= 1, although g alone has infinite slope at black.  It is set to 0 where u_q = 0
or v_p = 0.  The sum runs over the non-zero taps one by one, not through an FFT, whose rounding error of 1e-7 of
the brightest pixel would become 7e-4 in a black one.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_image_shape
from bayes_ir.models.operators._image_checks import as_data_range, as_kernel, as_positive
from bayes_ir.models.operators.base import Operator
from bayes_ir.models.operators.blur_kernels import motion_kernel
from bayes_ir.models.operators.convolution import continuation
from bayes_ir.models.operators.saturation import power
from bayes_ir.models.operators.spatially_varying_blur import as_boundary, extend

__all__ = ["NonlinearBlur"]


class NonlinearBlur(Operator):
    """``z = (k * x^gamma)^(1/gamma)``: blur in units of light, seen through the camera's response curve.

    Differentiable above black, with bounded slope; the gradient is zero with respect to pixels at or below
    ``low``.  One pass over the image per non-zero tap of the kernel.

    Args:
        kernel: ``k``, shape (odd, odd), in pixels, not negative, sum one; the central tap leaves a pixel where
            it is.
        event_shape: (C, H, W) of an image; every channel is blurred alike.
        gamma: exponent of the response curve, positive.
        data_range: ``(low, high)``, black and white in the unit of x; z has the same unit.
        boundary: continuation of the image beyond its border, in units of light: ``"reflect"``, ``"zero"``
            (black), ``"mirror"``, ``"replicate"`` or ``"circular"``, as for ``Blur``.
        dtype: dtype of the operator.

    Raises:
        TypeError: if the kernel is complex, or gamma or the range are no numbers.
        ValueError: if the kernel has an even side, a negative or undefined tap, or a sum other than one, if
            ``gamma`` is not positive, ``data_range`` empty, or the boundary unknown.

    Source: Nah, Kim and Lee 2017 (arXiv 1612.02177), equations 1 and 2.
    """

    def __init__(
        self,
        kernel: Any,
        event_shape: Any,
        gamma: float = 2.2,
        data_range: tuple[float, float] = (0.0, 1.0),
        boundary: str = "reflect",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        taps, shape = as_kernel(where, kernel).detach().double(), as_image_shape(where, event_shape)
        if (taps < 0).any():
            raise ValueError(
                f"{where}: {int((taps < 0).sum())} taps of the kernel are negative, down to {taps.min():.3g}; "
                "expected shares of the exposure, none below zero."
            )
        if abs(float(taps.sum()) - 1) > 1e-5:
            raise ValueError(f"{where}: expected a kernel of sum 1, got {taps.sum():.6g}; try k / k.sum().")
        super().__init__(shape, shape, dtype, taps.device)
        self.gamma, self.data_range = as_positive(where, "gamma", gamma), as_data_range(where, data_range)
        self.boundary = as_boundary(where, boundary)
        self.kernel = taps.to(dtype)  # (odd, odd)
        self._taps = [(i, j, float(taps[i, j])) for i, j in taps.nonzero().tolist()]
        margins = [count // 2 for count in taps.shape]
        self.rows = continuation(boundary, shape[1], margins[0]).to(taps.device)
        self.columns = continuation(boundary, shape[2], margins[1]).to(taps.device)

    @classmethod
    def from_seed(
        cls,
        event_shape: Any,
        seed: int,
        kernel_size: int = 9,
        intensity: float = 0.5,
        gamma: float = 2.2,
        data_range: tuple[float, float] = (0.0, 1.0),
        boundary: str = "reflect",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """The kernel of a random camera shake, ``motion_kernel(kernel_size, intensity, seed)``.

        Args:
            event_shape: (C, H, W) of an image.
            seed: seed of the path of the camera.
            kernel_size: odd side of the kernel, in pixels.
            intensity: 0 for a straight path, 1 for one that changes direction about 20 times.
            gamma: exponent of the response curve.
            data_range: black and white in the unit of x.
            boundary: continuation of the image beyond its border.
            dtype: dtype of the operator.
        """
        kernel = motion_kernel(kernel_size, intensity, seed)
        return cls(kernel, event_shape, gamma, data_range, boundary, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """To light, mean over the path, back through the response curve."""
        low, high = self.data_range
        light = extend(power((x - low) / (high - low), self.gamma), self.rows, self.columns, self.boundary)
        height, width = self.event_shape[1:]
        bottom, right = (count - 1 for count in self.kernel.shape)
        exposed = torch.zeros_like(x)
        for i, j, share in self._taps:
            top, left = bottom - i, right - j
            frame = light[..., top : top + height, left : left + width]
            exposed = torch.add(exposed, frame, alpha=share)
        return low + (high - low) * power(exposed, 1 / self.gamma)

    def extra_repr(self) -> str:
        """The size of the kernel stands for the kernel."""
        rows, columns = self.kernel.shape
        return (
            f"kernel=<{rows} x {columns}>, event_shape={tuple(self.event_shape)}, gamma={self.gamma}, "
            f"data_range={self.data_range}, boundary={self.boundary!r}"
        )

r"""Blur that wraps around the border: z = k * x, diagonal in the Fourier basis.

On an image without border (row -1 is row H - 1, column -1 is column W - 1) the convolution with a kernel k
whose central tap is c,

    z_i = sum_d k_d x_{i - d + c},

multiplies every Fourier coefficient by the transfer k^_f of the centred kernel: Z_f = k^_f X_f, two FFTs of
the image.  With k^_f = |k^_f| exp(i phi_f) the singular values are |k^_f|; the right singular vectors are
the real Fourier basis (cosine and sine of every pair of frequencies, see ``real_fourier``) and the left
ones are the same waves moved by the phase phi_f.  All channels share them.

A kernel larger than the image wraps around it, taps that meet add up.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_image_shape
from bayes_ir.models.operators._image_checks import as_kernel
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.real_fourier import (
    half_plane,
    half_spectrum,
    inverse_half_spectrum,
    pack,
    packing,
    unpack,
)
from bayes_ir.models.operators.svd import SVD

__all__ = ["CircularBlur", "FourierSVD"]


def _transfer(kernel: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Centred transfer (H, W // 2 + 1) and energy ``sum k^2`` of the kernel wrapped around the image."""
    rows = (torch.arange(kernel.shape[0]) - kernel.shape[0] // 2) % height
    columns = (torch.arange(kernel.shape[1]) - kernel.shape[1] // 2) % width
    place = (rows[:, None] * width + columns).flatten().to(kernel.device)
    wrapped = kernel.new_zeros(height * width).index_add(0, place, kernel.flatten()).view(height, width)
    return torch.fft.rfft2(wrapped), wrapped.square().sum()


def _rank(s: Tensor, rounding: float) -> int:
    """How many of the descending singular values an FFT can tell from zero."""
    return int((s > 16 * rounding * s[0]).sum())


class FourierSVD(SVD):
    """Decomposition of a multiplication of every Fourier coefficient.

    Null frequencies are left out: ``|k^| <= 16 eps max |k^|``, which an FFT cannot tell from zero.  The
    coefficients stand by descending singular value, all channels of one frequency next to each other.

    Args:
        transfer: ``k^``, complex, shape (H, W // 2 + 1).
        event_shape: shape of an image and of a measurement, (C, H, W).
        dtype: dtype of the operator.
        rounding: ``eps``, relative rounding error of the transfer.
    """

    def __init__(
        self, transfer: Tensor, event_shape: torch.Size, dtype: torch.dtype, rounding: float
    ) -> None:
        self.channels, height, width = event_shape
        pairs, mirrors, singles = (part.to(transfer.device) for part in half_plane(height, width))
        k = transfer.detach().to(torch.complex128).flatten()
        s = torch.cat([k[pairs].abs(), k[pairs].abs(), k[singles].abs()])
        s, order = s.sort(descending=True, stable=True)
        kept = order[: _rank(s, rounding)]
        singular_values = s[: len(kept)].repeat_interleave(self.channels)
        super().__init__(singular_values, event_shape, event_shape, dtype)
        tables = packing(height, width, kept.cpu())
        self.source, self.origin = tables.source.to(self.device), tables.origin.to(self.device)
        self.weight, self.scale = (w.to(self.device, dtype) for w in (tables.weight, tables.scale))
        phase = torch.where(k == 0, 1.0, k / k.abs())
        phase[mirrors] = torch.where(mirrors == pairs, phase[pairs], phase[pairs].conj())
        phase[singles] = torch.where(k[singles].real < 0, -1.0, 1.0).to(phase.dtype)  # not i times rounding
        self.phase = phase.to(dtype.to_complex()).view_as(transfer)

    def to(self, operator: LinearOperator) -> Self:
        """The same decomposition for a copy of the operator; a coarser dtype leaves out more null frequencies."""
        other = super().to(operator)
        if self.device.type == "meta":
            return other
        s = self.singular_values
        rank = _rank(s, operator.rounding) // self.channels
        other.singular_values = other.singular_values[: rank * self.channels]
        other.scale = torch.where(other.origin < rank, other.scale, 0.0)
        other.origin = other.origin.clamp(max=rank - 1)
        other.source, other.weight = other.source[:rank], other.weight[:rank]
        return other

    def left(self, c: Tensor) -> Tensor:
        """``U c``: the waves moved by the phase."""
        self._expect("c", c, self.singular_values.shape)
        return self._image(self._spectrum(c) * self.phase)

    def left_adjoint(self, z: Tensor) -> Tensor:
        """``U^T z``."""
        self._expect("z", z, self.measurement_shape)
        return self._coefficients(half_spectrum(z) * self.phase.conj())

    def right(self, c: Tensor) -> Tensor:
        """``V c``: the sum of the waves."""
        self._expect("c", c, self.singular_values.shape)
        return self._image(self._spectrum(c))

    def right_adjoint(self, x: Tensor) -> Tensor:
        """``V^T x``: the real Fourier coefficients."""
        self._expect("x", x, self.event_shape)
        return self._coefficients(half_spectrum(x))

    def gram_diagonal(self) -> Tensor:
        """``sum_k s_k^2 / (H W)`` at every pixel."""
        energy = self.singular_values.square().sum() / self.measurement_shape.numel()
        return energy.to(self.dtype).expand(self.measurement_shape).clone()

    def _spectrum(self, c: Tensor) -> Tensor:
        per_channel = c.unflatten(-1, (-1, self.channels)).mT  # (*batch, C, r / C)
        return unpack(per_channel, self.origin, self.scale, self.event_shape[1])

    def _image(self, spectrum: Tensor) -> Tensor:
        return inverse_half_spectrum(spectrum, self.event_shape[2])

    def _coefficients(self, spectrum: Tensor) -> Tensor:
        return pack(spectrum, self.source, self.weight).mT.flatten(-2)


class CircularBlur(LinearOperator):
    """``z = k * x``: convolution of every channel on an image that wraps around its border.

    Equal to ``scipy.ndimage.convolve(x, k, mode="wrap")`` of a channel.  For other borders see ``Blur``.

    Args:
        kernel: taps ``k``, shape (odd, odd), in pixels; the central tap leaves a pixel where it is.  Needs no
            symmetry and no unit sum.  May carry a gradient, which :attr:`svd` does not follow.
        event_shape: shape of an image, (C, H, W).
        dtype: dtype of the operator.

    Raises:
        TypeError: if the kernel is complex.
        ValueError: if the kernel is not two-dimensional, has an even side, is not finite or is all zero.
    """

    structured = True

    def __init__(self, kernel: Any, event_shape: Any, dtype: torch.dtype = torch.float32) -> None:
        where = type(self).__name__
        taps = as_kernel(where, kernel)
        shape = as_image_shape(where, event_shape)
        super().__init__(shape, shape, dtype, taps.device)
        self.rounding = max(self.rounding, torch.finfo(taps.dtype).eps)
        transfer, energy = _transfer(taps.double(), *shape[1:])
        self.kernel = taps.to(dtype)  # (odd, odd)
        self.transfer = transfer.to(dtype.to_complex())  # (H, W // 2 + 1)
        self.energy = energy.to(dtype)  # ()

    def forward(self, x: Tensor) -> Tensor:
        """Multiply every Fourier coefficient by the transfer."""
        return inverse_half_spectrum(half_spectrum(x) * self.transfer, self.event_shape[2])

    def adjoint(self, z: Tensor) -> Tensor:
        """Multiply by the conjugate transfer: correlate with the kernel."""
        self._expect_measurement(z)
        return inverse_half_spectrum(half_spectrum(z) * self.transfer.conj(), self.event_shape[2])

    def decompose(self) -> SVD:
        """``U``, ``V``: real Fourier waves; ``s = |k^|``."""
        return FourierSVD(self.transfer, self.event_shape, self.dtype, self.rounding)

    def gram_diagonal(self) -> Tensor:
        """``sum_d k_d^2`` of the wrapped kernel, at every pixel."""
        return self.energy.expand(self.measurement_shape).clone()

    def extra_repr(self) -> str:
        """The size of the kernel stands for the kernel."""
        rows, columns = self.kernel.shape
        return f"kernel=<{rows} x {columns}>, event_shape={tuple(self.event_shape)}"

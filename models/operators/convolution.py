r"""Blur with a border: z = k * x, the image continued beyond its border.

    z = C E x,    (C y)_i = sum_d k_d y_{i - d + 2c}    (valid convolution, c the central tap),

where E continues the image by c rows and columns on every side:

    boundary      beyond a b c d                 scipy.ndimage     numpy.pad
    "zero"        0 0 | a b c d | 0 0            "constant"        "constant"
    "reflect"     b a | a b c d | d c            "reflect"         "symmetric"
    "mirror"      c b | a b c d | c b            "mirror"          "reflect"
    "replicate"   a a | a b c d | d d            "nearest"         "edge"
    "circular"    c d | a b c d | a b            "wrap"            "wrap"
    "valid"       nothing is added, and z is smaller than x by 2c.

The adjoint E^T C^T is exact: C^T is the full correlation, and E^T adds what lies beyond the border to the
pixels it was copied from.

C always goes through real FFTs on a grid of at least the continued size, whose wrapped part is cut off (zeros
need half as much room: they may wrap around).
Measured on a CPU core, a direct convolution is slower from kernels of 3 x 3 pixels on; on a GPU it would
round to the 10 bits of TF32 by default, and A^T would not be the adjoint of A beyond 1e-3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_image_shape
from bayes_ir.models.operators._image_checks import as_kernel
from bayes_ir.models.operators.linear import LinearOperator

__all__ = ["Blur"]

_COPYING = ("reflect", "mirror", "replicate", "circular")
_BOUNDARIES = ("zero", *_COPYING, "valid")


def continuation(boundary: str, size: int, beyond: int) -> Tensor:
    """Where the pixels ``-beyond .. size - 1 + beyond`` come from, int64; -1 for a zero."""
    place = torch.arange(-beyond, size + beyond)
    if boundary == "reflect":
        place = place % (2 * size)
        return torch.minimum(place, 2 * size - 1 - place)
    if boundary == "mirror":
        place = place % max(2 * size - 2, 1)
        return torch.minimum(place, 2 * size - 2 - place)
    if boundary == "replicate":
        return place.clamp(0, size - 1)
    if boundary == "circular":
        return place % size
    return torch.where((place >= 0) & (place < size), place, -1)


def coincidences(origin: Tensor, taps: int) -> tuple[Tensor, Tensor]:
    """Which taps meet the same pixel, for every kind of output row.

    Returns:
        float64 (kinds, taps, taps), one where two taps read the same pixel, and the kind of every output row.
    """
    reads = origin.unfold(0, taps, 1).flip(-1)  # (outputs, taps)
    earliest = torch.where(reads[:, :, None] == reads[:, None, :], torch.arange(taps), taps).amin(-1)
    first = torch.where(reads < 0, -1, earliest)  # the first tap that reads the same pixel
    kinds, kind = torch.unique(first, dim=0, return_inverse=True)
    meet = (kinds[:, :, None] == kinds[:, None, :]) & (kinds >= 0)[:, :, None]
    return meet.double(), kind


def _extend(x: Tensor, dim: int, sources: Tensor) -> Tensor:
    """Copies of the slices ``sources``, half of them before the image and half after it."""
    if len(sources) == 0:
        return x
    before, after = x.index_select(dim, sources).chunk(2, dim)
    return torch.cat([before, x, after], dim)


def _fold(y: Tensor, dim: int, sources: Tensor) -> Tensor:
    """Transpose of :func:`_extend`: add the copies to where they came from."""
    added = len(sources) // 2
    if added == 0:
        return y
    before, x, after = y.split([added, y.shape[dim] - 2 * added, added], dim)
    return x.index_add(dim, sources, torch.cat([before, after], dim))


class Blur(LinearOperator):
    """``z = C E x``: convolution of every channel, the image continued by E beyond its border.

    Equal to ``scipy.ndimage.convolve`` of a channel with the mode of the table in the module.  It has no
    structured decomposition: large images are solved by conjugate gradients.  A circular border has one in
    ``CircularBlur``, a kernel that is a product of two has one in ``SeparableBlur``.

    Args:
        kernel: taps ``k``, shape (odd, odd), in pixels; the central tap leaves a pixel where it is.  Needs no
            symmetry and no unit sum.  May carry a gradient.
        event_shape: shape of an image, (C, H, W).
        boundary: ``"zero"``, ``"reflect"``, ``"mirror"``, ``"replicate"``, ``"circular"`` or ``"valid"``.
        dtype: dtype of the operator.

    Raises:
        TypeError: if the kernel is complex.
        ValueError: if the kernel is not two-dimensional, has an even side, is not finite or is all zero, if the
            boundary is unknown, or if the kernel is larger than the image and the boundary ``"valid"``.
    """

    def __init__(
        self, kernel: Any, event_shape: Any, boundary: str = "reflect", dtype: torch.dtype = torch.float32
    ) -> None:
        where = type(self).__name__
        taps = as_kernel(where, kernel)
        shape = as_image_shape(where, event_shape)
        if boundary not in _BOUNDARIES:
            raise ValueError(f"{where}: expected boundary in {list(_BOUNDARIES)}, got {boundary!r}.")
        _, height, width = shape
        half = (taps.shape[0] // 2, taps.shape[1] // 2)
        added = half if boundary in _COPYING else (0, 0)
        continued = (height + 2 * added[0], width + 2 * added[1])
        # z stands at start in the full convolution of the continued image; what wraps around stays before it.
        start = half if boundary == "zero" else (2 * half[0], 2 * half[1])
        seen = shape[1:] if boundary != "valid" else (height - start[0], width - start[1])
        if min(seen) < 1:
            raise ValueError(
                f"{where}: a kernel of {tuple(taps.shape)} does not fit into an image of {(height, width)}, so "
                "boundary='valid' leaves no pixel; try another boundary or a smaller kernel."
            )
        super().__init__(shape, (shape[0], *seen), dtype, taps.device)
        self.rounding = max(self.rounding, torch.finfo(taps.dtype).eps)
        self.boundary = boundary
        self._start, self._continued = start, continued
        from scipy.fft import next_fast_len  # a tenth of the start-up, if it stood above

        self._grid = [next_fast_len(n + m, real=True) for n, m in zip(start, seen, strict=True)]
        self.kernel = taps.to(dtype)  # (odd, odd)
        self.transfer = torch.fft.rfft2(taps.double(), s=self._grid).to(dtype.to_complex())
        # Where the added rows and columns come from, those before the image and then those after it.
        self.rows = self._sources(height, added[0]).to(taps.device)  # (2 c_1,)
        self.columns = self._sources(width, added[1]).to(taps.device)  # (2 c_2,)

    def _sources(self, size: int, added: int) -> Tensor:
        origin = continuation(self.boundary, size, added)
        return torch.cat([origin[:added], origin[added + size :]])

    def forward(self, x: Tensor) -> Tensor:
        """Continue the image and convolve it."""
        y = self._filter(_extend(_extend(x, -2, self.rows), -1, self.columns), self.transfer)
        (top, left), (_, height, width) = self._start, self.measurement_shape
        return y[..., top : top + height, left : left + width]

    def adjoint(self, z: Tensor) -> Tensor:
        """Correlate with the kernel, and fold what lies beyond the border back."""
        self._expect_measurement(z)
        (top, left), (height, width) = self._start, self._continued
        y = self._filter(torch.nn.functional.pad(z, (left, 0, top, 0)), self.transfer.conj())
        return _fold(_fold(y[..., :height, :width], -1, self.columns), -2, self.rows)

    def _filter(self, y: Tensor, transfer: Tensor) -> Tensor:
        """Circular convolution on the grid, which the image is padded to with zeros below and on the right."""
        if y.numel() == 0:  # the FFT refuses an empty batch
            return y.new_zeros(*y.shape[:-2], *self._grid)
        return torch.fft.irfft2(torch.fft.rfft2(y, s=self._grid) * transfer, s=self._grid)

    def gram_diagonal(self) -> Tensor:
        """``sum_n A_mn^2``, exactly: taps that read the same pixel are added before they are squared.

        Whether two taps meet is decided for rows and columns apart, and all rows far from the border are alike:
        O(K^4) operations for a K x K kernel, and none for the interior of the image.
        """
        _, height, width = self.event_shape
        rows, row = coincidences(continuation(self.boundary, height, self._beyond(0)), self.kernel.shape[0])
        columns, column = coincidences(
            continuation(self.boundary, width, self._beyond(1)), self.kernel.shape[1]
        )
        k = self.kernel.double()
        inner = k.mT @ rows.to(self.device) @ k  # (kinds of rows, taps, taps) between columns of taps
        kinds = inner.flatten(1) @ columns.to(self.device).flatten(1).mT
        energy = kinds[row.to(self.device)][:, column.to(self.device)].to(self.dtype)
        return energy.expand(self.measurement_shape).clone()

    def _beyond(self, side: int) -> int:
        return 0 if self.boundary == "valid" else self.kernel.shape[side] // 2

    def extra_repr(self) -> str:
        """The size of the kernel stands for the kernel."""
        rows, columns = self.kernel.shape
        return (
            f"kernel=<{rows} x {columns}>, event_shape={tuple(self.event_shape)}, boundary={self.boundary!r}"
        )

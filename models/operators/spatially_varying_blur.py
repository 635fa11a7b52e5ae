r"""Blur that changes across the image: lens aberrations, camera rotation, turbulence.

K kernels h_k are blended by weights w_k(p) that add up to one in every pixel p,

    z(p) = sum_k w_k(p) (h_k * x)(p),    (h * x)(p) = sum_q h(q) x(p - q),    sum_k w_k(p) = 1,

so that each pixel is blurred by its own kernel, sum_k w_k(p) h_k, and kernels of sum one keep a uniform image
(with the zero boundary: away from the border).  With E the continuation of the image beyond its border,
A_k the convolution of what it gives and D_k = diag(w_k),

    A = sum_k D_k A_k E,    A^T = E^T sum_k A_k^T D_k,

A^T has the other usual form: multiply, then convolve.  Two kernels make one complex kernel h_1 - i h_2, so that
each map takes 1 + K/2 complex FFTs of the continued image.  The boundaries are those of ``Blur``: with "reflect"
the mirror image about the border, d c b a | a b c d.

A row of A is sum_k w_k(p) h_k with the taps that read the same pixel of x added up, so

    (A A^T)_pp = sum_kl w_k(p) w_l(p) <R_y h_k, h_l C_x>,    p = (y, x),

with R_y and C_x the 0/1 matrices that say which rows and which columns of taps read the same pixel.
"""

from __future__ import annotations

import math
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from bayes_ir.models.operators._checks import as_image_shape, as_real, as_shape, seeded_generator
from bayes_ir.models.operators._image_checks import as_odd_size, as_positive
from bayes_ir.models.operators.blur_kernels import gaussian_kernel
from bayes_ir.models.operators.convolution import coincidences, continuation
from bayes_ir.models.operators.linear import LinearOperator

__all__ = ["SpatiallyVaryingBlur"]

_BOUNDARIES = ("zero", "reflect", "mirror", "replicate", "circular")


def as_boundary(where: str, value: Any) -> str:
    """``value`` as the name of a boundary that keeps the size of the image."""
    if value not in _BOUNDARIES:
        raise ValueError(f"{where}: expected boundary in {list(_BOUNDARIES)}, got {value!r}.")
    return str(value)


def extend(x: Tensor, rows: Tensor, columns: Tensor, boundary: str) -> Tensor:
    """The image continued beyond its border: place (i, j) shows pixel (rows[i], columns[j]), 0 for -1."""
    if boundary != "zero":
        return x.index_select(-2, rows).index_select(-1, columns)
    above, left = (len(rows) - x.shape[-2]) // 2, (len(columns) - x.shape[-1]) // 2
    return F.pad(x, (left, left, above, above))


def _fold(y: Tensor, rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
    """The transpose of :func:`extend`: what lies beyond the border is added to the pixel it was copied from."""
    x = y.new_zeros(*y.shape[:-2], height + 1, y.shape[-1]).index_add(-2, rows % (height + 1), y)
    x = x.new_zeros(*x.shape[:-1], width + 1).index_add(-1, columns % (width + 1), x)
    return x[..., :height, :width]  # without the row and the column that -1 stands for


class SpatiallyVaryingBlur(LinearOperator):
    """``z = sum_k w_k (h_k * x)``: blur whose kernel changes from pixel to pixel; linear, adjoint matched.

    Every channel is blurred alike; z has the unit of x if the kernels sum to one.  Memory is linear in the
    pixels; there is no structured decomposition, so a large operator is solved by conjugate gradients.

    Args:
        kernels: ``h``, shape (K, rows, columns), odd sides, the central tap at q = 0.
        weights: ``w``, shape (K, H, W), adding up to one over K in every pixel.
        event_shape: (C, H, W) of an image.
        boundary: ``"zero"``, ``"reflect"`` (edge pixel repeated), ``"mirror"``, ``"replicate"``, ``"circular"``.
        dtype: dtype of the operator.

    Raises:
        TypeError: if kernels or weights are complex.
        ValueError: for shapes that do not fit, even sides, numbers that are not finite, weights that do not add
            up to one, or an unknown boundary.

    Source: Nagy and O'Leary 1998, "Restoring images degraded by spatially variant blur".
    """

    def __init__(
        self,
        kernels: Any,
        weights: Any,
        event_shape: Any,
        boundary: str = "reflect",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        shape = as_image_shape(where, event_shape)
        given = tuple(getattr(kernels, "shape", ())) or torch.as_tensor(kernels).shape
        if len(given) != 3:
            raise ValueError(f"{where}: expected kernels of shape (K, rows, columns), got {tuple(given)}.")
        h, w = as_real(where, "kernels", kernels, 3), as_real(where, "weights", weights, 3)
        count, taps, sides = len(h), tuple(h.shape[1:]), tuple(shape[1:])
        if taps[0] % 2 == 0 or taps[1] % 2 == 0:
            raise ValueError(
                f"{where}: expected kernels with odd sides, got {taps[0]} x {taps[1]}, which have no central tap; "
                "add a row or a column of zeros on the side that puts the centre where it belongs."
            )
        if w.shape != (count, *sides):
            raise ValueError(
                f"{where}: expected weights of shape {(count, *sides)}, one image (H, W) per kernel, got "
                f"{tuple(w.shape)}."
            )
        excess = float((w.double().sum(0) - 1).abs().max())
        if excess > 1e-5:
            raise ValueError(
                f"{where}: expected weights that add up to 1 in every pixel, got sums off by up to {excess:.3g}; "
                "try weights / weights.sum(0)."
            )
        super().__init__(shape, shape, dtype, h.device)
        self.rounding = max(torch.finfo(kind).eps for kind in (dtype, h.dtype, w.dtype))
        self.boundary = as_boundary(where, boundary)
        rows, columns = (continuation(boundary, n, t // 2) for n, t in zip(sides, taps, strict=True))
        self.rows, self.columns = rows.to(h.device), columns.to(h.device)  # source of the continued image
        from scipy.fft import next_fast_len  # a tenth of the start-up, if it stood above

        self._grid = next_fast_len(len(rows)), next_fast_len(len(columns))
        self.kernels, self.weights = h.to(dtype), w.to(h.device, dtype)
        h, w = h.double(), w.to(h.device).double()
        if count % 2:
            h, w = (torch.cat([a, torch.zeros_like(a[:1])]) for a in (h, w))
        pairs = torch.complex(h[::2], -h[1::2])
        self.transfer = torch.fft.fft2(pairs, s=self._grid).to(dtype.to_complex())  # (pairs, *grid)
        self.blend = torch.complex(w[::2], w[1::2]).to(dtype.to_complex())  # (pairs, H, W)

    @classmethod
    def from_seed(
        cls,
        event_shape: Any,
        seed: int,
        regions: tuple[int, int] = (3, 3),
        kernel_size: int = 9,
        stds: tuple[float, float] = (0.5, 2.0),
        boundary: str = "reflect",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """A camera that turns and zooms during the exposure, about a point drawn from the seed.

        The point lies in the middle half of the image, and the motion makes an angle, drawn once for the whole
        image, with the direction to the point (90 degrees: pure rotation, 0: pure zoom).  The kernel in the
        middle of a region is a Gaussian elongated along the motion there; between the middles of the regions
        the weights are bilinear.

        Args:
            event_shape: (C, H, W) of an image.
            seed: seed of the point and of the angle.
            regions: rows and columns of the grid of kernels.
            kernel_size: odd side of a kernel, in pixels; the Gaussians are cut there and scaled to sum one.
            stds: standard deviations in pixels: across the motion, everywhere, and along it in the corner of
                the image farthest from the point; along it grows linearly from the first to the second.
            boundary: how the image continues beyond its border.
            dtype: dtype of the operator.

        Raises:
            ValueError: for an even ``kernel_size``, more regions than pixels, or ``stds`` that are not positive
                and ascending.
        """
        where = cls.__name__
        shape, size = as_image_shape(where, event_shape), as_odd_size(where, "kernel_size", kernel_size)
        grid, sides = as_shape(where, "regions", regions), shape[1:]
        if len(grid) != 2 or grid[0] > sides[0] or grid[1] > sides[1]:
            raise ValueError(
                f"{where}: expected regions=(rows, columns), at most one per pixel of {sides[0]} x {sides[1]}, "
                f"got {tuple(grid)}."
            )
        if len(stds) != 2 or as_positive(where, "std", stds[0]) > as_positive(where, "std", stds[1]):
            raise ValueError(f"{where}: expected stds=(across, along) in ascending order, got {stds!r}.")
        across, longest = map(float, stds)
        draws = torch.rand(3, dtype=torch.float64, generator=seeded_generator(where, seed)).tolist()
        point = [side * (0.25 + 0.5 * draw) for side, draw in zip(sides, draws[:2], strict=True)]
        corner = math.hypot(*(max(p, side - p) for side, p in zip(sides, point, strict=True)))
        kernels = []
        for i in range(grid[0]):
            for j in range(grid[1]):
                down = (i + 0.5) * sides[0] / grid[0] - point[0]
                right = (j + 0.5) * sides[1] / grid[1] - point[1]
                along = across + (longest - across) * math.hypot(down, right) / corner
                angle = math.degrees(math.atan2(-down, right) + math.pi * draws[2])  # anticlockwise
                kernels.append(gaussian_kernel(size, (across, along), angle))
        hats = []
        for cells, side in zip(grid, sides, strict=True):
            place = ((torch.arange(side, dtype=torch.float64) + 0.5) * cells / side - 0.5).clamp(0, cells - 1)
            hats.append((1 - (place - torch.arange(cells)[:, None]).abs()).clamp(min=0))  # (cells, side)
        weights = (hats[0][:, None, :, None] * hats[1][None, :, None, :]).flatten(0, 1)
        return cls(torch.stack(kernels), weights, shape, boundary, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Continue the image, convolve it with each kernel through the FFT, blend."""
        if x.numel() == 0:  # the FFT refuses an empty batch
            return x.clone()
        (height, width), (top, left) = self.event_shape[1:], (n - 1 for n in self.kernels.shape[1:])
        spectrum = torch.fft.fft2(extend(x, self.rows, self.columns, self.boundary), s=self._grid)
        z = torch.zeros((), dtype=spectrum.dtype, device=x.device)
        for blend, transfer in zip(self.blend, self.transfer, strict=True):
            blurred = torch.fft.ifft2(spectrum * transfer, s=self._grid)  # wrapped above and left of the cut
            z = z + blurred[..., top : top + height, left : left + width] * blend
        return z.real.clone()  # the real part of (w_1 + i w_2) (h_1 * x - i h_2 * x)

    def adjoint(self, z: Tensor) -> Tensor:
        """Weigh, correlate with each kernel, add up, and fold what lies beyond the border back."""
        self._expect_measurement(z)
        if z.numel() == 0:
            return z.clone()
        (height, width), (top, left) = self.event_shape[1:], (n - 1 for n in self.kernels.shape[1:])
        spectrum = torch.zeros((), dtype=self.transfer.dtype, device=z.device)
        for blend, transfer in zip(self.blend, self.transfer, strict=True):
            placed = F.pad(z * blend, (left, 0, top, 0))
            spectrum = spectrum + torch.fft.ifft2(placed, s=self._grid) * transfer
        # Inverse and forward transform have changed places, which makes a correlation of the convolution.
        y = torch.fft.fft2(spectrum, s=self._grid).real[..., : len(self.rows), : len(self.columns)]
        return _fold(y, self.rows, self.columns, height, width)

    def gram_diagonal(self) -> Tensor:
        """Squared row norms, exactly, from K x K inner products of kernels for every kind of row and column."""
        (rows, row), (columns, column) = (
            coincidences(continuation(self.boundary, side, taps // 2), taps)
            for side, taps in zip(self.event_shape[1:], self.kernels.shape[1:], strict=True)
        )
        h = self.kernels.double()
        left = torch.einsum("yac,kcb->ykab", rows.to(self.device), h)
        right = torch.einsum("lac,xcb->xlab", h, columns.to(self.device))
        products = torch.einsum("ykab,xlab->yxkl", left, right).to(self.dtype)
        products = products[row.to(self.device)][:, column.to(self.device)]  # (H, W, K, K)
        norms = torch.einsum("yxkl,kyx,lyx->yx", products, self.weights, self.weights)
        return norms.expand(self.measurement_shape).clone()

    def extra_repr(self) -> str:
        """The sizes stand for kernels and weights."""
        count, rows, columns = self.kernels.shape
        height, width = self.event_shape[1:]
        return (
            f"kernels=<{count} of {rows} x {columns}>, weights=<{count} of {height} x {width}>, "
            f"event_shape={tuple(self.event_shape)}, boundary={self.boundary!r}"
        )

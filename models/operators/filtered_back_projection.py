r"""Filtered back-projection: an image from its line integrals, approximately.

A sinogram z (angles theta_a, detectors s) is filtered view by view and smeared back over the image,

    x(p) = pi / (2 A) sum_a (h * z_a)(s),    s = p_column cos(theta_a) - p_row sin(theta_a),

which discretises the inverse of the continuous Radon transform for A angles spread evenly over 180 degrees.  The ramp
filter |f| is made from its samples in space, 1/4 at 0 and -1/(pi n)^2 at odd n, so that the mean of the image is
right (Kak and Slaney 1988, equation 61 of chapter 3); h * z_a is interpolated linearly between detectors, and zero
beyond them.  Detectors are one pixel apart, and detector floor(D/2) faces pixel (floor(H/2), floor(W/2)).  All of
this is as in ``skimage.transform.iradon``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bayes_ir.models.operators._linear_map import linear_map

__all__ = ["FILTERS", "filtered_back_projection"]

_CHUNK = 2**21  # numbers in a temporary tensor
_SAMPLER = (
    0,
    0,
    False,
)  # torch's grid sampler: bilinear, zeros outside, -1 and 1 at the edges of the outer pixels


def _even(window: Tensor) -> Tensor:
    """Half a window, from its middle, averaged over k and -k: a real signal feels no more of it."""
    window = torch.fft.ifftshift(window)
    return (0.5 * (window + window.flip(0).roll(1)))[: len(window) // 2 + 1]


_WINDOWS: dict[str, Callable[[int], Tensor]] = {
    "ramp": lambda n: torch.ones(n // 2 + 1, dtype=torch.float64),
    "shepp-logan": lambda n: torch.sinc(torch.arange(n // 2 + 1, dtype=torch.float64) / n),
    "cosine": lambda n: torch.cos(torch.arange(n // 2 + 1, dtype=torch.float64) * (math.pi / n)),
    "hamming": lambda n: _even(torch.hamming_window(n, periodic=False, dtype=torch.float64)),
    "hann": lambda n: _even(torch.hann_window(n, periodic=False, dtype=torch.float64)),
}
FILTERS = tuple(_WINDOWS)


def filtered_back_projection(z: Tensor, theta: Tensor, height: int, width: int, filter: str | None) -> Tensor:
    """Image (*batch, H, W) from its sinogram, linear in it and differentiable.

    Args:
        z: sinogram, (*batch, A, D), D at least 2.
        theta: angles in radians, (A,), float64, on the device of ``z``.
        height: rows ``H`` of the image.
        width: columns ``W`` of the image.
        filter: one of :data:`FILTERS`, a window on the ramp filter, or None for no filter.
    """
    if z.numel() == 0:  # the FFT refuses an empty batch
        return z.new_zeros(*z.shape[:-2], height, width)
    detectors = z.shape[-1]
    length = max(64, 1 << (2 * detectors - 1).bit_length())  # at least twice as many: no wrap-around
    response = _response(length, filter).to(z.device, z.dtype)
    lines = torch.fft.irfft(torch.fft.rfft(z, length) * response, length)[..., :detectors]

    # Views are taken some at a time; a view of one image is a picture of one row to the sampler.
    images = z.shape[:-2].numel()
    parts = theta.split(max(1, _CHUNK // ((2 + images) * height * width)))

    def points(part: Tensor) -> Tensor:
        return _points(part, height, width, detectors, z.dtype)

    def smear(lines: Tensor) -> Tensor:
        views = lines.reshape(-1, 1, *lines.shape[-2:]).movedim(-2, 0)  # (A, images, 1, D)
        image = lines.new_zeros(views.shape[1], height, width)
        for part, view in zip(parts, views.split(len(parts[0])), strict=True):
            image = image + torch.ops.aten.grid_sampler_2d(view, points(part), *_SAMPLER).sum(0)
        return image.reshape(*lines.shape[:-2], height, width)

    def collect(image: Tensor) -> Tensor:
        flat = image.reshape(1, -1, height, width)
        views = []
        for part in parts:
            copies = flat.expand(len(part), -1, -1, -1)
            blank = flat.new_zeros(()).expand(*copies.shape[:2], 1, detectors)  # only its shape counts
            views.append(
                torch.ops.aten.grid_sampler_2d_backward(
                    copies, blank, points(part), *_SAMPLER, [True, False]
                )[0]
            )
        return torch.cat(views).movedim(0, -2).reshape(*image.shape[:-2], len(theta), detectors)

    return linear_map(lines, smear, collect) * (math.pi / (2 * len(theta)))


def _points(theta: Tensor, height: int, width: int, detectors: int, dtype: torch.dtype) -> Tensor:
    """Where every pixel meets the line of detectors, in the sampler's units, (a, H, W, 2)."""

    def along(n: int, slope: Tensor) -> Tensor:
        return slope[:, None] * (torch.arange(n, dtype=torch.float64, device=theta.device) - n // 2)

    scale = 2 / detectors
    start = (2 * (detectors // 2) + 1) / detectors - 1
    column = (scale * along(width, theta.cos()) + start).to(dtype)[:, None, :]
    row = (-scale * along(height, theta.sin())).to(dtype)[:, :, None]
    points = torch.view_as_real(torch.complex(column, torch.zeros_like(column)) + row)
    place = points[..., 0]
    last = 1 - 1 / detectors + 8 * torch.finfo(dtype).eps
    place.masked_fill_(place.abs() > last, 3.0)  # far outside, where the sampler finds zeros
    return points


def _response(length: int, window: str | None) -> Tensor:
    """Ramp filter times window at the frequencies k / length, (length // 2 + 1,), float64."""
    if window is None:
        return torch.ones(length // 2 + 1, dtype=torch.float64)
    n = torch.arange(length, dtype=torch.float64)
    n = torch.minimum(n, length - n)
    taps = torch.where(n % 2 == 1, -1 / (math.pi * n) ** 2, 0.0)
    taps[0] = 1 / 4
    return 2 * torch.fft.rfft(taps).real * _WINDOWS[window](length)

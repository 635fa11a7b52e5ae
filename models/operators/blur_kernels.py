r"""Blur kernels: odd arrays of taps k with sum 1, in pixels.

Gaussian.  With the standard deviations (s_r, s_c) along height and width and R a rotation,

    k(d) proportional to exp(-d^T C^{-1} d / 2),    C = R diag(s_r^2, s_c^2) R^T,

at the centres d of the pixels.

Camera shake.  During an exposure of length 1 the image moves along a path p(t) whose velocity is a
stationary Ornstein-Uhlenbeck process, a random walk damped at the rate g,

    dv = -g v dt + sqrt(2 g) dB,    dp = v dt,    g = 20 * intensity,

so g is about the number of times the direction changes.  Without shake (g = 0) the path is a straight
line.  The path is simulated in 2048 steps whatever the size of the kernel, shifted to its centroid,
scaled until it touches the border of the kernel, and every step leaves the same light, shared among
the four nearest pixels by bilinear weights, which keep the centroid exactly at the central pixel.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bayes_ir.models.operators._checks import seeded_generator
from bayes_ir.models.operators._image_checks import as_number, as_odd_size

__all__ = ["gaussian_kernel", "kernel_from_image", "motion_kernel", "uniform_kernel"]

_STEPS = 2048
_TURNS = 20.0


def gaussian_kernel(size: int, std: float | Sequence[float], angle: float = 0.0) -> Tensor:
    """Gaussian kernel (size, size), float64, sum 1.

    Args:
        size: number of rows and of columns, odd, in pixels.
        std: standard deviation in pixels, or a pair: along the height (vertical), along the width
            (horizontal).
        angle: anticlockwise rotation of the pair, in degrees, as seen with row 0 at the top.

    Raises:
        ValueError: for an even size, or a standard deviation that is not positive and finite.
    """
    where = "gaussian_kernel"
    size = as_odd_size(where, "size", size)
    pair = tuple(std) if isinstance(std, Sequence) and not isinstance(std, str) else (std, std)
    if len(pair) != 2:
        raise ValueError(
            f"{where}: expected std to be a number or a pair (vertical, horizontal), got {std!r}."
        )
    vertical, horizontal = (as_number(where, "std", s) for s in pair)
    if min(vertical, horizontal) <= 0:
        raise ValueError(f"{where}: expected std > 0 pixels, got {std}; no blur at all is uniform_kernel(1).")
    turn = math.radians(as_number(where, "angle", angle))
    axis = torch.arange(size, dtype=torch.float64) - size // 2
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    cos, sin = math.cos(turn), math.sin(turn)
    across = (cos * down + sin * right) / vertical  # rows count downwards
    along = (cos * right - sin * down) / horizontal
    kernel = torch.exp(-0.5 * (across.square() + along.square()))
    return kernel / kernel.sum()


def uniform_kernel(size: int) -> Tensor:
    """Box kernel (size, size), float64: every tap is ``1 / size^2``.

    Raises:
        ValueError: for an even size.
    """
    size = as_odd_size("uniform_kernel", "size", size)
    return torch.full((size, size), 1 / size**2, dtype=torch.float64)


def motion_kernel(size: int, intensity: float = 0.5, seed: int = 0) -> Tensor:
    """Random camera shake (size, size), float64, sum 1, centroid at the central pixel.

    Args:
        size: number of rows and of columns, odd, in pixels; the path touches the border.
        intensity: 0 for a straight line, 1 for a path that changes direction about 20 times.
        seed: seed of the path; its shape does not depend on the size.

    Raises:
        ValueError: for an even size, or an intensity outside [0, 1].
    """
    where = "motion_kernel"
    size = as_odd_size(where, "size", size)
    if not 0 <= as_number(where, "intensity", intensity) <= 1:
        raise ValueError(f"{where}: expected 0 <= intensity <= 1, got {intensity}.")
    noise = torch.randn(_STEPS + 1, 2, dtype=torch.float64, generator=seeded_generator(where, seed))
    decay = math.exp(-_TURNS * intensity / _STEPS)
    kick = math.sqrt(1 - decay**2)
    velocity, velocities = complex(*noise[0].tolist()), []
    for down, right in noise[1:].tolist():
        velocities.append(velocity)
        velocity = decay * velocity + kick * complex(down, right)
    path = torch.view_as_real(torch.tensor(velocities, dtype=torch.complex128)).cumsum(0)  # (steps, 2)
    path = path - path.mean(0)
    path = (path * (size // 2 / path.abs().max())).clamp(-(size // 2), size // 2)  # never a rounding beyond
    corner = path.floor()
    share = path - corner  # of the next pixel, in each direction
    kernel = torch.zeros(size, size, dtype=torch.float64)
    for row in (0, 1):
        for column in (0, 1):
            light = (share[:, 0] if row else 1 - share[:, 0]) * (share[:, 1] if column else 1 - share[:, 1])
            place = corner.long() + torch.tensor([row, column]) + size // 2
            place = place.clamp(max=size - 1)  # on the border the share beyond it is zero
            kernel.index_put_(tuple(place.unbind(-1)), light, accumulate=True)
    return kernel / kernel.sum()


def kernel_from_image(path: Any) -> Tensor:
    """Kernel in a greyscale image file, (rows, columns), float64, sum 1; white is weight, black none.

    Colour is turned into luminance; 16-bit and floating-point files keep their precision.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no image, has an even side, a negative or undefined tap, or is all black.
    """
    where = "kernel_from_image"
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{where}: expected the path of an image file, got {path!r}.")
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{where}: there is no file {str(file)!r}; expected an image such as kernel.png."
        )
    try:
        with Image.open(file) as image:
            deep = image.mode in {"I", "F"} or image.mode.startswith("I;16")
            taps = np.asarray(image if deep else image.convert("L"), dtype=np.float64)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{where}: {str(file)!r} is not an image that Pillow can read ({error}).") from error
    rows, columns = taps.shape
    if rows % 2 == 0 or columns % 2 == 0:
        raise ValueError(
            f"{where}: expected odd sides, got {rows} rows and {columns} columns in {str(file)!r}, which have no "
            "central pixel; add or crop a black row or column."
        )
    if not (np.isfinite(taps).all() and (taps >= 0).all()):
        raise ValueError(
            f"{where}: expected weights >= 0 in {str(file)!r}, got {taps.min()} to {taps.max()}."
        )
    if not taps.any():
        raise ValueError(
            f"{where}: every pixel of {str(file)!r} is black, so no weight is left to normalise."
        )
    return torch.as_tensor(taps / taps.sum())

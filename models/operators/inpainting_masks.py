r"""Masks for inpainting: which numbers of an image the operator ``Mask`` observes.

A mask is a bool tensor shaped like one image, True = observed, so that ``Mask(mask)`` is z = x[mask].  For an
image (C, H, W):

    box_mask          False in one box of h x w pixels, True outside;
    random_mask       True at exactly round(p H W) pixels, drawn without replacement;
    mask_from_image   True where a grey image file is white, v >= 128 of 255;
    bayer_mask        True where the colour filter over pixel (i, j) passes channel c: the 2 x 2 pattern of letters,
                      repeated over the sensor (demosaicing; a third of the numbers is observed).

A box, a file and (unless asked otherwise) a random mask hide a pixel in all its channels.
Random numbers are drawn on the CPU as whole numbers: a seed gives one mask everywhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bayes_ir.models.operators._checks import as_count, as_image_shape, seeded_generator

__all__ = ["bayer_mask", "box_mask", "mask_from_image", "random_mask"]

_BAYER_PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")
_WHITE = 128  # the upper half of 0 .. 255
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")


def box_mask(event_shape: Any, size: Any, position: Any = None, seed: int | None = None) -> Tensor:
    """A missing box, the same in all channels.

    Args:
        event_shape: shape (C, H, W) of an image.
        size: side of the box in pixels, or (height, width).
        position: (top, left) of the box in pixels; by default it sits in the middle.
        seed: instead of a position, seed of one that is drawn evenly from all where the box fits.

    Returns:
        The mask, bool, shape (C, H, W), False in the box.

    Raises:
        TypeError: for a size, position or seed that is no whole number.
        ValueError: for a box that is larger than the image, covers it or sticks out, or if both a position and a
            seed are given.
    """
    where = "box_mask"
    shape = as_image_shape(where, event_shape)
    height, width = shape[1:]
    h, w = (as_count(where, "size", side) for side in _pair(where, "size", size))
    if h > height or w > width:
        raise ValueError(
            f"{where}: the box of {h} x {w} is larger than the image of {height} x {width} pixels."
        )
    if (h, w) == (height, width):
        raise ValueError(
            f"{where}: the box of {h} x {w} covers the whole image, and nothing would be observed."
        )
    if position is not None and seed is not None:
        raise ValueError(f"{where}: expected a position or a seed, got both: {position!r} and seed={seed!r}.")
    if seed is not None:
        generator = seeded_generator(where, seed)
        top, left = (int(torch.randint(n, (), generator=generator)) for n in (height - h + 1, width - w + 1))
    elif position is None:
        top, left = (height - h) // 2, (width - w) // 2
    else:
        top, left = (_offset(where, value) for value in _pair(where, "position", position))
        if top + h > height or left + w > width:
            raise ValueError(
                f"{where}: the box of {h} x {w} at ({top}, {left}) sticks out of the image of {height} x {width} "
                f"pixels; expected a position up to ({height - h}, {width - w})."
            )
    mask = torch.ones(shape, dtype=torch.bool)
    mask[:, top : top + h, left : left + w] = False
    return mask


def random_mask(event_shape: Any, observed: float = 0.5, seed: int = 0, per_channel: bool = False) -> Tensor:
    """An exact number of observed pixels, drawn evenly without replacement.

    More observed pixels with the same seed keep those of fewer.

    Args:
        event_shape: shape (C, H, W) of an image.
        observed: share ``0 < p <= 1`` of the pixels; ``round(p H W)`` of them are observed.
        seed: seed of the pixels.
        per_channel: draw pixels for every channel by itself, as many in each.

    Returns:
        The mask, bool, shape (C, H, W).

    Raises:
        TypeError: for a seed that is no whole number.
        ValueError: for a share outside (0, 1], or one that rounds to no pixel.
    """
    where = "random_mask"
    shape = as_image_shape(where, event_shape)
    if not 0 < observed <= 1:
        raise ValueError(f"{where}: expected observed, the share of the pixels, in (0, 1], got {observed}.")
    pixels = shape[1] * shape[2]
    count = round(float(observed) * pixels)
    if count == 0:
        raise ValueError(
            f"{where}: observed={observed} of {pixels} pixels rounds to none; expected at least {1 / pixels:.2g}."
        )
    generator = seeded_generator(where, seed)
    mask = torch.zeros(shape[0] if per_channel else 1, pixels, dtype=torch.bool)
    for channel in mask:
        channel[torch.randperm(pixels, generator=generator)[:count]] = True
    return mask.unflatten(-1, shape[1:]).expand(shape).clone()


def mask_from_image(path: str | os.PathLike[str], event_shape: Any, observed: str = "white") -> Tensor:
    """A free-form mask from an image file, the same in all channels.

    Colours are made grey (luma of ITU-R 601); grey values from 128 of 255 on are white, the others black.

    Args:
        path: of an image file in any format of Pillow, of the same size as the images.
        event_shape: shape (C, H, W) of an image.
        observed: the colour of observed pixels, ``"white"`` or ``"black"``.

    Returns:
        The mask, bool, shape (C, H, W).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that is no image, of another size, or with transparent pixels, for another colour,
            or if no pixel is observed.
    """
    where = "mask_from_image"
    shape = as_image_shape(where, event_shape)
    if observed not in ("white", "black"):
        raise ValueError(f"{where}: expected observed to be 'white' or 'black', got {observed!r}.")
    white = _read_white(where, Path(path), shape)
    seen = white if observed == "white" else ~white
    if not seen.any():
        other = "black" if observed == "white" else "white"
        raise ValueError(
            f"{where}: {path} has no {observed} pixel, and nothing would be observed; try observed={other!r}."
        )
    return seen.expand(shape).clone()


def bayer_mask(event_shape: Any, pattern: str = "RGGB") -> Tensor:
    """The colour filters of a camera: one of red, green and blue is observed at each pixel.

    Args:
        event_shape: shape (3, H, W) of an image, the channels red, green, blue; odd sides cut the pattern off.
        pattern: colours of the upper left 2 x 2 pixels, row by row: RGGB, BGGR, GRBG or GBRG.

    Returns:
        The mask, bool, shape (3, H, W).

    Raises:
        ValueError: unless there are three channels, or for an unknown pattern.

    Source: Bayer 1976, US patent 3971065.
    """
    where = "bayer_mask"
    shape = as_image_shape(where, event_shape)
    if shape[0] != 3:
        raise ValueError(
            f"{where}: expected three channels (red, green, blue), got {shape[0]} in event_shape={tuple(shape)}."
        )
    if pattern not in _BAYER_PATTERNS:
        raise ValueError(f"{where}: expected pattern in {list(_BAYER_PATTERNS)}, got {pattern!r}.")
    mask = torch.zeros(shape, dtype=torch.bool)
    for place, colour in enumerate(pattern):
        mask["RGB".index(colour), place // 2 :: 2, place % 2 :: 2] = True
    return mask


def _pair(where: str, name: str, value: Any) -> tuple[Any, Any]:
    """``value`` as two numbers, for rows and columns."""
    if not isinstance(value, (tuple, list)):
        value = (value, value) if name == "size" else value
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        wanted = "one number or a pair (height, width)" if name == "size" else "a pair (top, left)"
        raise TypeError(f"{where}: expected {name} to be {wanted}, got {value!r}.")
    return value[0], value[1]


def _offset(where: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{where}: expected position in whole pixels, got {value!r}.")
    if value.__index__() < 0:
        raise ValueError(f"{where}: expected position >= 0, counted from the upper left corner, got {value}.")
    return int(value)


def _has_opacity(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _read_white(where: str, path: Path, shape: torch.Size) -> Tensor:
    """Which pixels of an image file are white, bool, (H, W)."""
    if not path.is_file():
        raise FileNotFoundError(f"{where}: there is no file {path}.")
    try:
        with Image.open(path) as image:
            height, width = shape[1:]
            if image.size != (width, height):
                raise ValueError(
                    f"{where}: {path} is {image.height} x {image.width} pixels and the images are {height} x {width}; "
                    "draw the mask at that size (resizing would blur its edge)."
                )
            opacity = np.asarray(image.convert("RGBA"))[..., 3] if _has_opacity(image) else np.array(255)
            if (opacity < 255).any():
                raise ValueError(
                    f"{where}: {path} has transparent pixels, neither white nor black; flatten it first."
                )
            if image.mode in _SIXTEEN_BITS:
                white = np.asarray(image) >= 256 * _WHITE
            elif image.mode in ("I", "F"):
                raise ValueError(
                    f"{where}: the numbers of {path} (Pillow's mode {image.mode}) have no white; save it with 8 bits."
                )
            else:
                white = np.asarray(image.convert("L")) >= _WHITE
    except UnidentifiedImageError as error:
        raise ValueError(f"{where}: {path} is no image that Pillow can read.") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # a file that ends early
        raise ValueError(f"{where}: {path} cannot be read as an image: {error}.") from error
    return torch.from_numpy(white)

r"""Functionals of a part of an image: what lies within a mask, and where an edge is.

    mean   sum_i m_i x_i / sum_i m_i        sum   sum_i m_i x_i        area   a sum_i m_i [x_i > c]

over the pixels i of a mask m, a the area of a pixel. A mask of the last axes only, (H, W) for images (C, H, W), counts
for every channel.

An edge along a row or column p_0, p_1, ... is where the profile first crosses a level L, by default the half height
L = (min p + max p) / 2, between two pixels by linear interpolation:

    position = i + (L - p_i) / (p_(i+1) - p_i)       i the first pixel with (p_i - L)(p_(i+1) - L) <= 0, p_i != p_(i+1)

in pixels, 0 at the centre of the first one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_ir.analysis.functionals import Functional
from bayes_ir.analysis.posterior import as_array

__all__ = ["AreaAbove", "EdgePosition", "MaskMean", "MaskSum", "region_functionals"]


def region_functionals(
    masks: Mapping[str, Any], *, threshold: float | None = None, pixel_area: float = 1.0
) -> dict[str, Functional]:
    """Mean and sum over each mask and, given a threshold, the area above it: `NAME_mean`, `NAME_sum`, `NAME_area`.

    Args:
        masks: name -> booleans, shape of an image or of its last axes.
        threshold: in units of the image; without one there are no areas.
        pixel_area: area of a pixel, in the unit wanted.

    Raises:
        ValueError: a mask is empty or not of booleans, a threshold is not finite, or an area not positive.
    """
    chosen: dict[str, Functional] = {}
    for name, mask in masks.items():
        chosen[f"{name}_mean"] = MaskMean(mask)
        chosen[f"{name}_sum"] = MaskSum(mask)
        if threshold is not None:
            chosen[f"{name}_area"] = AreaAbove(threshold, mask, pixel_area)
    return chosen


@dataclass(frozen=True, eq=False)
class MaskMean:
    """Mean over a mask.

    Args:
        mask: booleans, shape of an image or of its last axes.

    Raises:
        ValueError: the mask is empty or not of booleans; when called, if the image has another shape.
    """

    mask: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", _booleans(self.mask))

    def __call__(self, image: np.ndarray) -> float:
        return float(image[..., _fitting(self.mask, image)].mean())


@dataclass(frozen=True, eq=False)
class MaskSum:
    """Sum over a mask.

    Args:
        mask: booleans, shape of an image or of its last axes.

    Raises:
        ValueError: the mask is empty or not of booleans; when called, if the image has another shape.
    """

    mask: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", _booleans(self.mask))

    def __call__(self, image: np.ndarray) -> float:
        return float(image[..., _fitting(self.mask, image)].sum())


@dataclass(frozen=True, eq=False)
class AreaAbove:
    """Area of the pixels above a threshold, all channels together.

    Args:
        threshold: c, in units of the image.
        mask: booleans, shape of an image or of its last axes; without one, the whole image.
        pixel_area: area of a pixel, in the unit wanted.

    Raises:
        ValueError: the threshold is not finite, the area not positive, the mask empty or not of booleans; when
            called, if the image has another shape.
    """

    threshold: float
    mask: Any = None
    pixel_area: float = 1.0

    def __post_init__(self) -> None:
        if not np.isfinite(self.threshold):
            raise ValueError(f"AreaAbove: threshold must be a finite number, got {self.threshold!r}")
        if not 0 < self.pixel_area < np.inf:
            raise ValueError(f"AreaAbove: pixel_area must be a positive number, got {self.pixel_area!r}")
        object.__setattr__(self, "mask", None if self.mask is None else _booleans(self.mask))

    def __call__(self, image: np.ndarray) -> float:
        part = image if self.mask is None else image[..., _fitting(self.mask, image)]
        return float(self.pixel_area * np.count_nonzero(part > self.threshold))


@dataclass(frozen=True, kw_only=True)
class EdgePosition:
    """Where a row or a column first crosses a level, in pixels with fractions, counted from the start of `span`'s axis.

    Half the height between the extremes of one noisy profile moves with its noise: give the level where it is known,
    and a span that holds one edge.

    Args:
        row: index of a row, along whose columns the edge is sought; or else
        column: index of a column, along whose rows it is sought.
        channel: of an image (C, H, W).
        level: L, in units of the image; by default half the height of each draw's profile.
        span: (start, stop) of the part of the row or column that is searched.

    Raises:
        ValueError: not exactly one of row and column; when called, if the image has no such row, column or channel,
            or its profile does not cross the level.
    """

    row: int | None = None
    column: int | None = None
    channel: int = 0
    level: float | None = None
    span: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if (self.row is None) == (self.column is None):
            raise ValueError("EdgePosition: give row= or column=, one of them")

    def __call__(self, image: np.ndarray) -> float:
        along, number = ("row", self.row) if self.row is not None else ("column", self.column)
        start, stop = self.span or (0, image.shape[-1 if along == "row" else -2] if image.ndim > 1 else 0)
        try:
            plane = image[self.channel] if image.ndim == 3 else image
            profile = (plane if along == "row" else plane.T)[number]
            if plane.ndim != 2 or not 0 <= start < stop <= len(profile) or stop - start < 2:
                raise IndexError
        except IndexError:
            raise ValueError(
                f"EdgePosition: an image of shape {image.shape} has no channel {self.channel}, {along} {number}, "
                f"pixels {start} to {stop}; give indices of an image (H, W) or (C, H, W) and at least two pixels"
            ) from None
        return start + self._crossing(profile[start:stop], f"{along} {number}")

    def _crossing(self, profile: np.ndarray, where: str) -> float:
        level = (profile.min() + profile.max()) / 2 if self.level is None else self.level
        before, after = profile[:-1] - level, profile[1:] - level
        crossed = np.flatnonzero((before * after <= 0) & (before != after))
        if not crossed.size:
            raise ValueError(
                f"EdgePosition: the profile of {where} lies between {profile.min():.4g} and {profile.max():.4g} in one "
                f"of the draws and never crosses {level:.4g}; choose another level or span, or leave out the level for "
                "half the height of each draw"
            )
        i = int(crossed[0])
        return float(i + before[i] / (before[i] - after[i]))


def _booleans(mask: Any) -> np.ndarray:
    array = as_array(mask)
    if array.dtype != np.bool_ or not array.any():
        found = "no pixel" if array.dtype == np.bool_ else f"values of type {array.dtype}"
        raise ValueError(f"a mask must hold booleans with at least one True, got {found}; try mask > 0")
    return array


def _fitting(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    if image.shape[image.ndim - mask.ndim :] != mask.shape or mask.ndim > image.ndim:
        raise ValueError(
            f"a mask of shape {mask.shape} does not fit an image of shape {image.shape}; give one of the image's shape "
            "or of its last axes"
        )
    return mask

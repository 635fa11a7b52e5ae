"""What operators on images refuse at the door: kernels without a centre, shares of nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from torch import Tensor

from bayes_ir.models.operators._checks import as_real

__all__ = [
    "as_data_range",
    "as_kernel",
    "as_low_frequencies",
    "as_number",
    "as_odd_size",
    "as_positive",
    "as_share",
    "check_low_frequencies_fit",
]


def as_number(where: str, name: str, value: Any) -> float:
    """``value`` as a finite real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{where}: expected {name} to be a number, got {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"{where}: expected {name} to be finite, got {value}.")
    return float(value)


def as_odd_size(where: str, name: str, value: Any) -> int:
    """``value`` as an odd whole number of pixels: a kernel of even size has no pixel at its centre."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{where}: expected {name} to be a whole number of pixels, got {value!r}.")
    size = int(value)
    if size < 1 or size % 2 == 0:
        near = f"{size - 1} or {size + 1}" if size > 1 else "1 or 3"
        raise ValueError(f"{where}: expected {name} to be odd and positive, got {size}; try {near}.")
    return size


def as_kernel(where: str, kernel: Any) -> Tensor:
    """``kernel`` as a real tensor (odd, odd) with finite taps, not all of them zero."""
    taps = as_real(where, "kernel", kernel, 2)
    if taps.shape[0] % 2 == 0 or taps.shape[1] % 2 == 0:
        raise ValueError(
            f"{where}: expected a kernel with odd sides, got {tuple(taps.shape)}, which has no tap at its centre; "
            "add a row or a column of zeros on the side that puts the centre where it belongs."
        )
    if not (taps != 0).any():
        raise ValueError(
            f"{where}: every tap of the {tuple(taps.shape)} kernel is zero, so nothing is measured."
        )
    return taps


def as_share(where: str, ratio: Any, total: int, what: str) -> int:
    """How many of ``total`` things the fraction ``ratio`` keeps, rounded down, at least one."""
    share = as_number(where, "ratio", ratio)
    if not 0 < share <= 1:
        hint = f"; for one in {share:g} take ratio=1/{share:g}" if share > 1 else ""
        raise ValueError(f"{where}: expected 0 < ratio <= 1, the share of {what} kept, got {ratio}{hint}.")
    kept = math.floor(share * total * (1 + 1e-12))  # a third of 9 is 3, though 1/3 is rounded down
    if kept < 1:
        raise ValueError(
            f"{where}: ratio={ratio} keeps none of {total} {what}; take a ratio of at least 1/{total}."
        )
    return kept


def as_low_frequencies(where: str, value: Any) -> int:
    """``value`` as the number of frequencies in each direction that are always kept, zero for none."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{where}: expected low_frequencies to be a whole number, got {value!r}.")
    if value < 0:
        raise ValueError(f"{where}: expected low_frequencies >= 0, got {value}.")
    return int(value)


def check_low_frequencies_fit(where: str, low: int, kept: int) -> None:
    """Refuse more low frequencies than are kept in all."""
    if low > kept:
        raise ValueError(
            f"{where}: low_frequencies asks for {low} of them, but ratio keeps only {kept}; "
            "take fewer low_frequencies or a larger ratio."
        )


def as_data_range(where: str, value: Any) -> tuple[float, float]:
    """``value`` as the smallest and the largest pixel value, two finite numbers in this order."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise TypeError(f"{where}: expected data_range to be a pair such as (0.0, 1.0), got {value!r}.")
    low, high = (as_number(where, "each end of data_range", end) for end in value)
    if low >= high:
        raise ValueError(f"{where}: expected data_range=(low, high) with low < high, got {value!r}.")
    return low, high


def as_positive(where: str, name: str, value: Any) -> float:
    """``value`` as a positive finite number."""
    number = as_number(where, name, value)
    if number <= 0:
        raise ValueError(f"{where}: expected {name} > 0, got {value}.")
    return number

r"""Poisson disks by throwing darts at a grid: points at random that keep their distance.

The points p of the grid (H, W) are thrown in a given order, and one sticks if for all q that stuck before it

    |p - q| >= max(r(p), r(q)),    r = r_0 profile.

Thrown to the end the pattern is saturated: no further point fits.  The number of points that stick falls with r_0
about as r_0^{-2}, and r_0 is searched so that it is the number wanted, or slightly more.

Source: Cook 1986, "Stochastic sampling in computer graphics".
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["poisson_darts"]

_LONGEST_SEARCH = 30


def poisson_darts(
    profile: np.ndarray, steepest: float, order: list[int], core: int, count: int, tolerance: float
) -> list[int]:
    """Throw darts with the radius ``r_0 profile`` that lets ``count`` of them stick.

    Args:
        profile: the radius up to its scale, positive, shape (H, W).
        steepest: Lipschitz constant of the profile, per point of the grid.
        order: all points in the order of throwing, row-major numbers.
        core: the first ``core`` points stick whatever their distance from each other.
        count: number of darts to return.
        tolerance: the search ends when at most ``tolerance * count`` darts too many stick, which are left out; when
            no radius does so, the closest one found is taken.

    Returns:
        ``count`` points in the order in which they stuck.
    """
    if count >= len(order):
        return order
    # Disks of radius r placed at random until no more fit hold about 0.7 / r^2 points per unit area.
    scale, low, high = math.sqrt(0.7 * float(np.sum(profile**-2)) / count), 0.0, math.inf
    goal, best = count * (1 + tolerance / 2), order
    for _ in range(_LONGEST_SEARCH):
        darts = _throw(order, core, scale * profile, scale * steepest)
        if count <= len(darts) < len(best):
            best = darts
        if count <= len(darts) <= count * (1 + tolerance):
            break
        low, high = (scale, high) if len(darts) > goal else (low, scale)
        scale *= math.sqrt(len(darts) / goal)
        if high - low < 1e-3 * low:  # the grid has no radius in between that would matter
            break
        if not low < scale < high:
            scale = (low + high) / 2 if high < math.inf else 1.5 * low
    return best[:count]


def _throw(order: list[int], core: int, radius: np.ndarray, steepest: float) -> list[int]:
    height, width = radius.shape
    squared, largest = radius**2, float(radius.max())
    free = np.ones(radius.shape, dtype=bool)
    flat = free.reshape(-1)
    middle = max(radius.shape)
    offsets = np.arange(-middle, middle + 1, dtype=np.float64) ** 2
    darts = []
    for turn, point in enumerate(order):
        if turn >= core and not flat[point]:
            continue
        i, j = divmod(point, width)
        # A point at distance d has a radius of r + steepest d at most, so it is blocked only within r / (1 - steepest).
        reach = radius[i, j] / (1 - steepest) if steepest < 1 else largest
        reach = min(math.ceil(reach), math.ceil(largest), middle)
        top, bottom = max(i - reach, 0), min(i + reach + 1, height)
        left, right = max(j - reach, 0), min(j + reach + 1, width)
        down = offsets[top - i + middle : bottom - i + middle, None]
        across = offsets[left - j + middle : right - j + middle]
        free[top:bottom, left:right] &= down + across >= np.maximum(
            squared[top:bottom, left:right], squared[i, j]
        )
        darts.append(point)
    return darts

r"""Sliced Wasserstein distances between two sets of draws.

Every direction theta on the unit sphere makes one-dimensional sets theta^T P and theta^T Q, whose distance is that of
their quantile functions, W_p^p = int_0^1 |F^{-1}(q) - G^{-1}(q)|^p dq: a finite sum over the levels i/n and j/m.

    mean-W1   E_theta W_1              SW2   (E_theta W_2^2)^{1/2}              max-W1   max_theta W_1

over directions uniform on the sphere (the maximum over the directions that were tried). Between two independent sets
of one law no distance is zero: that *floor* belongs beside every figure.

Source: Rabin et al. 2012; Bonneel et al. 2015; Deshpande et al. 2019 (arXiv:1904.05877) for the maximum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from bayes_ir.analysis.draw_sets import as_draws, flat_pair

__all__ = ["DistanceFloor", "sliced_wasserstein", "sliced_wasserstein_floor"]

KINDS = ("mean-W1", "SW2", "max-W1")
_STREAM = 3  # keeps these random numbers apart from those of a caller with the same seed
_CHUNK = 2**22  # numbers projected at a time


class DistanceFloor(NamedTuple):
    """Distance between independent sets of one law.

    Attributes:
        mean: its mean over the splits.
        sd: its standard deviation over the splits.
        sizes: draws in the two sets.
    """

    mean: float
    sd: float
    sizes: tuple[int, int]


def sliced_wasserstein(
    first: Any, second: Any, *, projections: int = 200, seed: int = 0, kind: str = "mean-W1"
) -> float:
    """Sliced Wasserstein distance over random directions.

    Args:
        first: draws, an array (n, *event_shape) or what `bir.sample` gave; flattened per draw.
        second: draws, (m, *event_shape).
        projections: number of directions.
        seed: seed of the directions.
        kind: ``"mean-W1"``, ``"SW2"`` or ``"max-W1"``.

    Returns:
        The distance, in units of the data.

    Raises:
        ValueError: when the sets have draws of different shape, are empty, or are not finite; for an unknown kind.
    """
    x, y = flat_pair("sliced_wasserstein", first, second)
    _check("sliced_wasserstein", projections, kind)
    return _distance(x, y, projections, seed, kind)


def sliced_wasserstein_floor(
    exact: Any,
    *,
    sizes: tuple[int, int] | None = None,
    splits: int = 20,
    projections: int = 200,
    seed: int = 0,
    kind: str = "mean-W1",
) -> DistanceFloor:
    """Distance between two disjoint random parts of one set of independent exact draws, over random splits.

    Args:
        exact: independent draws of the exact law.
        sizes: draws in the two parts, by default halves. A distance is to be compared with the floor of its own
            sizes, for which `exact` must hold their sum.
        splits: number of random splits; they share draws, so `sd` is that of one distance, not of their mean.
        projections: as for `sliced_wasserstein`.
        seed: seed of the splits and of the directions, which are those of `sliced_wasserstein` with this seed: few
            directions may happen to lie along a long or a short axis, and distance and floor should share that.
        kind: as for `sliced_wasserstein`.

    Raises:
        ValueError: when the parts are larger than the set, or fewer than 2 splits are asked for.
    """
    where = "sliced_wasserstein_floor"
    x = as_draws(where, exact, 2)
    x = x.reshape(len(x), -1)
    _check(where, projections, kind)
    n, m = sizes or (len(x) // 2, len(x) // 2)
    if n < 1 or m < 1 or n + m > len(x):
        raise ValueError(
            f"{where}: sizes are {(n, m)}, but there are {len(x)} exact draws; expected n + m of them."
        )
    if splits < 2:
        raise ValueError(f"{where}: splits is {splits}; expected at least 2, to know the spread.")
    rng, found = np.random.default_rng((seed, _STREAM)), []
    for _ in range(splits):
        order = rng.permutation(len(x))[: n + m]
        found.append(_distance(x[order[:n]], x[order[n:]], projections, seed, kind))
    return DistanceFloor(float(np.mean(found)), float(np.std(found, ddof=1)), (n, m))


def _check(where: str, projections: int, kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"{where}: kind is {kind!r}; expected one of {', '.join(KINDS)}.")
    if projections < 1:
        raise ValueError(f"{where}: projections is {projections}; expected at least 1.")


def _distance(x: np.ndarray, y: np.ndarray, projections: int, seed: int, kind: str) -> float:
    directions = np.random.default_rng(seed).normal(size=(projections, x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    power = 2 if kind == "SW2" else 1
    found = np.concatenate(
        [_one_dimensional(x @ d.T, y @ d.T, power) for d in _chunks(directions, len(x) + len(y))]
    )
    if kind == "SW2":
        return float(np.sqrt(found.mean()))
    return float(found.max() if kind == "max-W1" else found.mean())


def _chunks(directions: np.ndarray, draws: int) -> Iterator[np.ndarray]:
    step = max(1, _CHUNK // draws)
    for start in range(0, len(directions), step):
        yield directions[start : start + step]


def _one_dimensional(x: np.ndarray, y: np.ndarray, power: int) -> np.ndarray:
    """W_p^p of every column of x (n, P) and y (m, P), (P,)."""
    n, m = len(x), len(y)
    x, y = np.sort(x, axis=0), np.sort(y, axis=0)
    if n == m:
        return (np.abs(x - y) ** power).mean(axis=0)
    levels = np.union1d(
        np.arange(n + 1) * m, np.arange(m + 1) * n
    )  # in units of 1 / (n m), so without rounding
    gap = np.abs(x[levels[:-1] // m] - y[levels[:-1] // n]) ** power
    return (np.diff(levels) / (n * m)) @ gap

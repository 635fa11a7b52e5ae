r"""Distances between two sets of draws.

The sliced Wasserstein distance averages the one-dimensional Wasserstein distance over directions,

    SW_1(P, Q) = E_theta W_1(theta^T P, theta^T Q),    theta uniform on the unit sphere.

Between two independent sets of one law it is not zero: that *floor* belongs beside every figure.

Source: Rabin et al. 2012; Bonneel et al. 2015.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import wasserstein_distance

__all__ = ["sliced_wasserstein"]


def sliced_wasserstein(
    first: ArrayLike, second: ArrayLike, *, projections: int = 200, seed: int = 0
) -> float:
    """Mean over random directions of the one-dimensional Wasserstein-1 distance.

    Args:
        first: draws, (n, *event_shape); flattened per draw.
        second: draws, (m, *event_shape).
        projections: number of directions.
        seed: seed of the directions.

    Returns:
        The distance, in units of the data.

    Raises:
        ValueError: when the sets have draws of different shape, are empty, or are not finite.
    """
    x, y = (np.asarray(draws, dtype=float) for draws in (first, second))
    x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
    if x.shape[1:] != y.shape[1:] or not len(x) or not len(y):
        raise ValueError(
            f"sliced_wasserstein: got draws of shapes {np.shape(first)} and {np.shape(second)}; "
            "expected two non-empty sets whose draws have one shape."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("sliced_wasserstein: some draws are not finite; leave out the diverging ones first.")
    directions = np.random.default_rng(seed).normal(size=(projections, x.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return float(np.mean([wasserstein_distance(x @ d, y @ d) for d in directions]))

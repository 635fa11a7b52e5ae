r"""A band that holds the whole empirical distribution function of L uniform numbers with a given probability.

The i-th smallest of L independent uniform numbers has the law Beta(i, L + 1 - i). With the pointwise p-values
p_i = 2 min(F_i, 1 - F_i) of these laws, the band is

    l_i <= u_(i) <= h_i,     the gamma / 2 and 1 - gamma / 2 quantiles of Beta(i, L + 1 - i),

gamma such that min_i p_i >= gamma with the wanted probability; found by simulation, for the p_i depend on each other.
It is as narrow at the ends as the law is, unlike the Kolmogorov band. The distribution function leaves the band where
an ordered number leaves its interval:

    #{i : h_i <= z} / L  <=  F(z)  <=  #{i : l_i <= z} / L

Source: Saeilynoja et al. 2022 (arXiv:2103.10522), Aldor-Noiman et al. 2013 for order statistics.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import betainc, betaincinv

__all__ = ["ecdf_band"]

_STREAM = 8  # keeps these random numbers apart from those of a caller with the same seed
_NUMBERS = 2**20


def ecdf_band(
    count: int, at: np.ndarray, prob: float = 0.95, repeats: int = 4000
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper end of the band of the distribution function of `count` uniform numbers.

    Args:
        count: L.
        at: points z in [0, 1], any shape.
        prob: probability that the whole function lies in the band.
        repeats: simulated sets; the standard error of the attained probability is sqrt(prob (1 - prob) / repeats).

    Raises:
        ValueError: fewer than 2 numbers, or prob is not in (0, 1).
    """
    if count < 2 or not 0 < prob < 1:
        raise ValueError(
            f"ecdf_band: got {count!r} numbers and prob {prob!r}; expected at least 2 numbers and a probability "
            "between 0 and 1."
        )
    gamma = _pointwise_level(count, prob, repeats)
    ranks = np.arange(1, count + 1)
    low = betaincinv(ranks, ranks[::-1], gamma / 2)
    high = 1 - low[::-1]
    return np.searchsorted(high, at, side="right") / count, np.searchsorted(low, at, side="right") / count


@lru_cache(64)
def _pointwise_level(count: int, prob: float, repeats: int) -> float:
    rng = np.random.default_rng((0, _STREAM))
    ranks = np.arange(1, count + 1)
    least: list[float] = []
    while len(least) < repeats:
        sets = min(repeats - len(least), max(1, _NUMBERS // count))
        below = betainc(ranks, ranks[::-1], np.sort(rng.uniform(size=(sets, count)), axis=1))
        least += (2 * np.minimum(below, 1 - below)).min(axis=1).tolist()
    return float(np.quantile(least, 1 - prob))

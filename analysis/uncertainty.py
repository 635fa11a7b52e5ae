"""Maps of what the draws say of every pixel: mean, sd, quantiles, central intervals and their coverage.

A draw with a NaN or an infinity in it is left out, with a `NonFiniteDrawsWarning` and the attributes
`draws_used` and `draws_left_out` on every map.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import xarray as xr

from bayes_ir.analysis.draws import (
    central_interval,
    coverage_of,
    moments,
    posterior_draws,
    quantiles,
    truth_like,
)

__all__ = [
    "NonFiniteDrawsWarning",
    "interval_coverage",
    "interval_map",
    "mean_map",
    "quantile_map",
    "sd_map",
]


class NonFiniteDrawsWarning(UserWarning):
    """Some draws are not finite (the sampler diverged) and were left out."""


def mean_map(posterior: xr.DataTree, var_name: str | None = None) -> xr.DataArray:
    """Posterior mean of every pixel, float64, axes of the image.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: there is no such variable, or no draw is finite.
    """
    return _announced(moments(posterior_draws(posterior, var_name)).mean)


def sd_map(posterior: xr.DataTree, var_name: str | None = None) -> xr.DataArray:
    """Posterior standard deviation of every pixel (divisor n - 1), float64; NaN when there is one draw only.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: there is no such variable, or no draw is finite.
    """
    return _announced(moments(posterior_draws(posterior, var_name)).sd)


def quantile_map(
    posterior: xr.DataTree, q: float | Sequence[float], var_name: str | None = None
) -> xr.DataArray:
    """Posterior quantiles of every pixel (numpy's and ArviZ's "linear" definition, type 7).

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        q: one probability, or several: then the map has the leading axis `quantile`.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: q is not in [0, 1], or no draw is finite.
    """
    return _announced(quantiles(posterior_draws(posterior, var_name), q))


def interval_map(posterior: xr.DataTree, prob: float = 0.9, var_name: str | None = None) -> xr.DataArray:
    """Central (equal-tailed) posterior interval of every pixel; leading axis `ci_bound` ("lower", "upper").

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        prob: probability that the interval holds.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: prob is not in (0, 1), or no draw is finite.
    """
    return _announced(central_interval(posterior_draws(posterior, var_name), prob))


def interval_coverage(
    posterior: xr.DataTree, truth: Any, prob: float = 0.9, var_name: str | None = None
) -> float:
    """Share of pixels whose true value lies in their central interval, bounds included.

    One image's coverage scatters far more than its number of pixels suggests, for pixels err together; and
    coverage alone proves nothing, for draws of the prior have it too.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        truth: the true image, shape of one draw.
        prob: probability that the intervals hold.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: the truth has another shape than the draws, or is not finite.
    """
    draws = posterior_draws(posterior, var_name)
    true = truth_like(truth, draws)
    return coverage_of(_announced(central_interval(draws, prob)), true)


def _announced(result: xr.DataArray) -> xr.DataArray:
    left_out = result.attrs["draws_left_out"]
    if left_out:
        total = result.attrs["draws_used"] + left_out
        warnings.warn(
            f"{left_out} of {total} draws are not finite and were left out",
            NonFiniteDrawsWarning,
            stacklevel=3,
        )
    return result

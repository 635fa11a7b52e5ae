"""Maps of what the draws say of every pixel: mean, median, sd, quantiles and probabilities of exceedance.

    median   the quantile of 1/2          exceedance   P(x_i > c) = (1/n) sum_j [x_ij > c]

A draw with a NaN or an infinity in it is left out, with a `NonFiniteDrawsWarning` and the attributes
`draws_used` and `draws_left_out` on every map. Maps of a plate of images have its axis before those of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import image_like, map_of, moments, posterior_draws, quantiles
from bayes_ir.analysis.left_out import announced
from bayes_ir.analysis.streaming import finite_blocks, require_some

__all__ = ["exceedance_map", "mean_map", "median_map", "probability_map", "quantile_map", "sd_map"]


def mean_map(posterior: xr.DataTree, var_name: str | None = None) -> xr.DataArray:
    """Posterior mean of every pixel, float64, axes of the image.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: there is no such variable, or no draw is finite.
    """
    return announced(moments(posterior_draws(posterior, var_name)).mean)


def sd_map(posterior: xr.DataTree, var_name: str | None = None) -> xr.DataArray:
    """Posterior standard deviation of every pixel (divisor n - 1), float64; NaN when there is one draw only.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: there is no such variable, or no draw is finite.
    """
    return announced(moments(posterior_draws(posterior, var_name)).sd)


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
    return announced(quantiles(posterior_draws(posterior, var_name), q))


def median_map(posterior: xr.DataTree, var_name: str | None = None) -> xr.DataArray:
    """Posterior median of every pixel, float64, axes of the image.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: there is no such variable, or no draw is finite.
    """
    return announced(quantiles(posterior_draws(posterior, var_name), 0.5).drop_vars("quantile"))


def exceedance_map(posterior: xr.DataTree, threshold: Any, var_name: str | None = None) -> xr.DataArray:
    """Posterior probability that a pixel is above a threshold, ``P(x_i > c_i)``.

    From n independent draws an estimate p has a standard error of sqrt(p (1 - p) / n), at most 1 / (2 sqrt(n)).

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        threshold: c, one number in units of the image, or an image of them.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: the threshold is not finite or has another shape than an image, or no draw is finite.
    """
    draws = posterior_draws(posterior, var_name)
    if np.ndim(threshold) == 0:
        level = np.asarray(threshold, dtype=np.float64)
        if not np.isfinite(level):
            raise ValueError(
                f"exceedance_map: threshold must be a finite number or an image, got {threshold!r}"
            )
    else:
        level = image_like("threshold", threshold, draws).astype(np.float64)
    found = _probabilities(draws, lambda x: x > level)
    kind = float(level) if level.ndim == 0 else "an image"
    return announced(found.assign_attrs(threshold=kind))


def probability_map(
    posterior: xr.DataTree, predicate: Callable[[np.ndarray], np.ndarray], var_name: str | None = None
) -> xr.DataArray:
    """Posterior probability of a statement about each pixel, such as "brighter than its left neighbour".

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        predicate: a function of some draws, float64 (n, *event), to booleans of that shape.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: the predicate gives something else, or no draw is finite.
    """
    draws = posterior_draws(posterior, var_name)

    def checked(x: np.ndarray) -> np.ndarray:
        true = np.asarray(predicate(x))
        if true.shape != x.shape or true.dtype != np.bool_:
            raise ValueError(
                f"probability_map: the predicate gave {true.dtype} of shape {true.shape} for draws of shape {x.shape}; "
                "it must give booleans of that shape"
            )
        return true

    return announced(_probabilities(draws, checked))


def _probabilities(draws: xr.DataArray, predicate: Callable[[np.ndarray], np.ndarray]) -> xr.DataArray:
    used, count = 0, np.zeros(draws.shape[2:], dtype=np.int64)
    for block in finite_blocks(draws):
        count += predicate(block).sum(axis=0)
        used += len(block)
    require_some(used, draws.sizes["chain"] * draws.sizes["draw"])
    return map_of(draws, count / used, used).rename("probability")

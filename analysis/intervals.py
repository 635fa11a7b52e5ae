"""Intervals of every pixel: central, of highest density, their widths, and the share of a truth they cover.

Both kinds hold the probability `prob` of a pixel alone, not of the image as a whole. See `draws` for the formulas and
`streaming` for how a store is read.
"""

from __future__ import annotations

from typing import Any

import xarray as xr

from bayes_ir.analysis.draws import (
    central_interval,
    coverage_of,
    highest_density_interval,
    posterior_draws,
    truth_like,
)
from bayes_ir.analysis.left_out import announced

__all__ = ["hdi_map", "interval_coverage", "interval_map", "interval_width_map"]


def interval_map(posterior: xr.DataTree, prob: float = 0.9, var_name: str | None = None) -> xr.DataArray:
    """Central (equal-tailed) posterior interval of every pixel; leading axis `ci_bound` ("lower", "upper").

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        prob: probability that the interval holds.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: prob is not in (0, 1), or no draw is finite.
    """
    return announced(central_interval(posterior_draws(posterior, var_name), prob))


def hdi_map(posterior: xr.DataTree, prob: float = 0.9, var_name: str | None = None) -> xr.DataArray:
    """Posterior interval of highest density of every pixel, ArviZ's; leading axis `ci_bound`.

    The shortest interval between two draws; of few draws it is narrower than `prob` deserves, and jumpy.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        prob: probability that the interval holds.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: prob is not in (0, 1), or no draw is finite.
    """
    return announced(highest_density_interval(posterior_draws(posterior, var_name), prob))


def interval_width_map(
    posterior: xr.DataTree, prob: float = 0.9, kind: str = "eti", var_name: str | None = None
) -> xr.DataArray:
    """Width of the posterior interval of every pixel, in units of the image.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        prob: probability that the interval holds.
        kind: "eti" for the central interval, "hdi" for that of highest density.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: prob is not in (0, 1), the kind is unknown, or no draw is finite.
    """
    kinds = {"eti": central_interval, "hdi": highest_density_interval}
    if kind not in kinds:
        raise ValueError(f"kind must be 'eti' (central) or 'hdi' (highest density), got {kind!r}")
    bounds = kinds[kind](posterior_draws(posterior, var_name), prob)
    width = bounds.sel(ci_bound="upper", drop=True) - bounds.sel(ci_bound="lower", drop=True)
    return announced(width.assign_attrs(bounds.attrs))


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
    return coverage_of(announced(central_interval(draws, prob)), true)

"""The draws of a posterior, read in pieces, and what is summed up over them.

    mean   m = (1/n) sum_i x_i                      sd   s = sqrt( sum_i (x_i - m)^2 / (n - 1) )

Both are summed up piece by piece in float64 (Chan, Golub and LeVeque 1983): for two parts with counts n_a,
n_b, means m_a, m_b and sums of squares M_a, M_b, M = M_a + M_b + (m_b - m_a)^2 n_a n_b / (n_a + n_b). A store
larger than the memory is read once and never held. Quantiles need all draws of a pixel and are taken band by
band.

A draw with a NaN or an infinity in it says nothing of any pixel and is left out everywhere; every result says
how many were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayes_ir.analysis.posterior import as_array

__all__ = [
    "Moments",
    "blocks_of",
    "central_interval",
    "coverage_of",
    "finite_draws",
    "moments",
    "posterior_draws",
    "quantiles",
    "truth_like",
]

_BAND_BYTES = 2**28


class Moments(NamedTuple):
    """Pixel-wise moments of the finite draws."""

    mean: xr.DataArray
    sd: xr.DataArray
    used: int
    left_out: int


def posterior_draws(
    posterior: xr.DataTree | xr.Dataset | xr.DataArray, var_name: str | None = None
) -> xr.DataArray:
    """The draws of the image, axes (chain, draw, *event).

    Args:
        posterior: a tree with the group `posterior`, one dataset of draws, or the draws themselves.
        var_name: name of the image site, by default what the tree says it is; needed where there are several variables.

    Raises:
        ValueError: there is no such variable, several and none named, or it has no axes `chain` and `draw`.
    """
    data: Any = posterior
    if isinstance(data, xr.DataTree):
        var_name = var_name or data.attrs.get("image_site")
        if "posterior" not in data.children and "posterior" != data.name:
            raise ValueError(
                f"the tree has no group 'posterior', only {sorted(data.children)}; give one of bir.sample"
            )
        data = data["posterior"].dataset if "posterior" in data.children else data.dataset
    if isinstance(data, xr.Dataset):
        names = [str(name) for name in data.data_vars]
        if var_name is None and len(names) != 1:
            raise ValueError(f"the posterior has the variables {names}; name the image by var_name=")
        if var_name is not None and var_name not in names:
            raise ValueError(f"the posterior has no variable {var_name!r}, only {names}")
        data = data[var_name or names[0]]
    if not isinstance(data, xr.DataArray) or not {"chain", "draw"} <= set(data.dims):
        found = getattr(data, "dims", type(data).__name__)
        raise ValueError(f"expected posterior draws with axes 'chain' and 'draw', got {found}")
    return data.transpose("chain", "draw", ...)


def blocks_of(draws: xr.DataArray) -> Iterator[tuple[int, slice, np.ndarray]]:
    """The draws in pieces (chain number, draw numbers, array (n, *event)), each read from the disk once."""
    step = draws.encoding.get("preferred_chunks", {}).get("draw") or max(
        1, _BAND_BYTES // max(1, draws[0, 0].size * draws.dtype.itemsize)
    )
    for chain in range(draws.sizes["chain"]):
        for start in range(0, draws.sizes["draw"], step):
            span = slice(start, min(start + step, draws.sizes["draw"]))
            yield chain, span, draws[chain, span].values


def finite_draws(draws: xr.DataArray) -> np.ndarray:
    """Which draws have no NaN and no infinity in them, (chain, draw)."""
    finite = np.zeros((draws.sizes["chain"], draws.sizes["draw"]), dtype=bool)
    for chain, span, block in blocks_of(draws):
        finite[chain, span] = _finite(block)
    return finite


def moments(draws: xr.DataArray) -> Moments:
    """Mean and sd of every pixel over all finite draws, in one pass and without a warning.

    Raises:
        ValueError: no draw is finite.
    """
    shape = draws.shape[2:]
    count, mean, squares = 0, np.zeros(shape), np.zeros(shape)
    for _, _, block in blocks_of(draws):
        part = block[_finite(block)].astype(np.float64)
        if not len(part):
            continue
        step = part.mean(axis=0) - mean
        total = count + len(part)
        squares += ((part - part.mean(axis=0)) ** 2).sum(axis=0) + step**2 * (count * len(part) / total)
        mean += step * (len(part) / total)
        count = total
    left_out = draws.sizes["chain"] * draws.sizes["draw"] - count
    _require_some(count, left_out)
    sd = np.sqrt(squares / (count - 1)) if count > 1 else np.full(shape, np.nan)
    return Moments(_map(draws, mean, count, left_out), _map(draws, sd, count, left_out), count, left_out)


def quantiles(draws: xr.DataArray, q: float | Sequence[float]) -> xr.DataArray:
    """Quantiles of every pixel over all finite draws, without a warning.

    Raises:
        ValueError: q is not in [0, 1], or no draw is finite.
    """
    levels = np.asarray(q, dtype=np.float64)
    if levels.ndim > 1 or not ((levels >= 0) & (levels <= 1)).all():
        raise ValueError(f"q must be a probability in [0, 1] or a list of them, got {q!r}")
    finite = finite_draws(draws)
    used, left_out = int(finite.sum()), int((~finite).sum())
    _require_some(used, left_out)
    values = np.empty((*levels.shape, *draws.shape[2:]))
    for band in _bands(draws):
        here: Any = (..., *band)
        values[here] = np.quantile(draws[(slice(None), slice(None), *band)].values[finite], levels, axis=0)
    lead = ("quantile",) if levels.ndim else ()
    return _map(draws, values, used, left_out, lead).assign_coords(quantile=(lead, levels))


def central_interval(draws: xr.DataArray, prob: float) -> xr.DataArray:
    """Central interval of every pixel over all finite draws, without a warning; leading axis `ci_bound`.

    Raises:
        ValueError: prob is not in (0, 1), or no draw is finite.
    """
    if not 0 < prob < 1:
        raise ValueError(f"prob must be a probability between 0 and 1, got {prob!r}")
    bounds = quantiles(draws, [(1 - prob) / 2, (1 + prob) / 2]).rename(quantile="ci_bound")
    return bounds.assign_coords(ci_bound=["lower", "upper"]).assign_attrs(ci_kind="eti", ci_prob=prob)


def coverage_of(bounds: xr.DataArray, truth: np.ndarray) -> float:
    """Share of pixels of the truth within these bounds (lower, upper)."""
    lower, upper = bounds.values
    return float(((lower <= truth) & (truth <= upper)).mean())


def truth_like(truth: Any, draws: xr.DataArray) -> np.ndarray:
    """The truth as an array of the shape of one draw.

    Raises:
        ValueError: it has another shape, or a NaN or an infinity in it.
    """
    true = as_array(truth)
    if true.shape != draws.shape[2:]:
        raise ValueError(
            f"truth has shape {true.shape}, the draws of {draws.name!r} have {draws.shape[2:]}; give one "
            "image"
        )
    if not np.isfinite(true).all():
        raise ValueError(f"truth holds {int((~np.isfinite(true)).sum())} values that are not finite")
    return true


def _finite(block: np.ndarray) -> np.ndarray:
    return np.isfinite(block).all(axis=tuple(range(1, block.ndim)))


def _bands(draws: xr.DataArray) -> Iterator[tuple[slice, ...]]:
    """Index of one band of the image after the other, cut across its longest axis, each of bounded size."""
    shape = draws.shape[2:]
    if not shape:
        yield ()
        return
    axis = int(np.argmax(shape))
    width = max(1, shape[axis] * _BAND_BYTES // max(1, draws.size * draws.dtype.itemsize))
    for start in range(0, shape[axis], width):
        yield tuple(slice(start, start + width) if i == axis else slice(None) for i in range(len(shape)))


def _map(
    draws: xr.DataArray, values: np.ndarray, used: int, left_out: int, lead: tuple[str, ...] = ()
) -> xr.DataArray:
    dims = draws.dims[2:]
    coords = {dim: draws.coords[dim] for dim in dims if dim in draws.coords}
    attrs = {"draws_used": used, "draws_left_out": left_out}
    return xr.DataArray(values, coords=coords, dims=(*lead, *dims), name=draws.name, attrs=attrs)


def _require_some(used: int, left_out: int) -> None:
    if not used:
        raise ValueError(
            f"none of the {left_out} draws is finite: the sampler diverged; take more steps or smaller ones"
        )

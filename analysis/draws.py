"""The draws of a posterior: found in a tree, and summed up over.

    mean   m = (1/n) sum_i x_i                      sd   s = sqrt( sum_i (x_i - m)^2 / (n - 1) )

Both are summed up block by block in float64 (Chan, Golub and LeVeque 1983): for two parts with counts n_a,
n_b, means m_a, m_b and sums of squares M_a, M_b, M = M_a + M_b + (m_b - m_a)^2 n_a n_b / (n_a + n_b). A store
larger than the memory is read once and never held. Quantiles and intervals need all draws of a pixel and are taken
tile by tile (`streaming`):

    central interval      (q_((1 - p) / 2), q_((1 + p) / 2)), type 7 quantiles
    highest density       of all (x_(i), x_(i + k)) with k = floor(p n) the shortest, x_(i) the sorted draws

The second is the shortest interval between two draws, one piece always; of a pixel with two modes it spans both.

A draw with a NaN or an infinity in it says nothing of any pixel and is left out everywhere; every result says
how many were.

Source: Hyndman and Fan 1996 for the quantiles; Chen and Shao 1999 for the interval of highest density.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayes_ir.analysis.posterior import as_array
from bayes_ir.analysis.streaming import blocks_of, finite_blocks, finite_draws, require_some, tiles_of

__all__ = [
    "Moments",
    "blocks_of",
    "central_interval",
    "coverage_of",
    "finite_draws",
    "highest_density_interval",
    "image_like",
    "map_of",
    "moments",
    "plates_first",
    "posterior_draws",
    "quantiles",
    "require_one_image",
    "truth_like",
]


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


def plates_first(draws: xr.DataArray) -> tuple[xr.DataArray, tuple[str, ...]]:
    """The draws with the axes of plates before those of the image, and the names of the former.

    The axes of an image `x` are called `x_...`, those of its plates otherwise. Where no axis is called so (draws
    that were not made here), all are the image's.
    """
    axes = [str(dim) for dim in draws.dims[2:]]
    own = [dim for dim in axes if dim.startswith(f"{draws.name}_")]
    plates = tuple(dim for dim in axes if dim not in own) if own else ()
    return draws.transpose("chain", "draw", *plates, ...), plates


def moments(draws: xr.DataArray) -> Moments:
    """Mean and sd of every pixel over all finite draws, in one pass and without a warning.

    Raises:
        ValueError: no draw is finite.
    """
    shape = draws.shape[2:]
    count, mean, squares = 0, np.zeros(shape), np.zeros(shape)
    for part in finite_blocks(draws):
        centre = part.mean(axis=0)
        step, total = centre - mean, count + len(part)
        part -= centre
        squares += (part * part).sum(axis=0) + step**2 * (count * len(part) / total)
        mean += step * (len(part) / total)
        count = total
    size = draws.sizes["chain"] * draws.sizes["draw"]
    require_some(count, size)
    sd = np.sqrt(squares / (count - 1)) if count > 1 else np.full(shape, np.nan)
    return Moments(map_of(draws, mean, count), map_of(draws, sd, count), count, size - count)


def quantiles(draws: xr.DataArray, q: float | Sequence[float]) -> xr.DataArray:
    """Quantiles of every pixel over all finite draws, without a warning.

    Raises:
        ValueError: q is not in [0, 1], or no draw is finite.
    """
    levels = np.asarray(q, dtype=np.float64)
    if levels.ndim > 1 or not ((levels >= 0) & (levels <= 1)).all():
        raise ValueError(f"q must be a probability in [0, 1] or a list of them, got {q!r}")
    lead = {"quantile": levels} if levels.ndim else {}
    found = _pixelwise(draws, lambda x: np.quantile(x, levels, axis=0, overwrite_input=True), lead)
    return found if levels.ndim else found.assign_coords(quantile=levels)


def central_interval(draws: xr.DataArray, prob: float) -> xr.DataArray:
    """Central interval of every pixel over all finite draws, without a warning; leading axis `ci_bound`.

    Raises:
        ValueError: prob is not in (0, 1), or no draw is finite.
    """
    _check_prob(prob)
    bounds = quantiles(draws, [(1 - prob) / 2, (1 + prob) / 2]).rename(quantile="ci_bound")
    return bounds.assign_coords(ci_bound=["lower", "upper"]).assign_attrs(ci_kind="eti", ci_prob=prob)


def highest_density_interval(draws: xr.DataArray, prob: float) -> xr.DataArray:
    """Shortest interval of every pixel that holds `prob` of its finite draws; leading axis `ci_bound`.

    Raises:
        ValueError: prob is not in (0, 1), or no draw is finite.
    """
    from arviz_stats.base import array_stats

    _check_prob(prob)

    def shortest(values: np.ndarray) -> np.ndarray:
        return np.moveaxis(array_stats.hdi(values, prob, axis=0), -1, 0)

    found = _pixelwise(draws, shortest, {"ci_bound": ["lower", "upper"]})
    return found.assign_attrs(ci_kind="hdi", ci_prob=prob)


def coverage_of(bounds: xr.DataArray, truth: np.ndarray) -> float:
    """Share of pixels of the truth within these bounds (lower, upper)."""
    lower, upper = bounds.values
    return float(((lower <= truth) & (truth <= upper)).mean())


def truth_like(truth: Any, draws: xr.DataArray) -> np.ndarray:
    """The truth as an array of the shape of one draw.

    Raises:
        ValueError: it has another shape or other coordinates, or a NaN or an infinity in it.
    """
    return image_like("truth", truth, draws)


def image_like(what: str, image: Any, draws: xr.DataArray) -> np.ndarray:
    """An image as an array of the shape of one draw; one with named axes is brought into the draws' order.

    Raises:
        ValueError: it has another shape or other coordinates, or a NaN or an infinity in it.
    """
    if isinstance(image, xr.DataArray) and set(image.dims) == set(draws.dims[2:]):
        image = image.transpose(*draws.dims[2:])
        _same_pixels(what, image, f"the draws of {draws.name!r}", draws)
    array = as_array(image)
    if array.shape != draws.shape[2:]:
        raise ValueError(
            f"{what} has shape {array.shape}, the draws of {draws.name!r} have {draws.shape[2:]}; give one "
            "image"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds {int((~np.isfinite(array)).sum())} values that are not finite")
    return array


def require_one_image(where: str, draws: Mapping[str, xr.DataArray]) -> None:
    """Refuses posteriors, by name, that are not of the same pixels.

    Raises:
        ValueError: images of different shapes, or of different coordinates.
    """
    shapes = {name: array.shape[2:] for name, array in draws.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"{where}: the draws have the shapes {shapes}; expected posteriors of one image")
    (first, array), *others = draws.items()
    for name, other in others:
        _same_pixels(f"{where}: {name!r}", other, repr(first), array)


def _same_pixels(what: str, one: xr.DataArray, which: str, other: xr.DataArray) -> None:
    for dim in set(other.dims) - {"chain", "draw"}:
        if dim in one.coords and dim in other.coords and not one[dim].equals(other[dim]):
            raise ValueError(
                f"{what} has the coordinates {_ends(one[dim])} along {dim!r}, {which} has {_ends(other[dim])}; "
                "select the same pixels of both"
            )


def map_of(
    draws: xr.DataArray, values: np.ndarray, used: int, lead: dict[str, Any] | None = None
) -> xr.DataArray:
    """Values per pixel under the image's own names; `lead` names axes before them, with their coordinates."""
    lead, dims = lead or {}, draws.dims[2:]
    coords = {dim: draws.coords[dim] for dim in dims if dim in draws.coords} | lead
    attrs = {"draws_used": used, "draws_left_out": draws.sizes["chain"] * draws.sizes["draw"] - used}
    return xr.DataArray(values, coords=coords, dims=(*lead, *dims), name=draws.name, attrs=attrs)


def _pixelwise(
    draws: xr.DataArray, function: Callable[[np.ndarray], np.ndarray], lead: dict[str, Any]
) -> xr.DataArray:
    """The map of function: (n, *tile) -> (*lead, *tile)."""
    values = np.empty((*(len(coordinate) for coordinate in lead.values()), *draws.shape[2:]))
    used = 0
    for tile, part in tiles_of(draws):
        here: Any = (..., *tile)
        values[here], used = function(part), len(part)
    return map_of(draws, values, used, lead)


def _check_prob(prob: float) -> None:
    if not 0 < prob < 1:
        raise ValueError(f"prob must be a probability between 0 and 1, got {prob!r}")


def _ends(coordinate: xr.DataArray) -> str:
    values = coordinate.values
    return f"{values[0]} ... {values[-1]} ({len(values)} of them)" if len(values) else "none"

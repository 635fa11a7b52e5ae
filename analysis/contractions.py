r"""How much the measurements have told: prior against posterior variance.

    c = 1 - Var(f(x) | y) / Var(f(x))

1: all is known of f; 0: nothing was learned.  Below 0 the posterior is wider than the prior, which on average over y it
never is: data far from what the prior expects, or a sampler that is too wide.  With the sample variances V and V_0 of n
and n_0 draws and their kurtosis k, k_0 (3 for a Gaussian), to first order

    se(c)^2 = (V / V_0)^2 ( (k - 1) / n + (k_0 - 1) / n_0 ).

n is the number of draws, for functionals of several chains the effective number for squares: draws that share a chain
or a cloud know less than their number says, and of a map that is not seen.

Source: Schad, Betancourt and Vasishth 2021 (contraction); Kenney and Keeping 1951 (variance of a variance).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import blocks_of, moments, plates_first, posterior_draws, require_one_image
from bayes_ir.analysis.functionals import Functional, default_functionals, evaluate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["contraction", "contraction_map", "variance_of"]


def contraction_map(posterior: xr.DataTree, prior: xr.DataTree, var_name: str | None = None) -> xr.Dataset:
    """Contraction of every pixel.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        prior: what `bir.prior_predictive` gave, or any tree with the group `prior`.
        var_name: name of the image site; needed only when there are several.

    Returns:
        `contraction` and `se` over the axes of the image; NaN where the prior does not vary.

    Raises:
        ValueError: a group is missing, the images differ in shape, axes or coordinates, or one of them has a single
            finite draw.
    """
    after, before = _both("contraction_map", posterior, prior, var_name)
    (v, spread), (v0, spread0) = (variance_of("contraction_map", draws) for draws in (after, before))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = v / v0
        se = ratio * np.sqrt(spread + spread0)
    axes = {dim: after.coords[dim] for dim in after.dims[2:] if dim in after.coords}
    arrays = {
        "contraction": np.where(v0 > 0, 1 - ratio, np.nan),
        "se": np.where(v0 > 0, np.where(v > 0, se, 0.0), np.nan),
    }
    return xr.Dataset({name: (after.dims[2:], a) for name, a in arrays.items()}, coords=axes)


def contraction(
    posterior: xr.DataTree,
    prior: xr.DataTree,
    functionals: Mapping[str, Functional | np.ndarray] | None = None,
    var_name: str | None = None,
) -> pd.DataFrame:
    """Contraction of functionals of the image, such as the means of regions; within a plate, of each image.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        prior: what `bir.prior_predictive` gave, or any tree with the group `prior`.
        functionals: name -> function of one image giving a number, or a mask of booleans in the shape of an image, for
            the mean over that region; by default those of `default_functionals`.
        var_name: name of the image site; needed only when there are several.

    Returns:
        A row per functional: `prior_sd`, `posterior_sd`, `contraction`, `se`.

    Raises:
        ValueError: as `contraction_map`; for a mask of another shape, an empty one, or a functional without variance
            under the prior.
    """
    import pandas as pd

    after, before = _both("contraction", posterior, prior, var_name)
    _, plates = plates_first(after)
    shape = tuple(n for dim, n in zip(after.dims[2:], after.shape[2:], strict=True) if dim not in plates)
    chosen = {
        name: f if callable(f) else _region(name, f, shape)
        for name, f in (functionals or default_functionals(shape)).items()
    }
    rows = {}
    values, values0 = (_by_image(evaluate(draws, chosen).values) for draws in (after, before))
    for name in values:
        v, spread = _of_chains(name, values[name])
        v0, spread0 = _of_chains(name, values0[name])
        if v0 == 0:
            raise ValueError(f"contraction: the functional {name!r} does not vary under the prior")
        rows[name] = {
            "prior_sd": np.sqrt(v0),
            "posterior_sd": np.sqrt(v),
            "contraction": 1 - v / v0,
            "se": v / v0 * np.sqrt(spread + spread0),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _both(
    where: str, posterior: xr.DataTree, prior: xr.DataTree, var_name: str | None
) -> tuple[xr.DataArray, xr.DataArray]:
    if "prior" not in prior.children:
        raise ValueError(
            f"{where}: the second tree has no group 'prior', only {sorted(prior.children)}; make one by "
            "bir.prior_predictive(model)"
        )
    after = posterior_draws(posterior, var_name)
    before = posterior_draws(prior["prior"].dataset, str(after.name))
    one, two = (dict(zip(a.dims[2:], a.shape[2:], strict=True)) for a in (after, before))
    if one != two:
        raise ValueError(
            f"{where}: the images of the posterior have the axes {one}, those of the prior {two}; give draws "
            "of one model"
        )
    require_one_image(where, {"the posterior": after, "the prior": before})
    return after, before


def variance_of(where: str, draws: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Variance of every pixel, and the squared relative error of it, (k - 1) / n."""
    found = moments(draws)
    if found.used < 2:
        raise ValueError(f"{where}: {draws.name!r} has {found.used} finite draw; a variance needs at least 2")
    fourth, mean = np.zeros(draws.shape[2:]), found.mean.values
    for _, _, block in blocks_of(draws):
        part = block[np.isfinite(block).all(axis=tuple(range(1, block.ndim)))].astype(np.float64)
        fourth += ((part - mean) ** 4).sum(axis=0)
    second = found.sd.values**2 * (found.used - 1) / found.used
    with np.errstate(divide="ignore", invalid="ignore"):
        kurtosis = np.where(second > 0, fourth / found.used / second**2, 1.0)
    return found.sd.values**2, (kurtosis - 1) / found.used


def _by_image(values: xr.Dataset) -> dict[str, np.ndarray]:
    """Draws (chain, draw) by the name of the functional and, within a plate, the number of the image."""
    found = {}
    for name, array in values.data_vars.items():
        for index in np.ndindex(array.shape[2:]):
            number = f"[{', '.join(map(str, index))}]" if index else ""
            found[f"{name}{number}"] = array.values[(..., *index)]
    return found


def _of_chains(name: str, values: np.ndarray) -> tuple[float, float]:
    """The same of one functional, (chain, draw), with the effective number of draws for squares."""
    from arviz_stats.base import array_stats

    if values.size < 2:
        raise ValueError(f"contraction: {name!r} has {values.size} finite draw; a variance needs at least 2")
    variance = float(values.var(ddof=1))
    if variance == 0:
        return 0.0, 0.0
    squares = (values - values.mean()) ** 2
    size = float(values.size)
    if values.shape[0] > 1 and values.shape[1] >= 4:
        size = min(size, float(array_stats.ess(squares, chain_axis=0, draw_axis=1, method="mean")))
    return variance, float(squares.var() / squares.mean() ** 2) / size


def _region(name: str, mask: Any, shape: tuple[int, ...]) -> Functional:
    inside = np.asarray(mask)
    if inside.dtype != bool or inside.shape != shape or not inside.any():
        raise ValueError(
            f"contraction: the region {name!r} has shape {inside.shape} and type {inside.dtype}; expected booleans of "
            f"shape {shape}, some of them True"
        )
    return lambda image: float(image[inside].mean())

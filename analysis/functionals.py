"""Scalar functionals of an image: x -> f(x), a number that a question is about.

The draws f(x_1), f(x_2), ... of a functional are an ordinary posterior of a scalar, for which every
diagnostic of Markov chain Monte Carlo is made; those of 784 pixels are not. Of a plate of images a functional has a
value for each image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import plates_first, posterior_draws
from bayes_ir.analysis.left_out import announced
from bayes_ir.analysis.store import largest_rectangle
from bayes_ir.analysis.streaming import blocks_of, require_some

__all__ = [
    "Evaluated",
    "Functional",
    "collect",
    "default_functionals",
    "evaluate",
    "functional_draws",
    "scalar",
]

Functional = Callable[[np.ndarray], float]


class Evaluated(NamedTuple):
    """Draws of functionals.

    Attributes:
        values: axes (chain, draw) and those of plates; attributes `draws_used` and `draws_left_out`.
        notes: in words, what was left out.
    """

    values: xr.Dataset
    notes: tuple[str, ...]


def functional_draws(
    posterior: xr.DataTree, functionals: Mapping[str, Functional], var_name: str | None = None
) -> xr.DataTree:
    """The posterior of functionals of the image, as a tree that ArviZ takes.

    Draws that are not finite are left out, with a `NonFiniteDrawsWarning`. ArviZ needs chains of one length: of
    chains from which draws are missing, the chains and leading finite draws are kept that are most draws together.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        functionals: name -> function of one image (float64, shape of one draw) giving a number; see
            `region_functionals` and `EdgePosition` for some.
        var_name: name of the image site; needed only when there are several.

    Returns:
        A tree whose group `posterior` has a variable per functional, axes (chain, draw) and those of plates.

    Raises:
        ValueError: no functional is given, one does not give a finite number, or no draw is finite.
    """
    if not functionals:
        raise ValueError("functional_draws: no functional is given; name one, such as {'mean': np.mean}")
    values = announced(*evaluate(posterior_draws(posterior, var_name), functionals))
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=values.attrs), "posterior": values})


def default_functionals(shape: tuple[int, ...]) -> dict[str, Functional]:
    """Mean and norm of the image, and for (C, H, W) the mean of each quadrant."""
    chosen: dict[str, Functional] = {"mean": _mean, "norm": _norm}
    if len(shape) == 3 and min(shape[1:]) >= 2:
        row, column = shape[1] // 2, shape[2] // 2
        for side, rows in (("top", slice(row)), ("bottom", slice(row, None))):
            for edge, columns in (("left", slice(column)), ("right", slice(column, None))):
                chosen[f"mean_{side}_{edge}"] = partial(_mean, part=(slice(None), rows, columns))
    return chosen


def _mean(x: np.ndarray, part: Any = ...) -> float:
    return float(x[part].mean())


def _norm(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).sum()))


def evaluate(draws: xr.DataArray, functionals: Mapping[str, Functional]) -> Evaluated:
    """f(x_i) of every finite draw, read block by block, without a warning.

    Raises:
        ValueError: no draw is finite, or a functional is no function or does not give one finite number.
    """
    for name, f in functionals.items():
        if not callable(f):
            raise ValueError(
                f"functional {name!r} is a {type(f).__name__}; expected a function of one image giving a number"
            )

    def rows(images: np.ndarray) -> list[list[float]]:
        return [[scalar(name, f, image) for name, f in functionals.items()] for image in images]

    found, notes = collect(draws, rows)
    values = xr.Dataset({name: found[..., i] for i, name in enumerate(functionals)}, attrs=found.attrs)
    return Evaluated(values, notes)


def collect(draws: xr.DataArray, rows: Callable[[np.ndarray], Any]) -> tuple[xr.DataArray, tuple[str, ...]]:
    """Some numbers of every finite draw, axes (chain, draw, *plates, number), and in words what was left out.

    Args:
        draws: of a posterior.
        rows: function of images, float64 (m, *event), to numbers (m, K).

    Raises:
        ValueError: no draw is finite.
    """
    draws, plates = plates_first(draws)
    chains, total = draws.sizes["chain"], draws.sizes["chain"] * draws.sizes["draw"]
    over, event = draws.shape[2 : 2 + len(plates)], draws.shape[2 + len(plates) :]
    lengths, found = np.zeros(chains, dtype=int), np.empty(0)
    for chain, _, block in blocks_of(draws):
        block = block[np.isfinite(block).all(axis=tuple(range(1, block.ndim)))]
        if not len(block):
            continue
        numbers = np.asarray(rows(block.astype(np.float64).reshape(-1, *event)), dtype=np.float64)
        if not found.size:
            found = np.empty((chains, draws.sizes["draw"], *over, numbers.shape[-1]))
        start = lengths[chain]
        lengths[chain] += len(block)
        found[chain, start : lengths[chain]] = numbers.reshape(len(block), *over, -1)
    require_some(int(lengths.sum()), total)
    kept, length = largest_rectangle(lengths)
    notes = []
    if lengths.sum() < total:
        notes.append(f"{total - lengths.sum()} of {total} draws are not finite and were left out.")
    if len(kept) * length < lengths.sum():
        notes.append(
            f"Used are {len(kept)} chains of {length} draws, for ArviZ needs chains of one length: "
            f"{lengths.sum() - len(kept) * length} finite draws were left out."
        )
    names = draws.coords["chain"].values if "chain" in draws.coords else np.arange(chains)
    coords = {"chain": names[kept], "draw": np.arange(length)}
    coords |= {dim: draws.coords[dim].values for dim in plates if dim in draws.coords}
    # Chains that are all there are not copied: of many draws these are many numbers.
    values = found[:, :length] if len(kept) == chains else found[kept, :length]
    attrs = {"draws_used": len(kept) * length, "draws_left_out": int(total - len(kept) * length)}
    return xr.DataArray(values, coords, ("chain", "draw", *plates, "number"), attrs=attrs), tuple(notes)


def scalar(name: str, function: Functional, image: np.ndarray) -> float:
    """f(x), which must be one finite number.

    Raises:
        ValueError: it is not.
    """
    value = np.asarray(function(image))
    if value.size != 1 or not np.isfinite(value).all():
        gave = value.item() if value.size == 1 else f"an array of shape {value.shape}"
        raise ValueError(
            f"functional {name!r} gave {gave} for an image of shape {image.shape}; it must give one finite "
            "number"
        )
    return float(value.item())

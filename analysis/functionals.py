"""Scalar functionals of an image: x -> f(x), a number that a question is about.

The draws f(x_1), f(x_2), ... of a functional are an ordinary posterior of a scalar, for which every
diagnostic of Markov chain Monte Carlo is made; those of 784 pixels are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import blocks_of
from bayes_ir.analysis.store import largest_rectangle

__all__ = ["Functional", "default_functionals", "evaluate", "scalar"]

Functional = Callable[[np.ndarray], float]


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


def evaluate(
    draws: xr.DataArray, functionals: Mapping[str, Functional]
) -> tuple[dict[str, np.ndarray], tuple]:
    """f(x_i) of every finite draw as arrays (chain, draw), and in words what was left out.

    ArviZ needs chains of one length: of chains from which draws are missing the rectangle with most draws is
    kept.

    Raises:
        ValueError: no draw is finite, or a functional does not give one finite number.
    """
    rows: dict[str, list[list[float]]] = {
        name: [[] for _ in range(draws.sizes["chain"])] for name in functionals
    }
    lengths = np.zeros(draws.sizes["chain"], dtype=int)
    for chain, _, block in blocks_of(draws):
        for image in block:
            if np.isfinite(image).all():
                lengths[chain] += 1
                for name, function in functionals.items():
                    rows[name][chain].append(scalar(name, function, image.astype(np.float64)))
    chains, length = largest_rectangle(lengths)
    total = draws.sizes["chain"] * draws.sizes["draw"]
    if not chains:
        raise ValueError(
            f"none of the {total} draws is finite: the sampler diverged; take more steps or smaller ones"
        )
    notes = []
    if lengths.sum() < total:
        notes.append(f"{total - lengths.sum()} of {total} draws are not finite and were left out.")
    if len(chains) * length < lengths.sum():
        notes.append(
            f"Functionals use {len(chains)} chains of {length} draws, for ArviZ needs chains of one length: "
            f"{lengths.sum() - len(chains) * length} finite draws were left out of that table."
        )
    return {name: np.array([rows[name][c][:length] for c in chains]) for name in functionals}, tuple(notes)


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

r"""Scalar test quantities of an image for calibration: a quantity maps images x (n, *event) and data y to n numbers.

    linear_i        r_i^T x, r_i a fixed random unit vector
    frequency_k     coefficient of the discrete cosine transform at a low frequency, summed over channels
    patch_..        mean over a quadrant of an image (C, H, W)
    energy          |x|^2

A calibration of these alone cannot see a sampler that ignores the data: the prior passes all of them. Quantities that
depend on y see it (`log_likelihood`, `residual_norm`, `data_product`; added where the operator and channel are known).

Source: Modrak et al. 2023 (10.1214/23-BA1404) on quantities that depend on the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np
from scipy.fft import dctn

__all__ = ["Quantity", "choose_quantities", "default_quantities", "evaluate_quantities"]

#: q(x, y): images (n, *event_shape) and the data of their replication -> (n,)
Quantity = Callable[[np.ndarray, Any], np.ndarray]

_FREQUENCIES = ((0, 0), (0, 1), (1, 0))


def default_quantities(event_shape: Sequence[int]) -> dict[str, Quantity]:
    """At most 11 quantities of the image alone, fewer for a small event."""
    shape = tuple(event_shape)
    size = int(np.prod(shape))
    directions = np.random.default_rng((0, 6)).normal(size=(min(3, size), *shape))
    directions /= np.sqrt((directions**2).reshape(len(directions), -1).sum(1)).reshape(-1, *(1,) * len(shape))
    chosen: dict[str, Quantity] = {
        f"linear_{i}": partial(_linear, direction=d) for i, d in enumerate(directions)
    }
    grid = shape[1:] if len(shape) == 3 else shape
    for k in range(3):
        index = (_FREQUENCIES[k] if len(grid) == 2 else (0,) * (len(grid) - 1) + (k,)) if grid else ()
        if grid and size > 3 and all(i < n for i, n in zip(index, grid, strict=True)):
            weight = np.zeros(grid)
            weight[index] = 1.0
            # the row of an orthonormal transform is its adjoint applied to a unit vector
            basis = np.broadcast_to(dctn(weight, type=3, norm="ortho"), shape)
            chosen["frequency_" + "_".join(map(str, index))] = partial(_linear, direction=basis)
    if len(shape) == 3 and min(shape[1:]) >= 4:
        row, column = shape[1] // 2, shape[2] // 2
        for side, rows in (("top", slice(row)), ("bottom", slice(row, None))):
            for edge, columns in (("left", slice(column)), ("right", slice(column, None))):
                chosen[f"patch_{side}_{edge}"] = partial(_patch, rows=rows, columns=columns)
    return chosen | {"energy": _energy}


def _linear(x: np.ndarray, y: Any, direction: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1) @ direction.ravel()


def _patch(x: np.ndarray, y: Any, rows: slice, columns: slice) -> np.ndarray:
    return x[:, :, rows, columns].mean(axis=(1, 2, 3))


def _energy(x: np.ndarray, y: Any) -> np.ndarray:
    return (x.reshape(len(x), -1) ** 2).sum(axis=1)


def choose_quantities(
    where: str, asked: Mapping[str, Quantity] | Sequence[str] | None, known: Mapping[str, Quantity]
) -> dict[str, Quantity]:
    """What was asked for: all that are known, some of them by name, or the caller's own functions.

    Raises:
        ValueError: an unknown name, none at all, or something that cannot be called.
    """
    if asked is None:
        return dict(known)
    if isinstance(asked, str) or not len(asked):
        raise ValueError(
            f"{where}: quantities is {asked!r}; expected a list of names or a mapping name -> function."
        )
    if isinstance(asked, Mapping):
        for name, function in asked.items():
            if not callable(function):
                raise ValueError(
                    f"{where}: quantity {name!r} is a {type(function).__name__}; expected a function q(x, y)."
                )
        return dict(asked)
    for name in asked:
        if name not in known:
            near = get_close_matches(str(name), list(known), n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{where}: unknown quantity {name!r}.{hint} There are: {', '.join(known)}.")
    return {name: known[name] for name in asked}


def evaluate_quantities(where: str, quantities: Mapping[str, Quantity], x: np.ndarray, y: Any) -> np.ndarray:
    """Every quantity of the images x (n, *event_shape), (n, K).

    Raises:
        ValueError: a quantity does not give n numbers, or NaN.
    """
    columns = []
    for name, function in quantities.items():
        values = np.asarray(function(x, y), dtype=np.float64)
        if values.shape != (len(x),):
            raise ValueError(
                f"{where}: quantity {name!r} gave shape {values.shape} for {len(x)} images; expected {len(x)} numbers."
            )
        columns.append(values)
    table = np.stack(columns, axis=1)
    if np.isnan(table).any():
        name = list(quantities)[int(np.isnan(table).any(axis=0).argmax())]
        raise ValueError(
            f"{where}: quantity {name!r} gave NaN for some of {len(x)} images; expected numbers."
        )
    return table

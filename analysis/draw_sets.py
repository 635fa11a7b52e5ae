"""Sets of draws as arrays (n, *event_shape), whatever they came in: an array, a tensor, or a posterior's tree.

The axes `chain` and `draw` of a tree are run together. Draws that are not finite are refused, not left out: of a
sampler that diverged now and then, a distance over the remaining draws would say that it did not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import posterior_draws
from bayes_ir.analysis.posterior import as_array

__all__ = ["as_draws", "flat_pair", "replicated"]


def as_draws(where: str, draws: Any, least: int = 1) -> np.ndarray:
    """The draws in float64, (n, *event_shape).

    Raises:
        ValueError: there are fewer than `least`, some are not finite, or a tree holds several variables.
    """
    if isinstance(draws, (xr.DataTree, xr.Dataset, xr.DataArray)):
        found = posterior_draws(draws)
        array = found.values.reshape(-1, *found.shape[2:])
    else:
        array = as_array(draws)
    array = np.asarray(array, dtype=np.float64)
    if array.ndim < 1 or len(array) < least:
        raise ValueError(
            f"{where}: got an array of shape {array.shape}; expected at least {least} "
            f"{'draw' if least == 1 else 'draws'}, (n, *event_shape)."
        )
    finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{where}: {int((~finite).sum())} of {finite.size} draws are not finite, the first is number "
            f"{int(np.argmin(finite))}; leave out the diverging ones first, and say how many they were."
        )
    return array


def flat_pair(where: str, first: Any, second: Any, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two sets as (n, N) and (m, N).

    Raises:
        ValueError: their draws have different shapes, or one of them is refused by `as_draws`.
    """
    x, y = as_draws(where, first, least), as_draws(where, second, least)
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"{where}: got draws of shapes {x.shape} and {y.shape}; expected two sets whose draws have one shape."
        )
    return x.reshape(len(x), -1), y.reshape(len(y), -1)


def replicated(where: str, truths: Any, draws: Any) -> tuple[np.ndarray, np.ndarray]:
    """Truths (L, *event) and the S draws of each replication (L, S, *event), checked.

    Raises:
        ValueError: the shapes do not belong together, S < 2, or a value is not finite, by its replication.
    """
    x, s = (np.asarray(as_array(a), dtype=np.float64) for a in (truths, draws))
    if x.ndim < 1 or s.ndim != x.ndim + 1 or len(s) != len(x) or s.shape[2:] != x.shape[1:] or not len(x):
        raise ValueError(
            f"{where}: got truths of shape {x.shape} and draws of shape {s.shape}; expected (L, *event_shape) and "
            "(L, S, *event_shape), S draws for each of L true images."
        )
    if s.shape[1] < 2:
        raise ValueError(f"{where}: got {s.shape[1]} draw per replication; expected at least 2, better 99.")
    for name, array in (("truths", x), ("draws", s)):
        finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if not finite.all():
            bad = int(np.argmin(finite))
            raise ValueError(
                f"{where}: {name} of replication {bad} hold values that are not finite, as in "
                f"{int((~finite).sum())} of {finite.size} replications; a sampler that diverges is not calibrated."
            )
    return x, s

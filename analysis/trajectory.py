"""A reverse path as a group of a tree, level by level.

    trajectory/x             (time, draw, ..image axes..)    the states x_t
    trajectory/denoised      (time, draw, ..)                E[x_0 | x_t] under the prior
    trajectory/conditioned   (time, draw, ..)                x0_hat(x_t, y), of kernels that have it

with the coordinates ``a``, ``b`` and ``noise = b / a`` along ``time``, whose numbers are those of the kernel's steps.
The last time is the finished draw, where ``b = 0``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.posterior import as_array, json_attributes

__all__ = ["level_coordinates", "trajectory_tree"]


def level_coordinates(levels: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """The coordinates ``a``, ``b`` and ``noise`` along ``time``, from pairs (a, b); without signal it is infinite."""
    a, b = np.asarray(levels, dtype=np.float64).reshape(-1, 2).T
    noise = np.divide(b, a, out=np.full_like(b, np.inf), where=a > 0)
    about = {
        "a": "signal scale of x_t = a x_0 + b eps",
        "b": "noise of x_t, in units of the image",
        "noise": "noise ratio b / a, in units of the image",
    }
    values = {"a": a, "b": b, "noise": noise}
    return {name: ("time", values[name], {"long_name": about[name]}) for name in about}


def trajectory_tree(
    steps: Sequence[int],
    levels: Sequence[tuple[float, float]],
    frames: Mapping[str, Any],
    event_dims: Sequence[str],
    attrs: Mapping[str, Any],
) -> xr.DataTree:
    """The tree of a trajectory.

    Args:
        steps: number of the step of every frame, (T,).
        levels: pairs (a, b) of every frame.
        frames: ``x``, ``denoised`` and perhaps ``conditioned``, each (T, draws, *event_shape).
        event_dims: names of the axes of an image.
        attrs: settings, for the root.

    Raises:
        ValueError: the arrays do not have one frame per level.
    """
    arrays = {name: as_array(value) for name, value in frames.items()}
    for name, array in arrays.items():
        if len(array) != len(levels) or array.shape != arrays["x"].shape:
            raise ValueError(
                f"trajectory_tree: {name!r} has shape {array.shape}; expected {len(levels)} frames of the shape of x, "
                f"{arrays['x'].shape[1:]}"
            )
    dims = ("time", "draw", *event_dims)
    coords = {dim: np.arange(n) for dim, n in zip(dims, arrays["x"].shape, strict=True)}
    coords |= {"time": np.asarray(steps)} | level_coordinates(levels)
    data = xr.Dataset({name: (dims, array) for name, array in arrays.items()}, coords=coords)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=json_attributes(attrs)), "trajectory": data})

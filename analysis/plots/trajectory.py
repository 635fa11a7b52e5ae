"""A trajectory as a strip of film: the state x_t and the denoised image from noise to image.

The denoised image E[x_0 | x_t] is what the prior makes of the state alone: the mean of all images that are still
possible, blurred at a large noise level and sharper as the noise falls. Where the kernel has one, the conditioned mean
x0_hat(x_t, y), towards which it moves, is shown beneath.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayes_ir.analysis.plots.images import Scale, height_of, scale_of, show, view_of
from bayes_ir.analysis.plots.style import house_style, unit_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_trajectory"]

_NEEDED = ("x", "denoised")
_LABELS = {"x": "state\n(own scales)", "denoised": "denoised", "conditioned": "conditioned\non the data"}


def plot_trajectory(
    trajectory: xr.DataTree,
    *,
    frames: int = 8,
    draw: int = 0,
    channel: int = 0,
    units: str | None = None,
    data_range: tuple[float, float] | None = None,
    cmap: str = "gray",
) -> Figure:
    """State and denoised image at some times of one draw, in the order in which they were made.

    The states have a scale each, that of their 1st to 99th percentile, for their noise falls by orders of magnitude;
    the denoised and conditioned images share one.

    Args:
        trajectory: what `bir.trajectory` gives, a tree with the group `trajectory`: variables `x`, `denoised` and, if
            there is one, `conditioned`, axes (time, draw, image), and the noise level of each time as the coordinate
            `noise`.
        frames: how many times to show, the first and the last among them, evenly spaced in steps.
        draw: which draw to follow, by its number.
        channel: channel to show of an image that is neither grey nor RGB.
        units: units of the intensities, for the labels.
        data_range: (low, high) of the scale of denoised images; by default the attribute `data_range`, and without one
            what is shown.
        cmap: matplotlib's colour map of intensities.

    Returns:
        A matplotlib figure, known to pyplot.

    Raises:
        ValueError: there is no such group, variable or draw, the images are none, or values that are not finite.
    """
    where = "plot_trajectory"
    found = _variables(where, trajectory)
    if frames < 1:
        raise ValueError(f"{where}: frames is {frames!r}; expected at least 1")
    noise = found["noise"].values
    chosen = np.unique(np.linspace(0, len(noise) - 1, min(frames, len(noise))).round().astype(int))
    draws = found["draw"].values if "draw" in found.coords else np.arange(found.sizes["draw"])
    if draw not in draws:
        raise ValueError(f"{where}: there is no draw {draw}; there are {draws[0]} to {draws[-1]}")
    place = int(np.flatnonzero(draws == draw)[0])
    view = view_of(where, found["x"].shape[2:], channel)
    rows = {}
    for name in [name for name in _LABELS if name in found]:
        values = found[name].values[chosen, place]
        finite = np.isfinite(values.reshape(len(chosen), -1)).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"{where}: {name!r} of draw {draw} is not finite from noise {noise[chosen[np.argmin(finite)]]:.3g} on: "
                "the sampler diverged; show another draw, or take more steps"
            )
        rows[name] = [view.image(image) for image in values]
    means = [image for name, row in rows.items() if name != "x" for image in row]
    denoised = Scale.of(means, scale_of(where, trajectory, data_range))

    import matplotlib.pyplot as plt

    width = 1.05
    with house_style():
        figure, panels = plt.subplots(
            len(rows),
            len(chosen),
            figsize=(width * len(chosen) + 1.3, len(rows) * height_of(found["x"].shape, width) + 0.6),
            layout="constrained",
            squeeze=False,
        )
        figure.suptitle(f"draw {draw} from noise to image, {len(noise)} steps")
        for r, (name, row) in enumerate(rows.items()):
            for c, image in enumerate(row):
                scale = denoised if name != "x" else Scale.of([image], _percentiles(image))
                shown = show(panels[r, c], image, scale, cmap)
                if r == 0:
                    panels[r, c].set_title(f"{noise[chosen[c]]:.3g}", fontsize="medium")
            panels[r, 0].set_ylabel(_LABELS[name])
        panels[0, 0].set_title(f"noise {noise[chosen[0]]:.3g}", fontsize="medium")
        if shown.get_array().ndim == 2:
            label = f"intensity{unit_label(units)}"
            figure.colorbar(
                shown, ax=panels.ravel().tolist(), label=label, extend=denoised.extend, pad=0.02, aspect=30
            )
    return figure


def _percentiles(image: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(image, (1, 99))
    return float(low), float(high)


def _variables(where: str, trajectory: xr.DataTree) -> xr.Dataset:
    """The dataset of the group, axes in order."""
    if not isinstance(trajectory, xr.DataTree) or "trajectory" not in trajectory.children:
        got = (
            sorted(trajectory.children) if isinstance(trajectory, xr.DataTree) else type(trajectory).__name__
        )
        raise ValueError(
            f"{where}: got {got}; expected a tree with the group 'trajectory', which bir.trajectory makes "
            "(draws of bir.sample keep no path)"
        )
    data = trajectory["trajectory"].dataset
    missing = [name for name in (*_NEEDED, "noise") if name not in data]
    if missing:
        raise ValueError(f"{where}: the group 'trajectory' lacks {missing}; it has {sorted(map(str, data))}")
    if not {"time", "draw"} <= set(data["x"].dims) or data["x"].ndim not in (4, 5):
        raise ValueError(
            f"{where}: 'x' has the axes {data['x'].dims}; expected (time, draw) and those of an image, (H, W) or "
            "(C, H, W)"
        )
    wanted = {
        name: ("time",) if name == "noise" else data["x"].dims for name in (*_LABELS, "noise") if name in data
    }
    for name, dims in wanted.items():
        if data[name].dims != dims:
            raise ValueError(f"{where}: {name!r} has the axes {data[name].dims}; expected {dims}")
    return data.transpose("time", "draw", ...)

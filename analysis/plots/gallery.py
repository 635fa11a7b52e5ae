"""Draws of several chains beside the posterior mean: is one draw a plausible image, and do chains tell one story?

The mean is what minimises the squared error, and no draw looks like it: what differs between the draws is what the
data leave open. Each row is one chain; its draws are spread over the chain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import finite_draws, moments, truth_like
from bayes_ir.analysis.plots.images import (
    Scale,
    height_of,
    image_draws,
    left_out_note,
    scale_of,
    show,
    view_of,
)
from bayes_ir.analysis.plots.panels import spread_draws
from bayes_ir.analysis.plots.style import house_style, unit_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_posterior_gallery"]


def plot_posterior_gallery(
    posterior: xr.DataTree,
    truth: Any = None,
    *,
    draws: int = 6,
    chains: int = 4,
    channel: int = 0,
    units: str | None = None,
    data_range: tuple[float, float] | None = None,
    cmap: str = "gray",
    var_name: str | None = None,
) -> Figure:
    """Truth and posterior mean at the left, and of each chain one row of draws, all on one scale.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        truth: the true image, shape of one draw, if it is known.
        draws: how many draws to show of a chain.
        chains: how many chains to show, the first ones.
        channel: channel to show of an image that is neither grey nor RGB.
        units: units of the intensities, for the labels.
        data_range: (low, high) of the scale; by default the posterior's attribute `data_range`, and without one what is
            shown.
        cmap: matplotlib's colour map of intensities.
        var_name: name of the image site; needed only when there are several.

    Returns:
        A matplotlib figure, known to pyplot.

    Raises:
        ValueError: the posterior is no image, fewer than two draws are finite, `draws` or `chains` is not positive, or
            the truth has another shape.
    """
    where = "plot_posterior_gallery"
    array = image_draws(where, posterior, var_name)
    for name, value in (("draws", draws), ("chains", chains)):
        if value < 1:
            raise ValueError(f"{where}: {name} is {value!r}; expected at least 1")
    true = None if truth is None else truth_like(truth, array)
    found, finite = moments(array), finite_draws(array)
    if found.used < 2:
        raise ValueError(f"{where}: needs two finite draws at least, got {found.used}")
    view = view_of(where, array.shape[2:], channel)
    names, numbers = array["chain"].values, array["draw"].values
    rows = {}
    for chain in np.flatnonzero(finite.any(axis=1))[:chains]:
        chosen = sorted(draw for _, draw in spread_draws(finite[chain : chain + 1], draws))
        rows[f"chain {names[chain]}"] = {
            f"draw {numbers[i]}": view.image(array[chain, i].values) for i in chosen
        }
    leading = {} if true is None else {f"truth{view.note}": view.image(true)}
    leading[f"posterior mean{view.note}"] = view.image(found.mean.values)
    everything = [*leading.values(), *(image for row in rows.values() for image in row.values())]
    scale = Scale.of(everything, scale_of(where, posterior, data_range))

    import matplotlib.pyplot as plt

    # Beneath each other if there is a row for each of them.
    stacked = len(rows) >= len(leading)
    before, width = 1 if stacked else len(leading), max(len(row) for row in rows.values())
    with house_style():
        figure = plt.figure(
            figsize=(1.25 * (before + width) + 0.8, (height_of(array.shape, 1.25) + 0.15) * len(rows) + 0.4),
            layout="constrained",
        )
        figure.suptitle(
            f"posterior of {array.name}: {found.used} draws of {array.sizes['chain']} chains"
            + left_out_note(found.left_out)
        )
        grid = figure.add_gridspec(len(rows), before + width)
        panels = []
        for i, (name, image) in enumerate(leading.items()):
            panels.append(figure.add_subplot(grid[i, 0] if stacked else grid[0, i]))
            shown = show(panels[-1], image, scale, cmap)
            panels[-1].set_title(name, fontsize="medium")
        for r, (name, row) in enumerate(rows.items()):
            for c, (title, image) in enumerate(row.items()):
                panels.append(figure.add_subplot(grid[r, before + c]))
                show(panels[-1], image, scale, cmap)
                panels[-1].set_title(title, fontsize="small")
                if c == 0:
                    panels[-1].set_ylabel(name)
        if shown.get_array().ndim == 2:
            label = f"intensity{unit_label(units)}"
            figure.colorbar(
                shown, ax=panels, location="right", label=label, extend=scale.extend, pad=0.02, aspect=30
            )
    return figure

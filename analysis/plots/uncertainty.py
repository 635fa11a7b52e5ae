"""The posterior in one picture: what was restored, how sure that is, and whether being sure is justified.

First row: truth, posterior mean and draws on one scale of intensities. Second row: the back projection A^+ y
on its own scale, posterior sd and error on one scale, and the error against the sd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import finite_draws, moments, posterior_draws, truth_like
from bayes_ir.analysis.plots.images import Scale, height_of, image_row, left_out_note, scale_of, view_of
from bayes_ir.analysis.plots.lines import plot_lines
from bayes_ir.analysis.plots.panels import draw_error_against_sd, draw_sd_histogram, spread_draws
from bayes_ir.analysis.plots.style import house_style, unit_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_uncertainty"]


def plot_uncertainty(
    posterior: xr.DataTree,
    truth: Any = None,
    *,
    draws: int = 4,
    prob: float = 0.9,
    channel: int = 0,
    units: str | None = None,
    data_range: tuple[float, float] | None = None,
    cmap: str = "gray",
    var_name: str | None = None,
) -> Figure:
    """Truth, posterior mean, draws, back projection, sd, error, and error against sd.

    Without a truth its panels are left out, and the sd over the image is drawn instead of the error. Three
    channels are shown in colour, of other numbers one channel; sd and error of colour images are root mean
    squares over the channels. A posterior that is no image is drawn as mean, interval and draws against the
    index.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        truth: the true image, shape of one draw, if it is known.
        draws: how many draws to show, chain after chain.
        prob: probability of the interval (posteriors that are no image).
        channel: channel to show of an image that is neither grey nor RGB.
        units: units of the intensities, for the labels.
        data_range: (low, high) of the scale of intensities; by default the posterior's attribute
            `data_range`, and without one what is shown.
        cmap: matplotlib's colour map of intensities.
        var_name: name of the image site; needed only when there are several.

    Returns:
        A matplotlib figure, known to pyplot: `plt.show()` shows it, `figure.savefig(path)` writes it.

    Raises:
        ValueError: fewer than two draws are finite, the truth has another shape, or there is no such channel.
    """
    array = posterior_draws(posterior, var_name)
    true = None if truth is None else truth_like(truth, array)
    label = unit_label(units)
    found, finite = moments(array), finite_draws(array)
    if found.used < 2:
        raise ValueError(f"plot_uncertainty: needs two finite draws at least, got {found.used}")
    # Of an unfinished store only some chains may be shown, each under its own number.
    names, numbers = array["chain"].values, array["draw"].values
    chosen = {
        f"chain {names[c]}, draw {numbers[d]}": array[c, d].values for c, d in spread_draws(finite, draws)
    }
    title = f"posterior of {array.name}: {found.used} draws of {array.sizes['chain']} chains"
    title += left_out_note(found.left_out)
    if array.ndim not in (4, 5):
        return plot_lines(array, found, true, list(chosen.values()), prob, label, title)

    view = view_of("plot_uncertainty", array.shape[2:], channel)
    note, mean, sd = view.note, found.mean.values, found.sd.values
    low_high = scale_of("plot_uncertainty", posterior, data_range)
    images = {} if true is None else {f"truth{note}": view.image(true)}
    images |= {f"posterior mean{note}": view.image(mean)}
    images |= {name: view.image(image) for name, image in chosen.items()}
    spreads = {f"posterior sd{note}": view.spread(sd)}
    if true is not None:
        spreads[f"|truth - mean|{note}"] = view.spread(true - mean)
    back = _back_projection(posterior, array)
    backs = {} if back is None else {"back projection\n(own scale)": view.image(back)}

    import matplotlib.pyplot as plt

    columns = max(len(images), len(backs) + len(spreads) + 2)
    with house_style():
        height = height_of(array.shape, 1.7)
        figure = plt.figure(
            figsize=(1.8 * columns + 0.5, 1.6 + height + max(height, 1.6)), layout="constrained"
        )
        figure.suptitle(title)
        grid = figure.add_gridspec(2, columns, height_ratios=(height + 0.3, max(height, 1.6) + 0.8))
        image_row(
            grid[0, : len(images)],
            images,
            Scale.of(images.values(), low_high),
            cmap,
            f"intensity{label}",
            "right",
        )
        if backs:
            # Coarse measurements (one bit, say) have no scale of intensities, nor has their back projection.
            image_row(grid[1, 0], backs, Scale.of(backs.values()), cmap, f"intensity{label}", "bottom")
        span = slice(len(backs), len(backs) + len(spreads))
        what = "sd, error" if true is not None else "sd"
        image_row(
            grid[1, span], spreads, Scale.of_spreads(spreads.values()), "cividis", f"{what}{label}", "bottom"
        )
        axes = figure.add_subplot(grid[1, span.stop :])
        if true is None:
            draw_sd_histogram(axes, sd, label)
        else:
            draw_error_against_sd(axes, true - mean, sd, label)
    return figure


def _back_projection(posterior: Any, array: xr.DataArray) -> np.ndarray | None:
    if not isinstance(posterior, xr.DataTree) or "constant_data" not in posterior.children:
        return None
    found = posterior["constant_data"].dataset.get(f"{array.name}_back_projection")
    return found.values if found is not None and found.shape == array.shape[2:] else None

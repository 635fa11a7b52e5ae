"""Is the posterior as uncertain as it is wrong? The error of the posterior mean against the posterior sd.

In a right posterior E[(x* - m)^2 | y] = s^2 for every pixel, whatever the shape of the posterior: the root mean square
error of the pixels with sd s lies on the line rms error = sd. Above it the posterior is overconfident.

Pixels of one image err together, so the line of one image strays further than its number of pixels suggests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from bayes_ir.analysis.draws import moments, posterior_draws, truth_like
from bayes_ir.analysis.plots.images import left_out_note
from bayes_ir.analysis.plots.panels import draw_error_against_sd
from bayes_ir.analysis.plots.style import on_axes, unit_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_error_against_sd"]


def plot_error_against_sd(
    posterior: xr.DataTree,
    truth: Any,
    *,
    units: str | None = None,
    var_name: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Pixels as dots, bins of equally many pixels as a line, and the calibrated line.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave; the event need not be an image.
        truth: the truth, shape of one draw.
        units: units of the intensities, for the labels.
        var_name: name of the image site; needed only when there are several.
        ax: axes to draw on.

    Returns:
        The figure of the axes.

    Raises:
        ValueError: fewer than two draws are finite, or the truth has another shape.
    """
    draws = posterior_draws(posterior, var_name)
    true = truth_like(truth, draws)
    found = moments(draws)
    if found.used < 2:
        raise ValueError(f"plot_error_against_sd: needs two finite draws at least, got {found.used}")
    noun = "pixel" if draws.ndim in (4, 5) else "entry"
    with on_axes("plot_error_against_sd", ax, (4.6, 4.2)) as axes:
        draw_error_against_sd(axes, true - found.mean.values, found.sd.values, unit_label(units), noun)
        axes.set_title(f"error against sd: {found.used} draws{left_out_note(found.left_out)}")
    return axes.figure

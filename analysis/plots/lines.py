"""A posterior that is no image: mean, central interval, draws and truth against the index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import Moments, central_interval
from bayes_ir.analysis.plots.panels import draw_error_against_sd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_lines"]


def plot_lines(
    draws: xr.DataArray,
    found: Moments,
    truth: np.ndarray | None,
    shown: Sequence[np.ndarray],
    prob: float,
    label: str,
    title: str,
) -> Figure:
    """Mean, interval, some draws and the truth as lines; beside them, if there is a truth, error against sd.

    Args:
        draws: all draws, (chain, draw, *event); events of several axes are flattened.
        found: their moments.
        truth: the truth, shape of one draw, if it is known.
        shown: the draws to show as thin lines.
        prob: probability of the interval.
        label: units, ready to be appended to a label.
        title: title of the figure.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    mean, sd = found.mean.values.ravel(), found.sd.values.ravel()
    lower, upper = central_interval(draws, prob).values.reshape(2, -1)
    index = np.arange(mean.size)
    marker = "o" if mean.size <= 60 else ""
    with sns.axes_style("ticks"), sns.plotting_context("paper"):
        blue, orange = sns.color_palette("colorblind")[:2]
        widths = (3,) if truth is None else (3, 1.6)
        figure, panels = plt.subplots(
            1,
            len(widths),
            figsize=(2.3 * sum(widths), 3.4),
            layout="constrained",
            width_ratios=widths,
            squeeze=False,
        )
        figure.suptitle(title)
        axes = panels[0, 0]
        axes.fill_between(
            index, lower, upper, color=blue, alpha=0.25, linewidth=0, label=f"{100 * prob:g} % interval"
        )
        for i, draw in enumerate(shown):
            axes.plot(index, draw.ravel(), color="0.5", linewidth=0.6, label="draws" if i == 0 else None)
        axes.plot(index, mean, color=blue, marker=marker, markersize=3, label="posterior mean")
        if truth is not None:
            axes.plot(index, truth.ravel(), "--", color=orange, marker=marker, markersize=3, label="truth")
            draw_error_against_sd(panels[0, 1], truth.ravel() - mean, sd, label, noun="entry")
        axes.set(xlabel="index" if draws.ndim == 3 else "index (flattened)", ylabel=f"{draws.name}{label}")
        axes.legend(frameon=False, fontsize="small", ncols=2)
        sns.despine(ax=axes)
    return figure

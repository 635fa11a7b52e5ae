"""The Jensen gap against the noise level: the score's error, its length and direction, and the log-likelihood's gap.

One line per denoising posterior, the median over states, with a band from the least to the greatest; levels that could
not be judged are marked along the axis.  The largest panel is the one to judge by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.jensen import jensen_group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_jensen_curves", "plot_jensen_gap"]

_FLOOR = 1e-3
_MARKERS = "osD^vPX*<>"


def plot_jensen_gap(
    tree: xr.DataTree, *, tolerance: float = 0.1, units: str | None = None, title: str | None = None
) -> Figure:
    """Relative error, norm ratio and cosine of the approximate score, and the gap of log-likelihoods.

    Args:
        tree: what `bayes_ir.jensen_gap` gave.
        tolerance: relative error of the score that is let pass, drawn as a line.
        units: units of the intensities, for the labels.
        title: title of the figure; by default what was measured.

    Returns:
        A matplotlib figure, known to pyplot: `plt.show()` shows it, `figure.savefig(path)` writes it.

    Raises:
        ValueError: for a tree without the group `jensen_gap`, or one in which no level could be judged.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    group = jensen_group(tree)
    if not np.isfinite(group["relative_error"]).any():
        raise ValueError(
            "plot_jensen_gap: no state has an estimate of the score that means anything; `reason` says why. Allow more "
            "inner_draws, or look at less noise."
        )
    with sns.axes_style("ticks"), sns.plotting_context("paper"):
        figure = plt.figure(figsize=(9.2, 5.6), layout="constrained")
        grid = figure.add_gridspec(3, 2, width_ratios=(1.5, 1))
        main = figure.add_subplot(grid[:, 0])
        small = [figure.add_subplot(grid[i, 1], sharex=main) for i in range(3)]
        draw_jensen_curves(main, group, "relative_error")
        main.axhline(tolerance, color="0.3", linestyle="--", linewidth=1)
        main.annotate(
            f"{100 * tolerance:g} %", (1, tolerance), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize="small", color="0.3",
        )  # fmt: skip
        main.set(ylabel="error of the score of y, relative to its norm", title="how wrong the guidance is")
        main.legend(frameon=False, fontsize="small", title="denoising posterior")
        for axes, name, label, exact in zip(
            small,
            ("norm_ratio", "cosine", "log_gap"),
            ("norm ratio", "cosine", "log-likelihood gap\n(nats)"),
            (1.0, 1.0, 0.0),
            strict=True,
        ):
            draw_jensen_curves(axes, group, name)
            axes.axhline(exact, color="0.3", linestyle="--", linewidth=1)
            axes.set_ylabel(label)
        small[2].set_xlabel(_noise_label(units))
        main.set_xlabel(_noise_label(units))
        for axes in small[:2]:
            axes.tick_params(labelbottom=False)
        _mark_unjudged(main, group)
        figure.suptitle(title or _title(tree, group))
        sns.despine(figure)
    return figure


def draw_jensen_curves(axes: Any, group: xr.Dataset, name: str) -> None:
    """One figure of the group against the noise level, a line per denoising posterior."""
    import seaborn as sns

    order = np.argsort(group["noise"].values, kind="stable")
    noise, posteriors = group["noise"].values[order], group["denoising_posterior"].values
    colours = sns.color_palette("colorblind", len(posteriors))
    spread = np.nanmax(np.abs(np.where(np.isfinite(group[name]), group[name], np.nan)), initial=0.0)
    on_log = name in ("relative_error", "norm_ratio")
    for number, (posterior, colour) in enumerate(zip(posteriors, colours, strict=True)):
        values = group[name].sel(denoising_posterior=posterior).values[order]
        seen = np.isfinite(values).any(axis=1)
        rows = [row[np.isfinite(row)] for row in values[seen]]
        if not rows:
            continue
        low, middle, high = np.array([[row.min(), np.median(row), row.max()] for row in rows]).T
        if on_log:  # an error of nothing, less its Monte Carlo part, is drawn at the foot
            low, middle, high = (np.maximum(part, _FLOOR) for part in (low, middle, high))
        marker = _MARKERS[number % len(_MARKERS)]
        axes.plot(
            noise[seen],
            middle,
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.2,
            label=str(posterior),
        )
        axes.fill_between(noise[seen], low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    if on_log:
        axes.set_yscale("log")
    elif name == "log_gap" and spread > 20:
        axes.set_yscale("symlog", linthresh=1.0)


def _noise_label(units: str | None) -> str:
    return f"noise level b/a{f' ({units})' if units else ''}"


def _mark_unjudged(axes: Any, group: xr.Dataset) -> None:
    """Crosses at the foot where no state of a level has a score to compare with."""
    lost = ~np.isfinite(group["score_norm"].values).any(axis=1)
    if lost.any():
        axes.plot(
            group["noise"].values[lost], np.full(lost.sum(), 0.02), "x", color="0.3", markersize=5,
            transform=axes.get_xaxis_transform(), label="not judged", clip_on=False,
        )  # fmt: skip
        axes.legend(frameon=False, fontsize="small", title="denoising posterior")


def _title(tree: xr.DataTree, group: xr.Dataset) -> str:
    states = group.sizes["draw"]
    measured = f"{int(group['bound_dimension'])} measurements, channel {tree.attrs.get('channel', '?')}"
    sigma = float(group["bound_noise"])
    noise = f", noise {sigma:.3g}" if np.isfinite(sigma) else ""
    return f"likelihood score along the noise levels: {measured}{noise}; {states} state{'s' * (states > 1)} per level"

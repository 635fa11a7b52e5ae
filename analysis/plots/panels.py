"""Panels that several pictures share.

In a right posterior the truth is one more draw, so of the pixels with sd s the error of the posterior mean
has the root mean square s, whatever the shape of the posterior: E[(x* - m)^2 | y] = s^2. The line rms error =
sd needs no Gaussian.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["binned_rms", "draw_error_against_sd", "draw_sd_histogram", "spread_draws"]


def binned_rms(error: np.ndarray, sd: np.ndarray, bins: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square of sd and of error in bins of equally many pixels, by rising sd.

    Args:
        error: truth minus posterior mean of each pixel.
        sd: posterior sd of each pixel, same shape.
        bins: number of bins; fewer if there are fewer than 8 pixels for each.

    Returns:
        rms sd and rms error of each bin.
    """
    order = np.argsort(sd, axis=None, kind="stable")
    parts = np.array_split(order, max(1, min(bins, order.size // 8)))
    rms = [[np.sqrt((a.ravel()[part] ** 2).mean()) for part in parts] for a in (sd, error)]
    return np.array(rms[0]), np.array(rms[1])


def draw_error_against_sd(
    axes: Any, error: np.ndarray, sd: np.ndarray, label: str, noun: str = "pixel"
) -> None:
    """Error of the mean against sd: pixels as dots, bins of them as a line, and the calibrated line."""
    import seaborn as sns

    blue, orange = sns.color_palette("colorblind")[:2]
    order = np.argsort(sd, axis=None, kind="stable")
    shown = order[np.unique(np.linspace(0, order.size - 1, min(order.size, 4000)).astype(int))]
    dots = sd.ravel()[shown], np.abs(error.ravel()[shown])
    axes.scatter(
        *dots, s=5, color="0.55", linewidth=0, alpha=0.6, rasterized=True, label=f"one {noun}, |error|"
    )
    axes.plot(*binned_rms(error, sd), "o-", color=blue, markersize=4, label="rms error at that sd")
    end = float(sd.max())
    end = end if end > 0 else 1.0
    axes.plot([0, end], [0, end], "--", color=orange, label="calibrated: rms error = sd")
    axes.set(
        xlim=(0, 1.04 * end),
        xlabel=f"posterior sd{label}",
        ylabel=f"|truth - mean|{label}",
        title="error against sd",
    )
    axes.set_ylim(0, 1.04 * float(np.abs(error).max(initial=end)))
    axes.legend(loc="upper left", frameon=False, fontsize="small", markerscale=1.5)
    sns.despine(ax=axes)


def draw_sd_histogram(axes: Any, sd: np.ndarray, label: str) -> None:
    """How the posterior sd is spread over the pixels; what there is to say without a truth."""
    import seaborn as sns

    blue, orange = sns.color_palette("colorblind")[:2]
    # numpy refuses more bins than a range of rounding errors can be cut into.
    varied = float(np.ptp(sd)) > 1e-6 * float(sd.max())
    axes.hist(sd.ravel(), bins=40 if varied else 1, color=blue)
    axes.axvline(float(np.median(sd)), color=orange, linestyle="--", label=f"median {np.median(sd):.3g}")
    axes.set(xlabel=f"posterior sd{label}", ylabel="pixels", title="sd over the image")
    axes.legend(frameon=False, fontsize="small")
    sns.despine(ax=axes)


def spread_draws(finite: np.ndarray, count: int) -> list[tuple[int, int]]:
    """(chain, draw) of `count` finite draws, from all chains in turn and far apart within each."""
    chains = [np.flatnonzero(row) for row in finite]
    chosen = []
    turns = -(-count // max(1, sum(len(c) > 0 for c in chains)))
    for turn in range(turns):
        for chain, places in enumerate(chains):
            if turn < min(turns, len(places)):
                spaced = np.linspace(len(places) - 1, 0, min(turns, len(places))).round().astype(int)
                chosen.append((chain, int(places[spaced[turn]])))
    return chosen[:count]

"""Runs of the same data beside each other: posterior mean, sd and, with a truth, error; every row on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayes_ir.reporting.opening import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_side_by_side"]


def plot_side_by_side(
    runs: Sequence[Run], means: Sequence[np.ndarray], sds: Sequence[np.ndarray], truth: np.ndarray | None
) -> Figure:
    """Maps of several runs: one column a run, rows mean, sd and |truth - mean|.

    Images (H, W), (1, H, W) or (3, H, W) are shown as such (sd and error of colours as root mean squares), of another
    number of channels the first; a posterior that is no image as lines of mean and mean +- 2 sd.

    Args:
        runs: for their names.
        means: posterior mean of each run.
        sds: posterior standard deviation of each.
        truth: the truth, if it is known.
    """
    return _lines(runs, means, sds, truth) if means[0].ndim not in (2, 3) else _maps(runs, means, sds, truth)


def _maps(
    runs: Sequence[Run], means: Sequence[np.ndarray], sds: Sequence[np.ndarray], truth: np.ndarray | None
) -> Figure:
    import matplotlib.pyplot as plt
    import seaborn as sns

    columns = [run.name for run in runs] + (["truth"] if truth is not None else [])
    rows: list[tuple[str, list[np.ndarray], str]] = [
        ("posterior mean", [_shown(m) for m in [*means, *([] if truth is None else [truth])]], "gray"),
        ("posterior sd", [_pooled(s) for s in sds], "cividis"),
    ]
    if truth is not None:
        rows.append(("|truth - mean|", [_pooled(truth - m) for m in means], "cividis"))
    height = 1.9 * float(np.clip(means[0].shape[-2] / means[0].shape[-1], 0.5, 2.0)) + 0.3
    with sns.axes_style("ticks"), sns.plotting_context("paper"):
        figure, panels = plt.subplots(
            len(rows),
            len(columns),
            figsize=(1.9 * len(columns) + 1.0, height * len(rows)),
            layout="constrained",
            squeeze=False,
        )
        # sd and error are to be compared with each other too.
        spread = float(np.quantile(np.stack([m for _, maps, _ in rows[1:] for m in maps]), 0.995)) or 1.0
        for i, (label, maps, colours) in enumerate(rows):
            low, high = (min(m.min() for m in maps), max(m.max() for m in maps)) if i == 0 else (0.0, spread)
            high = high if low < high else low + 1.0
            for j, panel in enumerate(panels[i]):
                if j >= len(maps):
                    panel.axis("off")
                    continue
                image = np.clip((maps[j] - low) / (high - low), 0, 1) if maps[j].ndim == 3 else maps[j]
                drawn = panel.imshow(image, vmin=low, vmax=high, cmap=colours, interpolation="nearest")
                panel.set(xticks=[], yticks=[])
                if i == 0:
                    panel.set_title(_broken(columns[j]), fontsize="medium")
            panels[i, 0].set_ylabel(label)
            if maps[0].ndim == 2:
                drawn.set_clim(low, high)
                beyond = "max" if any(m.max() > high for m in maps) else "neither"
                figure.colorbar(drawn, ax=panels[i].tolist(), location="right", extend=beyond)
    return figure


def _lines(
    runs: Sequence[Run], means: Sequence[np.ndarray], sds: Sequence[np.ndarray], truth: np.ndarray | None
) -> Figure:
    import matplotlib.pyplot as plt
    import seaborn as sns

    index = np.arange(means[0].size)
    with sns.axes_style("ticks"), sns.plotting_context("paper"):
        figure, panel = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
        for run, mean, sd, colour in zip(
            runs, means, sds, sns.color_palette("colorblind", len(runs)), strict=True
        ):
            m, s = mean.ravel(), sd.ravel()
            panel.plot(index, m, color=colour, label=run.name)
            panel.fill_between(index, m - 2 * s, m + 2 * s, color=colour, alpha=0.2, linewidth=0)
        if truth is not None:
            panel.plot(index, truth.ravel(), "k--", label="truth")
        panel.set(xlabel="index", ylabel="posterior mean, band of 2 sd")
        panel.legend(frameon=False, fontsize="small")
        sns.despine(ax=panel)
    return figure


def _shown(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2:
        return image
    return np.moveaxis(image, 0, -1) if image.shape[0] == 3 else image[0]


def _pooled(image: np.ndarray) -> np.ndarray:
    shown = _shown(image)
    return np.abs(shown) if shown.ndim == 2 else np.sqrt((shown**2).mean(axis=-1))


def _broken(name: str, width: int = 22) -> str:
    """A long name on several lines."""
    return "\n".join(name[i : i + width] for i in range(0, len(name), width))

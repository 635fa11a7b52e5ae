"""Two numbers of the image in one posterior: what the data say of both together, which no map of pixels shows.

A map of sd says how uncertain each pixel is; whether two pixels are uncertain together (a stroke that is here or there)
is their joint law. Any functional of the image can stand for a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import posterior_draws, truth_like
from bayes_ir.analysis.functionals import Functional, default_functionals, evaluate, scalar
from bayes_ir.analysis.plots.style import colours, house_style, unit_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_pixel_pairs"]


def plot_pixel_pairs(
    posterior: xr.DataTree,
    first: int | Sequence[int] | str | Functional,
    second: int | Sequence[int] | str | Functional,
    truth: Any = None,
    *,
    kind: Literal["scatter", "kde", "hist", "hex", "reg"] = "scatter",
    units: str | None = None,
    var_name: str | None = None,
) -> Figure:
    """Joint law of two pixels or functionals with its two marginals (seaborn's `jointplot`), the truth marked.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        first: index of an entry of the image, such as (channel, row, column); the name of one of `default_functionals`;
            or a function of one image that gives a number (its `__name__` is its label).
        second: the same for the vertical axis.
        truth: the truth, shape of one draw, if it is known.
        kind: how seaborn draws the joint law.
        units: units of the intensities, for the labels.
        var_name: name of the image site; needed only when there are several.

    Returns:
        A matplotlib figure, known to pyplot.

    Raises:
        ValueError: an index outside the image, an unknown name, fewer than two finite draws, or a truth of another
            shape.
    """
    where = "plot_pixel_pairs"
    draws = posterior_draws(posterior, var_name)
    true = None if truth is None else truth_like(truth, draws).astype(np.float64)
    names, functions = zip(*(_chosen(where, c, draws.shape[2:]) for c in (first, second)), strict=True)
    found, notes = evaluate(draws, dict(zip("xy", functions, strict=True)))
    x, y = found["x"].values.ravel(), found["y"].values.ravel()
    if x.size < 2:
        raise ValueError(f"{where}: needs two finite draws at least, got {x.size}")
    spread = float(x.std() * y.std())
    title = f"{x.size} draws"
    if spread > 0:
        title += f", correlation {float(((x - x.mean()) * (y - y.mean())).mean()) / spread:.2f}"

    import seaborn as sns

    label = unit_label(units)
    with house_style():
        blue, orange = colours(2)
        dots = {"s": 14, "alpha": 0.5, "linewidth": 0} if kind == "scatter" else {}
        grid = sns.jointplot(x=x, y=y, kind=kind, color=blue, height=4.4, **dots)
        if true is not None:
            at = [scalar(name, f, true) for name, f in zip(names, functions, strict=True)]
            grid.refline(x=at[0], y=at[1], color=orange, linestyle="--", linewidth=1)
            grid.ax_joint.plot(*at, "*", color=orange, markeredgecolor="black", markersize=12, label="truth")
            grid.ax_joint.legend(frameon=True, fontsize="small")
        grid.ax_joint.locator_params(nbins=5)
        grid.set_axis_labels(f"{names[0]}{label}", f"{names[1]}{label}")
        grid.figure.suptitle("\n".join([title, *notes]), fontsize="medium")
        # jointplot has laid the axes out up to the edge of the figure.
        grid.figure.subplots_adjust(left=0.15, bottom=0.12, top=0.93 - 0.04 * len(notes))
    return grid.figure


def _chosen(where: str, choice: Any, shape: tuple[int, ...]) -> tuple[str, Functional]:
    """Name and function of a pixel or functional."""
    if callable(choice):
        return getattr(choice, "__name__", type(choice).__name__), choice
    if isinstance(choice, str):
        known = default_functionals(shape)
        if choice not in known:
            raise ValueError(
                f"{where}: there is no functional {choice!r}, only {', '.join(known)}; give your own as a function"
            )
        return choice, known[choice]
    index = np.atleast_1d(np.asarray(choice))
    if index.dtype.kind not in "iu" or index.shape != (len(shape),):
        raise ValueError(
            f"{where}: got {choice!r}; expected the index of an entry of an image of shape {shape}, a name or a "
            "function"
        )
    place = tuple(int(i) for i in index)
    if not all(-n <= i < n for i, n in zip(place, shape, strict=True)):
        raise ValueError(f"{where}: there is no entry {place} in an image of shape {shape}")
    inside = [str(i % n) for i, n in zip(place, shape, strict=True)]
    return ("pixel " if len(shape) > 1 else "entry ") + ", ".join(inside), partial(_entry, place=place)


def _entry(image: np.ndarray, place: tuple[int, ...]) -> float:
    return float(image[place])

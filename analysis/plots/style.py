"""What the plots have in common: one style, one way to take an axes, colours that colour-blind readers tell apart.

As in seaborn, a plot that fills one axes takes `ax=` and leaves its style alone; one that needs several panels makes
its own figure. Both return the figure. matplotlib and seaborn are loaded when the first plot is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import xarray as xr

__all__ = ["colours", "house_style", "named_posteriors", "on_axes", "unit_label"]


@contextmanager
def house_style() -> Iterator[None]:
    """Ticks, and type for a page; the reader's own settings come back afterwards."""
    import seaborn as sns

    with sns.axes_style("ticks"), sns.plotting_context("paper"):
        yield


@contextmanager
def on_axes(where: str, ax: Any, size: tuple[float, float]) -> Iterator[Any]:
    """The axes to draw on: the caller's, or one of its own in a figure of this size (inches).

    Raises:
        ValueError: `ax` is no matplotlib axes.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns
    from matplotlib.axes import Axes

    if ax is not None:
        if not isinstance(ax, Axes):
            raise ValueError(
                f"{where}: ax is a {type(ax).__name__}; expected one matplotlib Axes, or None for a figure of its own."
            )
        yield ax
        return
    with house_style():
        axes = plt.figure(figsize=size, layout="constrained").add_subplot()
        yield axes
        sns.despine(ax=axes)


def colours(count: int) -> list[Any]:
    """Colours that colour-blind readers tell apart; after ten they begin again."""
    import seaborn as sns

    return list(sns.color_palette("colorblind", max(count, 2)))


def unit_label(units: str | None) -> str:
    """Units, ready to be appended to a label."""
    return f" ({units})" if units else ""


def named_posteriors(where: str, posterior: Any) -> dict[str, Any]:
    """Several posteriors by name; one alone has the name "".

    Raises:
        ValueError: a mapping that is empty.
    """
    if not isinstance(posterior, Mapping) or isinstance(posterior, (xr.DataTree, xr.Dataset)):
        return {"": posterior}
    if not posterior:
        raise ValueError(f"{where}: got an empty mapping; expected a posterior, or several by name.")
    return {str(name): tree for name, tree in posterior.items()}

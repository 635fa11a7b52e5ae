"""What a kernel gives for what it costs: distance to the exact posterior against network evaluations.

Distances are over the floor, the distance between two sets of exact draws of the same number: at 1 a kernel cannot be
told from the exact posterior by that many draws. Both axes are logarithmic; lower and further left is better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_ir.analysis.plots.style import colours, on_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_kernel_comparison"]

_MARKERS = "osD^vP*X<>"


def plot_kernel_comparison(
    table: pd.DataFrame | Sequence[Mapping[str, Any]],
    *,
    floor: float | None = 1.0,
    distance: str = "sliced Wasserstein distance / floor",
    ax: Axes | None = None,
) -> Figure:
    """A point per row, the rows of one kernel joined by a line, and the floor.

    A row whose distance is not finite diverged: it has no place in the picture, and its kernel is marked in the legend,
    which is ordered by the best distance of each kernel.

    Args:
        table: a data frame, or a list of rows, with the columns `kernel` (name), `nfe` (network evaluations per draw),
            `distance` and, if known, `error` (standard error of the distance).
        floor: where to draw the floor, in units of `distance`; None for no line.
        distance: label of the distance.
        ax: axes to draw on.

    Returns:
        The figure of the axes.

    Raises:
        ValueError: a missing column, no rows, evaluations that are not positive (they have no logarithm), distances or
            errors below zero.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    where = "plot_kernel_comparison"
    rows = _rows(where, table)
    if floor is not None and not floor > 0:
        raise ValueError(f"{where}: floor is {floor!r}; expected a positive number or None")
    kernels = {name: rows[rows["kernel"] == name].sort_values("nfe") for name in rows["kernel"].unique()}
    best = {name: part["distance"].min() for name, part in kernels.items()}
    order = sorted(kernels, key=lambda name: (np.isnan(best[name]), best[name]))
    with on_axes(where, ax, (7.0, 0.9 + max(3.2, 0.2 * len(order)))) as axes:
        if floor is not None:
            axes.axhline(floor, color="0.3", linestyle="--", linewidth=1, label="floor: two exact sets")
        palette = colours(10)
        for i, name in enumerate(order):
            part = kernels[name]
            diverged = int(part["distance"].isna().sum())
            label = f"{name} ({diverged} of {len(part)} diverged)" if diverged else name
            axes.errorbar(
                part["nfe"],
                part["distance"],
                yerr=part["error"] if "error" in part else None,
                color=palette[i % 10],
                marker=_MARKERS[(i + i // 10) % len(_MARKERS)],  # no two of a hundred alike
                markersize=5,
                linewidth=1.2,
                elinewidth=0.8,
                capsize=2,
                label=label,
            )
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="network evaluations per draw",
            ylabel=distance,
            title="accuracy against cost",
        )
        for axis in (axes.xaxis, axes.yaxis):
            # 2, not 2 x 10^0: the axes rarely span more than three decades.
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, fontsize="small")
    return axes.figure


def _rows(where: str, table: Any) -> pd.DataFrame:
    """The table, checked; distances that are not finite are NaN."""
    import pandas as pd

    rows = pd.DataFrame(table)
    missing = [name for name in ("kernel", "nfe", "distance") if name not in rows]
    if missing or not len(rows):
        raise ValueError(
            f"{where}: got {len(rows)} rows with the columns {list(map(str, rows.columns))}; expected rows with "
            "kernel, nfe and distance"
        )
    rows = rows.assign(kernel=rows["kernel"].astype(str))
    numbers = [name for name in ("nfe", "distance", "error") if name in rows]
    try:
        rows = rows.astype(dict.fromkeys(numbers, float))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {', '.join(numbers)} must be numbers: {error}") from error
    free = rows[~(rows["nfe"] > 0)]
    if len(free):
        raise ValueError(
            f"{where}: {free['kernel'].iloc[0]} has nfe {free['nfe'].iloc[0]:g}; expected a positive number, for the "
            "axis is logarithmic. Leave out kernels that call no network (they are the floor)."
        )
    rows["distance"] = rows["distance"].where(np.isfinite(rows["distance"]))
    if (rows["distance"] <= 0).any() or ("error" in rows and (rows["error"] < 0).any()):
        raise ValueError(f"{where}: some distances are not positive, or errors are negative; check the table")
    return rows

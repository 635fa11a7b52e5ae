"""Simulation-based calibration: the distribution function of the ranks minus the uniform one, per quantity.

Under calibration the ranks are uniform and the whole curve lies in the band with its probability, in each quantity
alone; the verdict rests on Holm's p-values of POT-C over all of them, which gathers small deviations along the whole
curve: near the level one may see what the other does not. A curve above zero at small ranks and below it at large
ones: the draws are too narrow. The reverse: too wide. All above: the draws are too large; all below: too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayes_ir.analysis.ecdf_band import ecdf_band
from bayes_ir.analysis.plots.style import colours, house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_sbc"]

_GRID = 1001


def plot_sbc(
    calibration: xr.DataTree,
    *,
    quantities: Sequence[str] | None = None,
    prob: float = 0.95,
    columns: int = 4,
) -> Figure:
    """ECDF difference of the randomised ranks with its simultaneous band, a panel per quantity.

    Args:
        calibration: what `bir.simulation_based_calibration` or `sbc_ranks` gave.
        quantities: names to show, by default all.
        prob: probability of the band.
        columns: panels beside each other.

    Returns:
        A matplotlib figure, known to pyplot.

    Raises:
        ValueError: a tree without the groups of a calibration, unknown quantities, ranks that are not in [0, 1], or
            prob is not in (0, 1).
    """
    where = "plot_sbc"
    groups = set(calibration.children) if isinstance(calibration, xr.DataTree) else set()
    if not {"prior_sbc", "sbc_test"} <= groups:
        raise ValueError(
            f"{where}: got {sorted(groups) or type(calibration).__name__}; expected a tree with the groups 'prior_sbc' "
            "and 'sbc_test', of bir.simulation_based_calibration or sbc_ranks."
        )
    ranks = calibration["prior_sbc"].dataset
    known = [str(name) for name in ranks.data_vars]
    asked = known if quantities is None else list(quantities)
    unknown = [name for name in asked if name not in known]
    if isinstance(quantities, str) or unknown or not asked:
        raise ValueError(f"{where}: quantities is {quantities!r}; expected a list out of {known}.")
    if columns < 1:
        raise ValueError(f"{where}: columns is {columns!r}; expected at least 1.")
    u = {name: np.sort(ranks[name].values.ravel()) for name in asked}
    for name, values in u.items():
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{where}: ranks of {name!r} are not all numbers in [0, 1].")
    count = len(u[asked[0]])
    at = np.linspace(0, 1, _GRID)
    lower, upper = ecdf_band(count, at, prob)
    test = calibration["sbc_test"].dataset
    p = {name: float(test["p_holm"].sel(quantity=name)) for name in asked}
    alpha = float(calibration.attrs["alpha"])

    import matplotlib.pyplot as plt
    import seaborn as sns

    columns = min(columns, len(asked))
    rows = -(-len(asked) // columns)
    with house_style():
        blue, orange = colours(2)[0], colours(4)[3]
        figure, panels = plt.subplots(
            rows,
            columns,
            figsize=(2.1 * columns + 0.4, 1.6 * rows + 0.7),
            layout="constrained",
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        figure.suptitle(
            f"simulation-based calibration, {count} replications of {calibration.attrs['draws_per_replication']} draws:"
            "\n" + fill(calibration.attrs["verdict"], 24 * columns)
        )
        figure.supxlabel("rank of the truth among the draws", fontsize="medium")
        figure.supylabel("ECDF minus uniform", fontsize="medium")
        for axes, name in zip(panels.flat, asked, strict=False):
            deviates = p[name] < alpha
            axes.fill_between(at, lower - at, upper - at, step="post", color="0.85", linewidth=0)
            axes.axhline(0, color="0.3", linewidth=0.8, linestyle="--")
            axes.step(
                at,
                np.searchsorted(u[name], at, side="right") / count - at,
                where="post",
                color=orange if deviates else blue,
                linewidth=1.2,
            )
            axes.set_title(f"{name}\np = {p[name]:.2g}{', deviates' if deviates else ''}", fontsize="small")
            axes.set(xlim=(0, 1), xticks=[0, 0.5, 1])
            sns.despine(ax=axes)
        for axes in panels.flat[len(asked) :]:
            axes.set_visible(False)
    return figure

"""Expected coverage: how often the truth lies in a credible set of probability alpha, over replications.

Of a calibrated sampler the number of covered truths among L is binomial with the attained probability, which gives the
band: 95 % of its coverages at that level. The band holds at each level alone; the p-values test all levels at once.
Below the diagonal the sampler is overconfident.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.stats import binom

from bayes_ir.analysis.plots.style import colours, on_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_coverage"]

_NAMED = 5


def plot_coverage(
    coverage: xr.Dataset,
    *,
    quantities: Sequence[str] | None = None,
    alpha: float = 0.05,
    ax: Axes | None = None,
) -> Figure:
    """Coverage against the nominal probability, with the calibrated line and its Monte Carlo band.

    Up to five quantities are named and coloured; of more, those that deviate (the smallest p-values first), and the
    others are grey.

    Args:
        coverage: what `expected_coverage` gave; ask it for some twenty levels to see a curve.
        quantities: names to show, by default all.
        alpha: family-wise level at which a quantity is said to deviate (Holm's p-value).
        ax: axes to draw on.

    Returns:
        The figure of the axes.

    Raises:
        ValueError: no dataset of `expected_coverage`, or unknown quantities.
    """
    where = "plot_coverage"
    if not isinstance(coverage, xr.Dataset) or not {"coverage", "nominal", "p_holm"} <= set(coverage):
        found = sorted(map(str, coverage)) if isinstance(coverage, xr.Dataset) else type(coverage).__name__
        raise ValueError(
            f"{where}: got {found}; expected what bir.analysis.expected_coverage gave (coverage, nominal, p_holm)."
        )
    known = [str(name) for name in coverage["quantity"].values]
    asked = known if quantities is None else list(quantities)
    unknown = [name for name in asked if name not in known]
    if isinstance(quantities, str) or unknown or not asked:
        raise ValueError(f"{where}: quantities is {quantities!r}; expected a list out of {known}.")
    replications = int(coverage.attrs["replications"])
    p = {name: float(coverage["p_holm"].sel(quantity=name)) for name in asked}
    by_p = sorted(asked, key=p.__getitem__)
    named = asked if len(asked) <= _NAMED else [name for name in by_p if p[name] < alpha][:_NAMED]
    others = [name for name in asked if name not in named]
    with on_axes(where, ax, (4.6, 4.6)) as axes:
        at = np.linspace(0, 1, 201)
        lower, upper = (binom.ppf(q, replications, at) / replications for q in (0.025, 0.975))
        axes.fill_between(
            at, lower, upper, color="0.85", linewidth=0, label="95 % of calibrated ones, each level"
        )
        axes.plot([0, 1], [0, 1], "--", color="0.3", linewidth=1, label="calibrated")
        for i, name in enumerate(others):
            label = f"{len(others)} others, p > {min(p[n] for n in others):.2g}" if i == 0 else None
            axes.plot(*_curve(coverage, name), color="0.55", linewidth=0.8, label=label)
        for colour, marker, name in zip(colours(len(named)), "osD^v", named, strict=False):
            axes.plot(
                *_curve(coverage, name),
                color=colour,
                marker=marker if coverage.sizes["level"] <= 12 else "",
                clip_on=False,
                markersize=3.5,
                linewidth=1.2,
                label=f"{name}, p = {p[name]:.2g}",
            )
        axes.set(
            xlim=(0, 1),
            ylim=(0, 1),
            aspect="equal",
            xlabel="probability of the credible set",
            ylabel="share of truths inside",
            title=f"expected coverage: {replications} replications",
        )
        axes.legend(loc="upper left", frameon=False, fontsize="small")
    return axes.figure


def _curve(coverage: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    one = coverage.sel(quantity=name)
    order = np.argsort(one["nominal"].values, kind="stable")
    return one["nominal"].values[order], one["coverage"].values[order]

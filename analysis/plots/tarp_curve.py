"""The coverage curve of TARP: one test of the whole image.

P(f <= alpha) against alpha, f the share of draws nearer to a reference point than the truth is. The whole curve of a
calibrated sampler lies in the Kolmogorov band with its probability. References that do not depend on y cannot see a
sampler that returns the prior; those made from y can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from bayes_ir.analysis.plots.style import colours, on_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_tarp"]


def plot_tarp(coverage: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Expected coverage of random balls, a curve per set of references, with the simultaneous band.

    Args:
        coverage: what `tarp` gave.
        ax: axes to draw on.

    Returns:
        The figure of the axes.

    Raises:
        ValueError: no dataset of `tarp`.
    """
    needed = {"coverage", "lower", "upper", "p_holm"}
    if (
        not isinstance(coverage, xr.Dataset)
        or not needed <= set(coverage)
        or "reference" not in coverage.dims
    ):
        found = sorted(map(str, coverage)) if isinstance(coverage, xr.Dataset) else type(coverage).__name__
        raise ValueError(
            f"plot_tarp: got {found}; expected what bir.analysis.tarp gave ({', '.join(sorted(needed))})."
        )
    alpha = coverage["alpha"].values
    with on_axes("plot_tarp", ax, (4.6, 4.6)) as axes:
        axes.fill_between(
            alpha,
            coverage["lower"].values,
            coverage["upper"].values,
            color="0.85",
            linewidth=0,
            label=f"whole curve of {100 * coverage.attrs['band']:g} % of calibrated ones",
        )
        axes.plot([0, 1], [0, 1], "--", color="0.3", linewidth=1, label="calibrated")
        names = [str(name) for name in coverage["reference"].values]
        for colour, name in zip(colours(len(names)), names, strict=False):
            one = coverage.sel(reference=name)
            label = f"{name} references, p = {float(one['p_holm']):.2g}"
            axes.plot(alpha, one["coverage"].values, color=colour, linewidth=1.5, label=label)
        axes.set(
            xlim=(0, 1),
            ylim=(0, 1),
            aspect="equal",
            xlabel="share of draws nearer to the reference, alpha",
            ylabel="share of truths with at most that",
            title=f"TARP: {coverage.attrs['replications']} replications",
        )
        axes.legend(loc="upper left", frameon=False, fontsize="small")
    return axes.figure

"""Posterior densities of functionals of the image, a ridge per chain or per kernel.

Ridges of chains that agree lie above each other; one that lies elsewhere has not mixed. Ridges of kernels on the same
data show what an approximation does to the answer to a question. Densities are ArviZ's kernel density estimates, of one
height per panel, so that equal heights are equal densities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import posterior_draws, require_one_image, truth_like
from bayes_ir.analysis.functionals import Functional, default_functionals, evaluate, scalar
from bayes_ir.analysis.plots.style import colours, house_style, named_posteriors, unit_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_ridges"]

_OVERLAP = 1.5  # height of the highest density, in distances between ridges


def plot_ridges(
    posterior: xr.DataTree | Mapping[str, xr.DataTree],
    functionals: Mapping[str, Functional] | None = None,
    truth: Any = None,
    *,
    columns: int = 3,
    units: str | None = None,
    var_name: str | None = None,
) -> Figure:
    """A panel per functional; in it a density per chain, or of several posteriors one density each.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave, or several by name (kernels on the same data).
        functionals: name -> function of one image giving a number; by default those of `default_functionals`.
        truth: the truth, shape of one draw, if it is known; marked by a line.
        columns: panels beside each other.
        units: units of the functionals, for the labels; of functionals with units of their own say them in the names.
        var_name: name of the image site; needed only when there are several.

    Returns:
        A matplotlib figure, known to pyplot.

    Raises:
        ValueError: no functionals, one that does not give a finite number, a chain with fewer than two finite draws, or
            a truth or posteriors of another shape or other coordinates.
    """
    where = "plot_ridges"
    draws = {name: posterior_draws(t, var_name) for name, t in named_posteriors(where, posterior).items()}
    first = next(iter(draws.values()))
    require_one_image(where, draws)
    chosen = default_functionals(first.shape[2:]) if functionals is None else dict(functionals)
    if not chosen or columns < 1:
        raise ValueError(
            f"{where}: got {len(chosen)} functionals and columns={columns}; expected at least 1 of both"
        )
    at = {}
    if truth is not None:
        true = truth_like(truth, first).astype(np.float64)
        at = {name: scalar(name, function, true) for name, function in chosen.items()}
    values, notes = _values(where, draws, chosen)
    names = list(values)

    import matplotlib.pyplot as plt
    import seaborn as sns

    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    with house_style():
        palette = colours(10)
        figure, panels = plt.subplots(
            rows,
            columns,
            figsize=(2.4 * columns + 0.6, (0.28 * len(names) + 1.15) * rows + 0.4),
            layout="constrained",
            squeeze=False,
            sharey=True,
        )
        figure.suptitle("\n".join([_title(draws), *notes]))
        for axes, name in zip(panels.flat, chosen, strict=False):
            curves = [_density(values[source][name]) for source in names]
            highest = max(density.max() for _, density in curves)
            for i, (source, (grid, density)) in enumerate(zip(names, curves, strict=True)):
                base = len(names) - 1 - i
                height = base + _OVERLAP * density / highest
                axes.fill_between(
                    grid, base, height, color=palette[i % 10], alpha=0.45, linewidth=0, zorder=i
                )
                axes.plot(grid, height, color=palette[i % 10], linewidth=1.1, zorder=i, label=source)
            if at:
                axes.axvline(at[name], color="black", linestyle="--", linewidth=1, zorder=len(names))
            axes.set(xlabel=name + unit_label(units), ylim=(-0.1, len(names) - 1 + 1.1 * _OVERLAP))
            axes.set_yticks(range(len(names)), names[::-1])
            axes.tick_params(axis="y", length=0)
            sns.despine(ax=axes, left=True)
        for axes in panels.flat[len(chosen) :]:
            axes.set_visible(False)
        if at:
            panels[0, 0].lines[-1].set_label("truth")
            figure.legend(
                handles=panels[0, 0].lines[-1:], loc="outside lower right", frameon=False, fontsize="small"
            )
    return figure


def _values(
    where: str, draws: Mapping[str, xr.DataArray], functionals: Mapping[str, Functional]
) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """Draws of every functional by source, and what was left out."""
    found: dict[str, dict[str, np.ndarray]] = {}
    notes: list[str] = []
    for name, array in draws.items():
        parts = {name: array} if name else {f"chain {c}": array.sel(chain=[c]) for c in array["chain"].values}
        for source, part in parts.items():
            values, left_out = evaluate(part, functionals)
            found[source] = {str(f): v.values.ravel() for f, v in values.items()}
            used = next(iter(found[source].values())).size
            if used < 2:
                raise ValueError(f"{where}: {source} has {used} finite draw; expected at least 2")
            notes += [f"{source}: {note}" for note in left_out]
    return found, notes


def _density(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grid and kernel density estimate; a functional that does not vary is a spike."""
    from arviz_stats.base import array_stats

    if float(np.ptp(values)) <= 1e-9 * max(1.0, float(np.abs(values).max())):
        return np.full(3, values[0]), np.array([0.0, 1.0, 0.0])
    grid, density, _ = array_stats.kde(values)
    return grid, density


def _title(draws: Mapping[str, xr.DataArray]) -> str:
    first = next(iter(draws.values()))
    if "" in draws:
        return f"posterior of {first.name}, by chain of {first.sizes['draw']} draws"
    return f"posterior of {first.name}, by kernel"

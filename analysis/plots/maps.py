"""Maps of the posterior, of one kernel or of several beneath each other, every column on one scale.

Mean, median and the bounds of the interval are intensities and share one scale; sd and interval width are spreads and
have one scale each, from zero. What one kernel is surer of than another is seen along a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import moments, quantiles, require_one_image
from bayes_ir.analysis.plots.images import (
    Scale,
    height_of,
    image_draws,
    left_out_note,
    scale_of,
    show,
    view_of,
)
from bayes_ir.analysis.plots.style import house_style, named_posteriors, unit_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_maps"]

_INTENSITIES = ("mean", "median", "lower", "upper")
_SPREADS = ("sd", "width")


def plot_maps(
    posterior: xr.DataTree | Mapping[str, xr.DataTree],
    maps: Sequence[str] = ("mean", "lower", "upper", "sd", "width"),
    *,
    prob: float = 0.9,
    channel: int = 0,
    units: str | None = None,
    data_range: tuple[float, float] | None = None,
    cmap: str = "gray",
    var_name: str | None = None,
) -> Figure:
    """Maps of every pixel: a column per map, a row per posterior.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave, or several by name (kernels on the same data, say).
        maps: out of "mean", "median", "sd", and of the central interval "lower", "upper", "width".
        prob: probability that the interval holds.
        channel: channel to show of an image that is neither grey nor RGB.
        units: units of the intensities, for the labels.
        data_range: (low, high) of the scale of intensities; by default the attribute `data_range` of the first
            posterior, and without one what is shown.
        cmap: matplotlib's colour map of intensities.
        var_name: name of the image site; needed only when there are several.

    Returns:
        A matplotlib figure, known to pyplot.

    Raises:
        ValueError: an unknown map, a posterior that is no image or has fewer than two finite draws, images of different
            shapes or coordinates, or prob is not in (0, 1).
    """
    where = "plot_maps"
    unknown = [name for name in maps if name not in _INTENSITIES + _SPREADS]
    if isinstance(maps, str) or unknown or not maps:
        raise ValueError(f"{where}: maps is {maps!r}; expected a list out of {_INTENSITIES + _SPREADS}")
    if not 0 < prob < 1:
        raise ValueError(f"{where}: prob must be a probability between 0 and 1, got {prob!r}")
    trees = named_posteriors(where, posterior)
    draws = {name: image_draws(where, tree, var_name) for name, tree in trees.items()}
    require_one_image(where, draws)
    first = next(iter(draws.values()))
    view = view_of(where, first.shape[2:], channel)
    found = {name: _maps_of(where, name, array, maps, prob) for name, array in draws.items()}
    rows = {
        name: [view.image(values[m]) if m in _INTENSITIES else view.spread(values[m]) for m in maps]
        for name, values in found.items()
    }
    groups = [_group(name) for name in maps]
    images = {g: [row[i] for row in rows.values() for i, h in enumerate(groups) if h == g] for g in groups}
    bounds = scale_of(where, next(iter(trees.values())), data_range)
    scales = {
        g: Scale.of(shown, bounds) if g == "intensity" else Scale.of_spreads(shown)
        for g, shown in images.items()
    }

    import matplotlib.pyplot as plt

    percent, label = f"{100 * prob:g} %", unit_label(units)
    titles = {
        "lower": f"lower end, {percent}",
        "upper": f"upper end, {percent}",
        "width": f"width, {percent}",
    }
    with house_style():
        figure, panels = plt.subplots(
            len(rows),
            len(maps),
            figsize=(1.7 * len(maps) + 0.4, (height_of(first.shape, 1.7) + 0.1) * len(rows) + 1.1),
            layout="constrained",
            squeeze=False,
        )
        figure.suptitle(_title(draws, {name: values["left_out"] for name, values in found.items()}))
        artists = {}
        for r, (name, row) in enumerate(rows.items()):
            panels[r, 0].set_ylabel(name)
            for c, image in enumerate(row):
                spread = groups[c] != "intensity"
                artists[groups[c]] = show(
                    panels[r, c], image, scales[groups[c]], "cividis" if spread else cmap
                )
                if r == 0:
                    panels[r, c].set_title(titles.get(maps[c], maps[c]) + view.note, fontsize="medium")
        for g, artist in artists.items():
            if artist.get_array().ndim == 2:
                columns = [i for i, h in enumerate(groups) if h == g]
                figure.colorbar(
                    artist,
                    ax=panels[:, columns].ravel().tolist(),
                    location="bottom",
                    label=g + label,
                    extend=scales[g].extend,
                    aspect=18 * len(columns),
                )
    return figure


def _group(name: str) -> str:
    """Maps of one group share a scale."""
    return "intensity" if name in _INTENSITIES else name


def _maps_of(where: str, name: str, draws: xr.DataArray, maps: Sequence[str], prob: float) -> dict[str, Any]:
    found = moments(draws)
    if found.used < 2:
        of = f" of {name!r}" if name else ""
        raise ValueError(f"{where}: needs two finite draws at least{of}, got {found.used}")
    values: dict[str, Any] = {
        "mean": found.mean.values,
        "sd": found.sd.values,
        "left_out": found.left_out,
        "used": found.used,
    }
    if set(maps) - {"mean", "sd"}:
        lower, median, upper = quantiles(draws, [(1 - prob) / 2, 0.5, (1 + prob) / 2]).values
        values |= {"lower": lower, "median": median, "upper": upper, "width": upper - lower}
    return values


def _title(draws: Mapping[str, xr.DataArray], left_out: Mapping[str, int]) -> str:
    first = next(iter(draws.values()))
    counts = {name: a.sizes["chain"] * a.sizes["draw"] - left_out[name] for name, a in draws.items()}
    numbers = sorted(set(counts.values()))
    many = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return f"posterior of {first.name}: {many} draws{left_out_note(int(np.sum(list(left_out.values()))))}"

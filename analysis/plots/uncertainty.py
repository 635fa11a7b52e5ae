"""The posterior in one picture: what was restored, how sure that is, and whether being sure is justified.

First row: truth, posterior mean and draws on one scale of intensities. Second row: the back projection A^+ y
on its own scale, posterior sd and error on one scale, and the error against the sd.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import finite_draws, moments, posterior_draws, truth_like
from bayes_ir.analysis.plots.lines import plot_lines
from bayes_ir.analysis.plots.panels import draw_error_against_sd, draw_sd_histogram, spread_draws

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_uncertainty"]


def plot_uncertainty(
    posterior: xr.DataTree,
    truth: Any = None,
    *,
    draws: int = 4,
    prob: float = 0.9,
    channel: int = 0,
    units: str | None = None,
    data_range: tuple[float, float] | None = None,
    cmap: str = "gray",
    var_name: str | None = None,
) -> Figure:
    """Truth, posterior mean, draws, back projection, sd, error, and error against sd.

    Without a truth its panels are left out, and the sd over the image is drawn instead of the error. Three
    channels are shown in colour, of other numbers one channel; sd and error of colour images are root mean
    squares over the channels. A posterior that is no image is drawn as mean, interval and draws against the
    index.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        truth: the true image, shape of one draw, if it is known.
        draws: how many draws to show, chain after chain.
        prob: probability of the interval (posteriors that are no image).
        channel: channel to show of an image that is neither grey nor RGB.
        units: units of the intensities, for the labels.
        data_range: (low, high) of the scale of intensities; by default the posterior's attribute
            `data_range`, and without one what is shown.
        cmap: matplotlib's colour map of intensities.
        var_name: name of the image site; needed only when there are several.

    Returns:
        A matplotlib figure, known to pyplot: `plt.show()` shows it, `figure.savefig(path)` writes it.

    Raises:
        ValueError: fewer than two draws are finite, the truth has another shape, or there is no such channel.
    """
    array = posterior_draws(posterior, var_name)
    true = None if truth is None else truth_like(truth, array)
    label = f" ({units})" if units else ""
    found, finite = moments(array), finite_draws(array)
    if found.used < 2:
        raise ValueError(f"plot_uncertainty: needs two finite draws at least, got {found.used}")
    # Of an unfinished store only some chains may be shown, each under its own number.
    names, numbers = array["chain"].values, array["draw"].values
    chosen = {
        f"chain {names[c]}, draw {numbers[d]}": array[c, d].values for c, d in spread_draws(finite, draws)
    }
    title = f"posterior of {array.name}: {found.used} draws of {array.sizes['chain']} chains"
    if found.left_out:
        title += f" ({found.left_out} draws are not finite and were left out)"
    if array.ndim not in (4, 5):
        return plot_lines(array, found, true, list(chosen.values()), prob, label, title)

    view, note = _view(array.shape[2:], channel)
    mean, sd = found.mean.values, found.sd.values
    low_high = _scale(posterior, data_range)
    images = {} if true is None else {f"truth{note}": view(true)}
    images |= {f"posterior mean{note}": view(mean)}
    images |= {name: view(image) for name, image in chosen.items()}
    spreads = {f"posterior sd{note}": _pooled(sd, view)}
    if true is not None:
        spreads[f"|truth - mean|{note}"] = _pooled(true - mean, view)
    back = _back_projection(posterior, array)
    backs = {} if back is None else {"back projection\n(own scale)": view(back)}

    import matplotlib.pyplot as plt
    import seaborn as sns

    columns = max(len(images), len(backs) + len(spreads) + 2)
    with sns.axes_style("ticks"), sns.plotting_context("paper"):
        height = 1.7 * float(np.clip(array.shape[-2] / array.shape[-1], 0.6, 2.0))
        figure = plt.figure(
            figsize=(1.8 * columns + 0.5, 1.6 + height + max(height, 1.6)), layout="constrained"
        )
        figure.suptitle(title)
        grid = figure.add_gridspec(2, columns, height_ratios=(height + 0.3, max(height, 1.6) + 0.8))
        _row(grid[0, : len(images)], images, _limits(images, low_high), cmap, f"intensity{label}", "right")
        if backs:
            # Coarse measurements (one bit, say) have no scale of intensities, nor has their back projection.
            _row(grid[1, 0], backs, _limits(backs, None), cmap, f"intensity{label}", "bottom")
        span = slice(len(backs), len(backs) + len(spreads))
        what = "sd, error" if true is not None else "sd"
        _row(grid[1, span], spreads, _spread_limits(spreads), "cividis", f"{what}{label}", "bottom")
        axes = figure.add_subplot(grid[1, span.stop :])
        if true is None:
            draw_sd_histogram(axes, sd, label)
        else:
            draw_error_against_sd(axes, true - mean, sd, label)
    return figure


def _row(
    place: Any,
    images: dict[str, np.ndarray],
    limits: tuple[float, float, str],
    cmap: str,
    label: str,
    side: str,
) -> None:
    """Images beside each other in this place of a grid, on one scale, with one colour bar."""
    low, high, extend = limits
    figure = place.get_gridspec().figure
    cells = place.subgridspec(1, len(images))
    panels = [figure.add_subplot(cells[i]) for i in range(len(images))]
    for axes, (name, image) in zip(panels, images.items(), strict=True):
        if image.ndim == 3:  # matplotlib scales no colours by itself
            image = np.clip((image - low) / (high - low), 0, 1)
        shown = axes.imshow(image, vmin=low, vmax=high, cmap=cmap, interpolation="nearest")
        axes.set_title(name, fontsize="medium")
        axes.set(xticks=[], yticks=[])
    shown.set(cmap=cmap, clim=(low, high))
    if image.ndim == 2:
        figure.colorbar(shown, ax=panels, location=side, label=label, extend=extend)


def _view(shape: tuple[int, ...], channel: int) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """How an image of this shape is shown, as (H, W) or (H, W, 3), and what the titles have to say of it."""
    if len(shape) == 2:
        return lambda image: image, ""
    if shape[0] == 3:
        return lambda image: np.moveaxis(image, 0, -1), ""
    if not 0 <= channel < shape[0]:
        raise ValueError(f"plot_uncertainty: there is no channel {channel} in an image of shape {shape}")
    return lambda image: image[channel], "" if shape[0] == 1 else f"\nchannel {channel} of {shape[0]}"


def _pooled(image: np.ndarray, view: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Absolute value as (H, W); of colours the root mean square."""
    shown = view(image)
    return np.abs(shown) if shown.ndim == 2 else np.sqrt((shown**2).mean(axis=-1))


def _limits(images: dict[str, np.ndarray], low_high: Any) -> tuple[float, float, str]:
    """Scale of these images, and on which sides values lie beyond it."""
    least = min(float(image.min()) for image in images.values())
    most = max(float(image.max()) for image in images.values())
    low, high = (least, most) if low_high is None else (float(low_high[0]), float(low_high[1]))
    if low_high is not None and not low < high:
        raise ValueError(
            f"plot_uncertainty: data_range must be (low, high) with low < high, got {low_high!r}"
        )
    if not low < high:
        low, high = low - 0.5, high + 0.5
    sides = {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}
    return low, high, sides[least < low, most > high]


def _scale(posterior: Any, data_range: Any) -> tuple[float, float] | None:
    """The scale of intensities that was asked for or recorded, if any."""
    given = data_range if data_range is not None else getattr(posterior, "attrs", {}).get("data_range")
    bounds = np.asarray([] if given is None else given, dtype=np.float64)
    if data_range is not None and (bounds.shape != (2,) or not bounds[0] < bounds[1]):
        raise ValueError(
            f"plot_uncertainty: data_range must be (low, high) with low < high, got {data_range!r}"
        )
    return (float(bounds[0]), float(bounds[1])) if bounds.shape == (2,) else None


def _spread_limits(images: dict[str, np.ndarray]) -> tuple[float, float, str]:
    """Scale of sd and error from zero; one wild pixel in two hundred does not darken the others."""
    values = np.stack(list(images.values()))
    high = float(np.quantile(values, 0.995)) or float(values.max()) or 1.0
    return 0.0, high, "max" if values.max() > high else "neither"


def _back_projection(posterior: Any, array: xr.DataArray) -> np.ndarray | None:
    if not isinstance(posterior, xr.DataTree) or "constant_data" not in posterior.children:
        return None
    found = posterior["constant_data"].dataset.get(f"{array.name}_back_projection")
    return found.values if found is not None and found.shape == array.shape[2:] else None

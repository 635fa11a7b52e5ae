"""Images beside each other on one scale, and how an image of any number of channels is shown.

Three channels are shown in colour, of other numbers one channel; spreads of colour images (sd, error, width) are root
mean squares over the channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import posterior_draws

__all__ = [
    "Scale",
    "View",
    "height_of",
    "image_draws",
    "image_row",
    "left_out_note",
    "scale_of",
    "show",
    "view_of",
]


class Scale(NamedTuple):
    """Low and high end of a colour scale, and on which sides values lie beyond it."""

    low: float
    high: float
    extend: str

    @classmethod
    def of(cls, images: Iterable[np.ndarray], bounds: tuple[float, float] | None = None) -> Scale:
        """The scale of these images, or these bounds."""
        shown = list(images)
        least = min(float(image.min()) for image in shown)
        most = max(float(image.max()) for image in shown)
        low, high = (least, most) if bounds is None else bounds
        if not low < high:
            low, high = low - 0.5, high + 0.5
        sides = {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}
        return cls(low, high, sides[least < low, most > high])

    @classmethod
    def of_spreads(cls, images: Iterable[np.ndarray]) -> Scale:
        """A scale from zero; one wild pixel in two hundred does not darken the others."""
        values = np.concatenate([np.ravel(image) for image in images])
        high = float(np.quantile(values, 0.995)) or float(values.max()) or 1.0
        return cls(0.0, high, "max" if values.max() > high else "neither")


class View(NamedTuple):
    """How images are shown: as (H, W) or (H, W, 3), and what a title has to say of it."""

    image: Callable[[np.ndarray], np.ndarray]
    note: str

    def spread(self, image: np.ndarray) -> np.ndarray:
        """Absolute value as (H, W); of colours the root mean square."""
        shown = self.image(image)
        return np.abs(shown) if shown.ndim == 2 else np.sqrt((shown**2).mean(axis=-1))


def view_of(where: str, shape: tuple[int, ...], channel: int) -> View:
    """The view of images of this shape.

    Raises:
        ValueError: there is no such channel.
    """
    if len(shape) == 2:
        return View(lambda image: image, "")
    if shape[0] == 3:
        return View(lambda image: np.moveaxis(image, 0, -1), "")
    if not 0 <= channel < shape[0]:
        raise ValueError(f"{where}: there is no channel {channel} in an image of shape {shape}")
    return View(lambda image: image[channel], "" if shape[0] == 1 else f"\nchannel {channel} of {shape[0]}")


def image_draws(where: str, posterior: Any, var_name: str | None) -> xr.DataArray:
    """The draws of a posterior of images, (chain, draw, [C,] H, W).

    Raises:
        ValueError: the posterior is no image.
    """
    draws = posterior_draws(posterior, var_name)
    if draws.ndim not in (4, 5):
        raise ValueError(
            f"{where}: one draw of {draws.name!r} has the axes {draws.dims[2:]}; expected an image (H, W) or "
            "(C, H, W). plot_uncertainty and plot_ridges draw what is no image; of a plate select one image first."
        )
    return draws


def scale_of(where: str, posterior: Any, data_range: Any) -> tuple[float, float] | None:
    """The scale of intensities that was asked for or recorded, if any.

    Raises:
        ValueError: `data_range` is not (low, high).
    """
    given = data_range if data_range is not None else getattr(posterior, "attrs", {}).get("data_range")
    bounds = np.asarray([] if given is None else given, dtype=np.float64)
    if data_range is not None and (bounds.shape != (2,) or not bounds[0] < bounds[1]):
        raise ValueError(f"{where}: data_range must be (low, high) with low < high, got {data_range!r}")
    return (float(bounds[0]), float(bounds[1])) if bounds.shape == (2,) else None


def height_of(shape: tuple[int, ...], width: float) -> float:
    """Height of a panel of this width for images of this shape, within bounds."""
    return width * float(np.clip(shape[-2] / shape[-1], 0.6, 2.0))


def left_out_note(left_out: int) -> str:
    """What a title says of draws that were left out."""
    return f" ({left_out} draws are not finite and were left out)" if left_out else ""


def show(axes: Any, image: np.ndarray, scale: Scale, cmap: str) -> Any:
    """One image without ticks; its artist, for a colour bar."""
    if image.ndim == 3:  # matplotlib scales no colours by itself
        image = np.clip((image - scale.low) / (scale.high - scale.low), 0, 1)
    shown = axes.imshow(image, vmin=scale.low, vmax=scale.high, cmap=cmap, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    return shown


def image_row(
    place: Any, images: Mapping[str, np.ndarray], scale: Scale, cmap: str, label: str, side: str
) -> None:
    """Images beside each other in this place of a grid, on one scale, with one colour bar."""
    figure = place.get_gridspec().figure
    cells = place.subgridspec(1, len(images))
    panels = [figure.add_subplot(cells[i]) for i in range(len(images))]
    for axes, (name, image) in zip(panels, images.items(), strict=True):
        shown = show(axes, image, scale, cmap)
        axes.set_title(name, fontsize="medium")
    if image.ndim == 2:
        figure.colorbar(shown, ax=panels, location=side, label=label, extend=scale.extend)

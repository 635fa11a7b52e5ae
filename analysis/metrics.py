"""How near an estimate is to the truth, in the figures that restoration papers print.

    PSNR = 10 log10( R^2 / mean((x - x*)^2) )            R: width of the data range, dB
    SSIM: structural similarity (Wang et al. 2004), scikit-image's with its defaults (uniform 7 x 7 window)
    cosine = <x, x*> / (|x| |x*|)                        the images as vectors, not centred

Figures of a one-bit reconstruction are often printed after rescaling the estimate to the truth; nothing is
rescaled or clipped here. A draw's PSNR is about 3 dB below that of the posterior mean if the posterior is
right, so the two are not to be compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import posterior_draws, truth_like
from bayes_ir.analysis.posterior import as_array
from bayes_ir.analysis.uncertainty import mean_map

__all__ = ["cosine_similarity", "metrics_of", "psnr", "range_width", "restoration_metrics", "rmse", "ssim"]


def psnr(estimate: Any, truth: Any, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB; infinite if both images are equal.

    Args:
        estimate: image, any shape.
        truth: image of the same shape.
        data_range: width R of the range of values, such as 2 for [-1, 1].

    Raises:
        ValueError: the shapes differ.
    """
    x, true = _pair(estimate, truth)
    error = float(((x - true) ** 2).mean())
    return float(10 * np.log10(data_range**2 / error)) if error > 0 else float("inf")


def ssim(estimate: Any, truth: Any, data_range: float) -> float:
    """Structural similarity of two images, averaged over channels; 1 if they are equal.

    Args:
        estimate: image (C, H, W) or (H, W), no side shorter than 3.
        truth: image of the same shape.
        data_range: width of the range of values.

    Raises:
        ValueError: the shapes differ or are not those of images.
    """
    from skimage.metrics import structural_similarity

    x, true = _pair(estimate, truth)
    side = min(x.shape[-2:]) if x.ndim in (2, 3) else 0
    if side < 3:
        raise ValueError(
            f"ssim: needs images (C, H, W) or (H, W) with sides of 3 pixels or more, got {x.shape}"
        )
    window = min(7, side - 1 + side % 2)  # odd
    axis = 0 if x.ndim == 3 else None
    return float(structural_similarity(x, true, data_range=data_range, win_size=window, channel_axis=axis))


def cosine_similarity(estimate: Any, truth: Any) -> float:
    """Cosine of the angle between two images; NaN if one is zero everywhere.

    Args:
        estimate: image, any shape.
        truth: image of the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    x, true = _pair(estimate, truth)
    norms = float(np.linalg.norm(x) * np.linalg.norm(true))
    return float((x * true).sum()) / norms if norms > 0 else float("nan")


def rmse(estimate: Any, truth: Any) -> float:
    """Root mean square error, in the units of the images.

    Args:
        estimate: image, any shape.
        truth: image of the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    x, true = _pair(estimate, truth)
    return float(np.sqrt(((x - true) ** 2).mean()))


def restoration_metrics(
    posterior: xr.DataTree,
    truth: Any,
    *,
    data_range: float | tuple[float, float] | None = None,
    var_name: str | None = None,
) -> dict[str, float]:
    """PSNR, SSIM (images only), cosine similarity and root mean square error of the posterior mean.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        truth: the true image, shape of one draw.
        data_range: width of the range of values, or (low, high); by default the posterior's attribute
            `data_range`.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: the truth has another shape than the draws, or the data range is unknown.
    """
    true = truth_like(truth, posterior_draws(posterior, var_name))
    width = range_width(posterior, data_range)
    if width is None:
        raise ValueError(
            "restoration_metrics: PSNR needs the range of values, and the posterior has no attribute "
            "'data_range'; give data_range=(low, high)"
        )
    return metrics_of(mean_map(posterior, var_name).values, true, width)


def metrics_of(estimate: np.ndarray, truth: np.ndarray, width: float) -> dict[str, float]:
    """The same figures for an estimate at hand; `width` is that of the data range."""
    figures = {"psnr": psnr(estimate, truth, width)}
    if estimate.ndim == 3 and min(estimate.shape[-2:]) >= 3:
        figures["ssim"] = ssim(estimate, truth, width)
    return figures | {"cosine_similarity": cosine_similarity(estimate, truth), "rmse": rmse(estimate, truth)}


def range_width(posterior: Any, data_range: float | tuple[float, float] | None = None) -> float | None:
    """Width of the range of values: as given, else from the posterior's attribute `data_range`, else None.

    Raises:
        ValueError: the range is not a positive number or a pair (low, high).
    """
    given = data_range if data_range is not None else getattr(posterior, "attrs", {}).get("data_range")
    if given is None or np.size(given) == 0:
        return None
    bounds = np.asarray(given, dtype=np.float64)
    width = (
        float(bounds[1] - bounds[0])
        if bounds.shape == (2,)
        else float(bounds)
        if bounds.ndim == 0
        else np.nan
    )
    if not (np.isfinite(width) and width > 0):
        raise ValueError(f"data_range must be a positive width or a pair (low, high), got {given!r}")
    return width


def _pair(estimate: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    x, true = as_array(estimate).astype(np.float64), as_array(truth).astype(np.float64)
    if x.shape != true.shape:
        raise ValueError(f"estimate has shape {x.shape}, truth {true.shape}; give two images of one shape")
    return x, true

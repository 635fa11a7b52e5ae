r"""Which pixels go with which: posterior correlations of one number with every pixel, read in one pass.

    corr_i = sum_j (x_ij - m_i)(t_j - m_t) / sqrt( sum_j (x_ij - m_i)^2  sum_j (t_j - m_t)^2 )

t_j is one pixel of draw j, or any functional of it. The three sums are added up block by block about the running means
(Chan, Golub and LeVeque 1983): of two parts C = C_a + C_b + (x_b - x_a)(t_b - t_a) n_a n_b / (n_a + n_b).

From n independent draws the correlation of two independent numbers scatters by 1 / sqrt(n).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import map_of, plates_first, posterior_draws
from bayes_ir.analysis.functionals import Functional, scalar
from bayes_ir.analysis.left_out import announced
from bayes_ir.analysis.streaming import finite_blocks, require_some

__all__ = ["correlation_map"]


def correlation_map(
    posterior: xr.DataTree, pixel: Sequence[int] | Functional, var_name: str | None = None
) -> xr.DataArray:
    """Posterior correlation of one pixel, or of a functional, with every pixel of the image.

    Within a plate each image's pixels are correlated with its own pixel or functional. A pixel that never varies has
    no correlation: NaN.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        pixel: index of a pixel, (channel, row, column) counted from 0; or a function of one image (float64, shape of
            one draw) giving a number.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: there is no such pixel, a functional gives no finite number, or there are fewer than two finite
            draws.
    """
    draws, plates = plates_first(posterior_draws(posterior, var_name))
    shape, lead = draws.shape[2:], len(plates)
    event = shape[lead:]
    index: tuple[Any, ...] = ()
    if not callable(pixel):
        index = tuple(pixel) if np.ndim(pixel) == 1 else (pixel,)
        inside = len(index) == len(event) and all(
            isinstance(i, (int, np.integer)) and 0 <= i < n for i, n in zip(index, event, strict=True)
        )
        if not inside:
            raise ValueError(
                f"correlation_map: there is no pixel {pixel!r} in an image of shape {event}; give one index per axis, "
                "counted from 0"
            )
    # Sums over draws: of each image's number t (*plates, 1, ..., 1) and of its pixels x (*plates, *event).
    alone = (*shape[:lead], *(1,) * len(event))
    count, mean_t, squares_t = 0, np.zeros(alone), np.zeros(alone)
    mean_x, squares_x, products = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for x in finite_blocks(draws):
        if callable(pixel):
            images = x.reshape(-1, *event)
            t = np.array([scalar("pixel", pixel, image) for image in images]).reshape(len(x), *alone)
        else:
            t = x[(slice(None),) * (1 + lead) + index].reshape(len(x), *alone)
        total = count + len(x)
        shrink, weight = count * len(x) / total, len(x) / total
        centre_x, centre_t = x.mean(axis=0), t.mean(axis=0)
        step_x, step_t = centre_x - mean_x, centre_t - mean_t
        t = t - centre_t  # a copy: t may be a view of x
        x -= centre_x
        squares_t += (t * t).sum(axis=0) + step_t**2 * shrink
        products += (t * x).sum(axis=0) + step_x * step_t * shrink
        x *= x
        squares_x += x.sum(axis=0) + step_x**2 * shrink
        mean_x += step_x * weight
        mean_t += step_t * weight
        count = total
    require_some(count, draws.sizes["chain"] * draws.sizes["draw"])
    if count < 2:
        raise ValueError(
            "correlation_map: one finite draw has no correlations; draw at least two, better 100"
        )
    varies = _varies(squares_x, mean_x, count) & _varies(squares_t, mean_t, count)
    scale = np.sqrt(squares_x) * np.sqrt(squares_t)
    values = np.where(varies, products / np.where(varies, scale, 1.0), np.nan).clip(-1, 1)
    with_what = "a functional" if callable(pixel) else str(tuple(int(i) for i in index))
    found = map_of(draws, values, count).rename("correlation")
    return announced(found.assign_attrs(correlated_with=with_what))


def _varies(squares: np.ndarray, mean: np.ndarray, count: int) -> np.ndarray:
    """Whether an sd is more than what rounding makes of draws that are all the same."""
    return np.sqrt(squares / count) > 1e-14 * np.abs(mean)

r"""Kernels that drew the same posterior, side by side: what they cost, and how far they are from a reference.

    mean_z^2 = mean over pixels of (m - m_ref)^2 / (s^2/n + s_ref^2/n_ref)
    sd_z^2   = mean over pixels of (log s - log s_ref)^2 / (u^2 + u_ref^2),    u^2 = (k - 1) / (4 n)

with means m, standard deviations s and kurtoses k of n draws: both are about 1 for a kernel that is right, whatever n
is, and grow with n for one that is wrong.  The errors are those of independent draws; draws that share a chain or a
cloud of particles are above 1 for that alone.  A sliced Wasserstein distance is divided by its floor, the distance of
two sets of the reference that are as large.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.checks import measurement_check
from bayes_ir.analysis.contractions import variance_of
from bayes_ir.analysis.distances import sliced_wasserstein, sliced_wasserstein_floor
from bayes_ir.analysis.draws import finite_draws, moments, posterior_draws, require_one_image, truth_like
from bayes_ir.analysis.measurements import different_data
from bayes_ir.analysis.metrics import psnr, range_width, rmse

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare_kernels"]


def compare_kernels(
    runs: Mapping[str, xr.DataTree],
    truth: Any = None,
    reference: xr.DataTree | None = None,
    *,
    projections: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per run of the same data.

    Args:
        runs: name -> posterior, as `bir.sample` or `open_posterior` gave it.
        truth: the true image, if it is known.
        reference: draws of the exact posterior, or a long run; independent ones.
        projections: directions of the sliced Wasserstein distance.
        seed: seed of the directions.

    Returns:
        Columns `draws`, `diverging`, `nfe` (network evaluations per draw), `seconds` (per draw), `log_lik` (mean of the
        sum over measurements), `p_value` (of `measurement_check`); with a reference `mean_z`, `sd_z`, `sd_ratio` (root
        mean square sd over that of the reference), `distance`, `floor`, `distance_over_floor`; with a truth `rmse` of
        the posterior mean, `psnr` where the data range is known, and `rmse_over_sd` (about 1 for a right posterior).
        NaN where a run did not record it.

    Raises:
        ValueError: no run, runs of other data, images of other shape or coordinates, a single finite draw, or a
            reference of fewer than 4 draws.
    """
    import pandas as pd

    if not runs:
        raise ValueError("compare_kernels: got no run; expected a posterior by the name of each kernel")
    every = dict(runs) if reference is None else dict(runs) | {"the reference": reference}
    for name, tree in every.items():
        if not isinstance(tree, xr.DataTree) or "observed_data" not in tree.children:
            raise ValueError(f"compare_kernels: {name!r} is no posterior with the group observed_data")
    difference = different_data(every)
    if difference:
        raise ValueError(f"compare_kernels: the runs are not of the same data: {difference}")
    draws = {name: posterior_draws(tree) for name, tree in every.items()}
    require_one_image("compare_kernels", draws)
    exact = None if reference is None else _reference(draws["the reference"])
    rows = {}
    for name, tree in runs.items():
        row = _costs(tree, draws[name])
        if exact is not None:
            row |= _distances(draws[name], draws["the reference"], exact, projections, seed)
        if truth is not None:
            row |= _errors(tree, draws[name], truth)
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def _costs(tree: xr.DataTree, draws: xr.DataArray) -> dict[str, float]:
    stats = tree["sample_stats"].dataset if "sample_stats" in tree.children else xr.Dataset()
    finite = finite_draws(draws)
    if finite.sum() < 2:
        raise ValueError(
            f"compare_kernels: {int(finite.sum())} of {finite.size} draws of a run are finite; expected at least 2"
        )
    check = measurement_check(tree) if "log_lik" in stats else None
    seconds = tree.attrs.get("sampling_time", np.nan) / finite.size
    return {
        "draws": int(finite.sum()),
        "diverging": int((~finite).sum()),
        "nfe": float(stats["nfe"].mean()) if "nfe" in stats else np.nan,
        "seconds": float(seconds),
        "log_lik": np.nan if check is None else check.mean_log_lik,
        "p_value": np.nan if check is None else check.p_value,
    }


def _distances(
    draws: xr.DataArray, reference: xr.DataArray, exact: np.ndarray, projections: int, seed: int
) -> dict[str, float]:
    (m, n), (m0, n0) = ((found.mean.values, found.used) for found in (moments(draws), moments(reference)))
    (v, spread), (v0, spread0) = (variance_of("compare_kernels", d) for d in (draws, reference))
    moving = (v > 0) & (v0 > 0)  # a pixel that never varies has no error to compare with
    z = (m - m0)[moving] ** 2 / (v / n + v0 / n0)[moving]
    log_ratio = 0.5 * np.log(v[moving] / v0[moving])
    errors = 0.25 * (spread + spread0)[moving]
    flat = draws.values[finite_draws(draws)].reshape(n, -1)
    half = len(exact) // 2
    chosen = flat[np.linspace(0, n - 1, min(n, half)).round().astype(int)]
    sizes = (len(chosen), len(exact) - len(chosen))
    distance = sliced_wasserstein(chosen, exact[-sizes[1] :], projections=projections, seed=seed)
    floor = sliced_wasserstein_floor(exact, sizes=sizes, projections=projections, seed=seed).mean
    return {
        "mean_z": float(np.sqrt(z.mean())),
        "sd_z": float(np.sqrt((log_ratio**2 / errors).mean())),
        "sd_ratio": float(np.sqrt(v.mean() / v0.mean())),
        "distance": distance,
        "floor": floor,
        "distance_over_floor": distance / floor,
    }


def _errors(tree: xr.DataTree, draws: xr.DataArray, truth: Any) -> dict[str, float]:
    true, found = truth_like(truth, draws), moments(draws)
    error, width = rmse(found.mean.values, true), range_width(tree)
    return {
        "rmse": error,
        "psnr": np.nan if width is None else psnr(found.mean.values, true, width),
        "rmse_over_sd": error / float(np.sqrt((found.sd.values**2).mean())),
    }


def _reference(draws: xr.DataArray) -> np.ndarray:
    exact = draws.values[finite_draws(draws)]
    if len(exact) < 4:
        raise ValueError(f"compare_kernels: the reference has {len(exact)} finite draws; expected at least 4")
    return exact.reshape(len(exact), -1)

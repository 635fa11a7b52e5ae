r"""Predicting each measurement from the others: leave-one-out cross-validation without sampling again.

    elpd = sum_m log p(y_m | y_{-m}),    p(y_m | y_{-m}) = 1 / E[ 1 / p(y_m | x) | y ]

Given x the measurements are independent, so that weights 1 / p(y_m | x_i) turn the draws x_i of the posterior into
draws of the posterior without y_m.  Their tail is smoothed by a generalised Pareto law, whose shape k says how far the
weights are to be trusted: above 0.7 (less for few draws) y_m is too influential for this.  ArviZ does the arithmetic;
here all observed sites are put in a row, missing measurements left out, and what k says put in words.

Source: Vehtari, Gelman and Gabry 2017 (arXiv:1507.04544); Vehtari et al. 2024 (arXiv:1507.02646) for k.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.measurements import Measurements, measurements_of

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDData

__all__ = [
    "HighParetoKWarning",
    "measurement_loo",
    "relative_efficiency",
    "smoothed_weights",
]

LEAST_DRAWS = 25  # the tail of fewer has no shape
RECORDED = {"log_likelihood": "bir.sample records it"}


class HighParetoKWarning(UserWarning):
    """Some measurements are too influential for their leave-one-out prediction to be trusted."""


def measurement_loo(
    posterior: xr.DataTree, sites: str | Sequence[str] | None = None, *, reff: float | None = None
) -> ELPDData:
    """PSIS-LOO over the measurements.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave; groups `log_likelihood` and `observed_data`.
        sites: which observed sites to predict, by default all; those left out are conditioned on.
        reff: effective draws per draw, of the likelihoods; by default 1, and for the chains of a model with nuisance
            parameters what `relative_efficiency` finds.

    Returns:
        ArviZ's `ELPDData`; `elpd_i` and `pareto_k` over `measurement`, with the coordinates `site` and `y`.

    Raises:
        ValueError: a group is missing, there are fewer than 25 finite draws, or a likelihood is zero.

    Warns:
        HighParetoKWarning: where k is above `good_k`.
    """
    import arviz_stats

    found = measurements_of("measurement_loo", posterior, RECORDED, sites)
    log_lik = usable_log_likelihood("measurement_loo", found)
    if reff is None:
        reff = relative_efficiency(found) if "nuisances" in posterior.attrs else 1.0
    array = xr.DataArray(
        log_lik[None],
        dims=("chain", "draw", "measurement"),
        coords={
            "measurement": np.arange(len(found.y)),
            "site": ("measurement", found.site),
            "y": ("measurement", found.y),
        },
        name="measurements",
    )
    tree = xr.DataTree.from_dict({"log_likelihood": xr.Dataset({"measurements": array})})
    log_weights, k = smoothed_weights(array, reff)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter")  # said below, with numbers
        loo = arviz_stats.loo(
            tree, pointwise=True, var_name="measurements", reff=reff, log_weights=log_weights, pareto_k=k
        )
    loo.elpd_i.attrs["channel"] = posterior.attrs.get("channel")
    if loo.warning:
        warnings.warn(_of_high_k(loo), HighParetoKWarning, stacklevel=2)
    return loo


def smoothed_weights(log_lik: xr.DataArray, reff: float) -> tuple[xr.DataArray, xr.DataArray]:
    """Normalised log weights 1 / p(y_m | x_i), smoothed by ArviZ, and the k of every measurement.

    Where the largest weights are equal (a sign that is sure at nearly all draws) their tail has no shape, and ArviZ
    refuses it or answers NaN.  Such weights stay as they are, with k = 0 if they are worth more than half of the draws,
    else infinite.
    """
    import arviz_stats  # noqa: F401  registers the accessor `azstats`

    dims = ["chain", "draw"]
    raw = (log_lik.min(dims) - log_lik).transpose(*dims, "measurement")  # largest zero
    size = raw.sizes["chain"] * raw.sizes["draw"]
    weights = raw.copy(data=np.exp(raw.values))
    total = weights.sum(dims)
    log_weights = raw - np.log(total)
    k = xr.where(total**2 / (weights**2).sum(dims) > 0.5 * size, 0.0, np.inf)
    tail = int(np.ceil(min(0.2 * size, 3 * np.sqrt(size / reff))))
    shaped = np.partition(raw.values.reshape(size, -1), -tail, axis=0)[-tail] < -1e-8
    if shaped.any():
        here = {"measurement": np.flatnonzero(shaped)}
        with np.errstate(all="ignore"):
            smooth, found = log_lik[here].azstats.psislw(r_eff=reff, dim=dims)
        good = (np.isfinite(found) & np.isfinite(smooth).all(dims)).values
        smooth, found = smooth[{"measurement": good}], found[{"measurement": good}]
        here["measurement"] = here["measurement"][good]
        log_weights[here] = smooth.transpose(*dims, "measurement").values
        k[here] = found.values
    return log_weights, k


def usable_log_likelihood(where: str, found: Measurements) -> np.ndarray:
    """Log likelihoods (n, M) that weights can be made of.

    Raises:
        ValueError: there are fewer than 25 draws, or a draw cannot have made the data.
    """
    log_lik = found.sampled["log_likelihood"]
    if len(log_lik) < LEAST_DRAWS:
        raise ValueError(
            f"{where}: got {len(log_lik)} finite draws; expected at least {LEAST_DRAWS}, better 1,000, for the tail of "
            "the weights to have a shape"
        )
    zero = ~np.isfinite(log_lik)
    if zero.any():
        raise ValueError(
            f"{where}: the likelihood of {int(zero.any(axis=0).sum())} of {len(found.y)} measurements is zero or "
            "infinite at some draw, so that leaving them out has no finite weight; look for a noise level of zero"
        )
    return log_lik


def relative_efficiency(found: Measurements) -> float:
    """Effective draws per draw of p(y_m | x), averaged over the measurements and at most 1; 1 of a single chain."""
    from arviz_stats.base import array_stats

    log_lik = found.sampled["log_likelihood"]
    per_chain = len(log_lik) // found.chains
    if found.chains < 2 or per_chain < 4:
        return 1.0
    likelihood = np.exp(log_lik - log_lik.max(axis=0)).reshape(found.chains, per_chain, -1)
    moving = likelihood[..., np.ptp(likelihood, axis=(0, 1)) > 0]
    if not moving.size:
        return 1.0
    ess = array_stats.ess(moving, chain_axis=0, draw_axis=1, method="mean")
    return float(min(1.0, np.mean(ess) / len(log_lik)))


def _of_high_k(loo: Any) -> str:
    k = loo.pareto_k.values
    high = k > loo.good_k
    return (
        f"{int(high.sum())} of {k.size} measurements ({100 * high.mean():.1f} %) have a Pareto k above "
        f"{loo.good_k:.2f}, the largest {k.max():.2f}: each of these is too influential for draws of the posterior "
        "to stand for draws without it. Do not trust differences in elpd that hang on them; bayes_ir.measurement_kfold "
        "samples again without the measurements it predicts"
    )

r"""Where each measurement lies among what the model predicts for it.

    PIT       u_m = p(y_rep,m <= y_m | y)            the measurement has helped to predict itself
    LOO-PIT   u_m = p(y_rep,m <= y_m | y_{-m})       by the weights of `measurement_loo`

LOO-PITs are uniform if the model is right: gathered in the middle, it predicts too widely (noise too large); piled up
at the ends, too narrowly.  Of the PIT that is not so, for y was used twice.  Where values are tied (signs, codes,
counts) u is uniform over the probability of the value.  Of n draws F can be told no finer than 1 / n, with weights W
no finer than sum W^2: u is spread over one such step, as a rank is, so that none is 0 or 1.

The u_m share one posterior, so they are not independent, and a test of their uniformity is only approximate.

Source: Gelfand, Dey and Chang 1992; Czado, Gneiting and Held 2009 for discrete values.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import xarray as xr

from bayes_ir.analysis.leave_one_out import (
    RECORDED,
    HighParetoKWarning,
    smoothed_weights,
    usable_log_likelihood,
)
from bayes_ir.analysis.measurements import measurements_of

__all__ = ["measurement_pit"]

_PREDICTED = {"posterior_predictive": "add it by bir.posterior_predictive(model, posterior)"}


def measurement_pit(
    posterior: xr.DataTree,
    sites: str | Sequence[str] | None = None,
    *,
    left_out: bool = True,
    seed: int = 0,
    reff: float = 1.0,
) -> xr.Dataset:
    """LOO-PIT of every measurement, or with `left_out=False` the plain one.

    Args:
        posterior: a tree with `observed_data`, `log_likelihood` and `posterior_predictive`.
        sites: which observed sites, by default all.
        left_out: predict y_m without y_m.
        seed: of the randomisation.
        reff: effective draws per draw.

    Returns:
        u shaped as `observed_data`, NaN for missing measurements; attributes `max_k` and `draws`.

    Raises:
        ValueError: a group is missing, or there are fewer than 25 finite draws.

    Warns:
        HighParetoKWarning: where weights are not to be trusted.
    """
    import arviz_stats  # noqa: F401  registers the accessor `azstats`

    found = measurements_of("measurement_pit", posterior, RECORDED | _PREDICTED, sites)
    log_lik = usable_log_likelihood("measurement_pit", found)
    predicted = xr.DataArray(
        found.sampled["posterior_predictive"][None], dims=("chain", "draw", "measurement")
    )
    log_weights = predicted.copy(data=np.zeros(predicted.shape))
    k = xr.zeros_like(predicted[0, 0])
    if left_out:
        log_weights, k = smoothed_weights(predicted.copy(data=log_lik[None]), reff)
    # Streams of their own: data that were simulated with this seed must not meet their own random numbers.
    ties, within = (np.random.default_rng((seed, stream)) for stream in (4, 5))
    u, _ = predicted.azstats.loo_pit(
        y_obs=xr.DataArray(found.y, dims="measurement"),
        log_weights=log_weights,
        pareto_k=k,
        random_state=ties,
    )
    log_w = log_weights.transpose("chain", "draw", "measurement").values
    w = np.exp(log_w - log_w.max(axis=(0, 1)))
    size = w.sum(axis=(0, 1)) ** 2 / (w**2).sum(axis=(0, 1))
    spread = within.uniform(size=size.shape)
    result = found.by_site((size * u.values + spread) / (size + 1))
    result.attrs = {"max_k": float(k.max()), "draws": len(log_lik)}
    high = int((k > 0.7).sum())
    if high:
        warnings.warn(
            f"{high} of {len(found.y)} measurements have a Pareto k above 0.7, the largest {float(k.max()):.2f}: their "
            "LOO-PIT is not to be trusted",
            HighParetoKWarning,
            stacklevel=2,
        )
    return result

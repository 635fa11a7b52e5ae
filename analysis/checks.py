"""Do the draws explain the measurements as well as measurements explain themselves?

    T(y, x) = log p(y | x),      p = Pr( T(y_rep, x) <= T(y, x) | y ),      y_rep ~ p(. | x)

For each posterior draw x_i the kernel records T(y, x_i) as `log_lik` and the same for one replicated y as
`log_lik_rep`. p near 0: the draws do not reach the measurements (sampling not converged, or a wrong model). p
near 1: the draws follow the noise (over-fitted). The data are used twice, so p of a right posterior is not
uniform but gathers around 1/2 (Gelman, Meng and Stern 1996): a p of 0.2 is no alarm, one of 0.001 is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

__all__ = ["MeasurementCheck", "measurement_check"]


@dataclass(frozen=True)
class MeasurementCheck:
    """Outcome of `measurement_check`.

    Attributes:
        p_value: share of draws whose replicated data are no likelier than the measurements; NaN if not
            recorded.
        mean_log_lik: posterior mean of log p(y | x), summed over the measurements.
        mean_log_lik_rep: the same of replicated data, what a right model attains; NaN if not recorded.
        log_lik_per_measurement: mean_log_lik divided by the number of measurements.
        measurements: their number.
        draws_used: draws whose log likelihood is a number.
        draws_left_out: draws without.
        diverging: draws that the kernel has marked as diverging.
    """

    p_value: float
    mean_log_lik: float
    mean_log_lik_rep: float
    log_lik_per_measurement: float
    measurements: int
    draws_used: int
    draws_left_out: int
    diverging: int


def measurement_check(posterior: xr.DataTree) -> MeasurementCheck:
    """Posterior predictive check in the space of the measurements.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave; groups `sample_stats` and `observed_data`.

    Raises:
        ValueError: the posterior has no `log_lik`, no measurements, or every `log_lik` is NaN.
    """
    stats = posterior["sample_stats"].dataset if "sample_stats" in posterior.children else xr.Dataset()
    if "log_lik" not in stats or "observed_data" not in posterior.children:
        raise ValueError(
            "measurement_check: needs sample_stats/log_lik and observed_data, which bir.sample records; "
            f"this posterior has the groups {sorted(posterior.children)} and the statistics "
            f"{sorted(map(str, stats.data_vars))}"
        )
    measurements = sum(int(y.size) for y in posterior["observed_data"].dataset.data_vars.values())
    log_lik = stats["log_lik"].values.astype(np.float64)
    replicated = "log_lik_rep" in stats
    log_lik_rep = (
        stats["log_lik_rep"].values.astype(np.float64) if replicated else np.full_like(log_lik, np.nan)
    )
    # A draw of likelihood zero (-inf) is a finding and stays; NaN is a draw that diverged.
    used = ~np.isnan(log_lik) & ~(np.isnan(log_lik_rep) & replicated)
    if not used.any():
        raise ValueError(
            f"measurement_check: the log likelihood of all {used.size} draws is NaN; the sampler diverged"
        )
    mean = float(log_lik[used].mean())
    return MeasurementCheck(
        p_value=float((log_lik_rep[used] <= log_lik[used]).mean()) if replicated else float("nan"),
        mean_log_lik=mean,
        mean_log_lik_rep=float(log_lik_rep[used].mean()),
        log_lik_per_measurement=mean / measurements,
        measurements=measurements,
        draws_used=int(used.sum()),
        draws_left_out=int((~used).sum()),
        diverging=int(stats["diverging"].values.sum()) if "diverging" in stats else 0,
    )

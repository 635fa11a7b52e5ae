"""Can measurements be left out one at a time by reweighting the draws (PSIS-LOO)?

A Pareto k above the limit says that the draws cannot stand for the posterior without that measurement: LOO of this run
is not to be used for comparing models.  It says nothing against the posterior itself, so no light here is red: with few
measurements per pixel each of them is needed, and k is large however well the posterior was drawn.
"""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

from bayes_ir.reporting.lights import Diagnostic, Light
from bayes_ir.reporting.opening import Run

__all__ = ["leave_one_out"]

_MOST = 20_000_000  # numbers in log_likelihood that are still cheap
_FEWEST = 25  # draws: the largest fifth of the weights is fitted, and ArviZ wants five of them


def leave_one_out(run: Run) -> list[Diagnostic]:
    """One diagnostic per observed site."""
    if "log_likelihood" not in run.posterior:
        return [Diagnostic("LOO", Light.UNKNOWN, "", "the run kept no log likelihood of single measurements")]
    sites = run.posterior["log_likelihood"].dataset.data_vars
    return [_of_site(f"LOO of {name}", values) for name, values in sites.items()]


def _of_site(name: str, values: xr.DataArray) -> Diagnostic:
    import arviz_stats

    total = values.sizes["chain"] * values.sizes["draw"]
    if values.size > _MOST:
        return Diagnostic(
            name, Light.UNKNOWN, "", f"not computed: {values.size:,} numbers are too many for a report"
        )
    if total < _FEWEST:
        return Diagnostic(name, Light.UNKNOWN, "", f"not computed: {total} draws are too few to reweight")
    # One axis of measurements; those left out were given a likelihood of one for every draw.
    flat = values.values.reshape(*values.shape[:2], -1)
    flat = flat[..., np.ptp(flat, axis=(0, 1)) != 0] if np.isfinite(flat).all() else flat[..., :0]
    if not flat.shape[-1]:
        return Diagnostic(
            name, Light.UNKNOWN, "", "not computed: the log likelihood is constant or not finite"
        )
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"one": (("chain", "draw"), np.zeros(flat.shape[:2]))}),
            "log_likelihood": xr.Dataset({"y": (("chain", "draw", "m"), flat.astype(np.float64))}),
        }
    )
    with warnings.catch_warnings():  # it warns of large k, which is what is told here
        warnings.simplefilter("ignore")
        loo = arviz_stats.loo(tree, var_name="y", pointwise=True, reff=1.0)
    k = np.asarray(loo.pareto_k)
    bad, limit = int((k > loo.good_k).sum()), float(loo.good_k)
    shown = f"elpd {loo.elpd:.4g} ± {loo.se:.2g}; Pareto k above {limit:.2f} for {bad} of {k.size}"
    if not bad:
        return Diagnostic(
            name, Light.GREEN, shown, "every measurement can be left out by reweighting the draws"
        )
    reason = (
        "do not compare models by this number: without these measurements the posterior is too different "
        "(no fault of the draws); bayes_ir.measurement_kfold samples again without them"
    )
    return Diagnostic(name, Light.AMBER, shown, reason)

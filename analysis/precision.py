r"""How many draws are needed for a wanted Monte Carlo standard error.

The standard error of an estimate from n draws is c / sqrt(n) as long as the sampler stays as it is: c holds the
posterior's spread and the effective draws per draw. With the error e of the n draws that are there,

    needed = n (e / wanted)^2,        for the mean e = sd / sqrt(ESS), so that needed = (sd / wanted)^2 n / ESS

The forecast is as good as the effective sample size it rests on: with an ESS of 100, within some 15 % either way; and
where r-hat is above 1.01 the chains disagree and no forecast holds.

Source: Vehtari et al. 2021 (10.1214/20-BA1221) for e of mean, sd and quantiles.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayes_ir.analysis.functionals import Functional, functional_draws

__all__ = ["DrawsNeeded", "draws_needed"]


@dataclass(frozen=True)
class DrawsNeeded:
    """What `draws_needed` gives.

    Attributes:
        draws: how many draws are needed, all chains together.
        draws_per_chain: with the chains there are; what `bir.sample` takes as `draws`.
        mcse: standard error of the estimate from the draws there are.
        ess_per_draw: effective draws per draw, for this estimate.
        r_hat: between-chain agreement of the functional; NaN for a single chain too short to be split.
    """

    draws: int
    draws_per_chain: int
    mcse: float
    ess_per_draw: float
    r_hat: float


def draws_needed(
    posterior: xr.DataTree,
    functional: Functional,
    mcse: float,
    *,
    of: str | float = "mean",
    var_name: str | None = None,
) -> DrawsNeeded:
    """Number of draws that give an estimate of a functional with this Monte Carlo standard error.

    Within a plate, as many as the image needs that needs most.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        functional: function of one image giving a number.
        mcse: the wanted standard error, in units of the functional.
        of: what is estimated: "mean", "sd", "median", or a quantile by its probability.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: the wanted error is not positive, `of` is none of these, no draw is finite, or the draws do not
            tell the present error: fewer than four per chain, or a functional that never varies.
    """
    import arviz_stats

    if not 0 < mcse < math.inf:
        raise ValueError(f"draws_needed: mcse must be a positive number, got {mcse!r}")
    quantile = not isinstance(of, str) and 0 < of < 1
    if not quantile and of not in ("mean", "sd", "median"):
        raise ValueError(
            f"draws_needed: of must be 'mean', 'sd', 'median' or the probability of a quantile, got {of!r}"
        )
    values = functional_draws(posterior, {"f": functional}, var_name)["posterior"]["f"]
    how = {"method": "quantile", "prob": of} if quantile else {"method": of}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # too few draws are answered below
        errors, effective, r_hat = (
            arviz_stats.mcse(values, **how),
            arviz_stats.ess(values, **how),
            arviz_stats.rhat(values),
        )
    spread = float(values.max() - values.min())
    if spread == 0 or not np.isfinite(errors).all():
        few = values.sizes["draw"] < 4
        reason = "four draws per chain are the least that tell their error" if few else "it never varies"
        raise ValueError(
            f"draws_needed: {values.sizes['chain']} chains of {values.sizes['draw']} draws do not tell the Monte Carlo "
            f"error of this functional: {reason}"
        )
    now = values.sizes["chain"] * values.sizes["draw"]
    worst = int(np.argmax(np.ravel(errors)))
    error = float(np.ravel(errors)[worst])
    needed = max(1, math.ceil(now * (error / mcse) ** 2))
    return DrawsNeeded(
        draws=needed,
        draws_per_chain=-(-needed // values.sizes["chain"]),
        mcse=error,
        ess_per_draw=float(np.ravel(effective)[worst]) / now,
        r_hat=float(np.max(np.ravel(r_hat))),
    )

"""A table of functionals of the image: what ArviZ says of the draws f(x_1), f(x_2), ... of each.

    mean, sd                    of the draws, sd with ArviZ's divisor n
    etiP_lb, etiP_ub            central interval of P %
    hdiP_lb, hdiP_ub            shortest interval of P %
    ess_bulk, ess_tail          effective sample size for the middle, and for the 5 % and 95 % quantiles
    r_hat                       between-chain agreement (rank-normalised, split), 1 where the chains agree
    mcse_mean, mcse_sd          Monte Carlo standard errors of mean and sd

Source: Vehtari et al. 2021 (10.1214/20-BA1221).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayes_ir.analysis.functionals import Functional, functional_draws

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["arviz_table", "functional_table"]


def functional_table(
    posterior: xr.DataTree,
    functionals: Mapping[str, Functional],
    *,
    ci_prob: float = 0.9,
    var_name: str | None = None,
) -> pd.DataFrame:
    """One row per functional (and image of a plate), in full precision; columns as above.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        functionals: name -> function of one image giving a number.
        ci_prob: probability of the intervals.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: ci_prob is not in (0, 1), no functional is given, one does not give a finite number, or no draw is
            finite.
    """
    if not 0 < ci_prob < 1:
        raise ValueError(f"functional_table: ci_prob must be a probability between 0 and 1, got {ci_prob!r}")
    return arviz_table(functional_draws(posterior, functionals, var_name)["posterior"].to_dataset(), ci_prob)


def arviz_table(values: xr.Dataset, ci_prob: float) -> pd.DataFrame:
    """ArviZ's summary with both kinds of interval, of scalars with axes (chain, draw, ...)."""
    import arviz_stats

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Few draws, or a functional that never varies: ArviZ answers NaN, which the table shows.
        warnings.simplefilter("ignore")
        table = arviz_stats.summary(values, ci_prob=ci_prob, ci_kind="eti", round_to="none")
        # Its summary of 0.8 prints central intervals under either name, so that these are asked for themselves.
        densest = arviz_stats.hdi(values, prob=ci_prob)
    for i, bound in enumerate(("lower", "upper")):
        ends = [np.ravel(densest[name].sel(ci_bound=bound)) for name in values.data_vars]
        table.insert(4 + i, f"hdi_{bound[0]}b", np.concatenate(ends))
    # ArviZ cuts 100 * ci_prob down to an integer in its labels: 0.57 is labelled 56.
    return table.rename(
        columns=lambda c: f"{c[:3]}{100 * ci_prob:g}{c[-3:]}" if c[:3] in ("eti", "hdi") else c
    )

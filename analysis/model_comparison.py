r"""Models of the same data, ranked by how well they predict each measurement from others.

    elpd_diff = sum_m (elpd_m of the best - elpd_m),    dse^2 = M Var_m(elpd_m of the best - elpd_m)

with elpd_m of leave-one-out (`measurement_loo`, from draws there are) or of K folds (`bayes_ir.measurement_kfold`,
which samples again).  ArviZ does the arithmetic; here models of other data are refused, and what can be told is put in
words.

Densities and probabilities do not compare: a Gaussian channel gives log densities in units of 1 / y, a one-bit or
quantized one log probabilities.

Source: Vehtari, Gelman and Gabry 2017 (arXiv:1507.04544); Sivula et al. 2020 (arXiv:2008.10296) for the limits of dse.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.leave_one_out import measurement_loo
from bayes_ir.analysis.measurements import different_data

if TYPE_CHECKING:
    import pandas as pd
    from arviz_stats.utils import ELPDData

__all__ = ["compare_models"]

_DENSITIES = ("Gaussian",)


def compare_models(
    models: Mapping[str, xr.DataTree] | Mapping[str, ELPDData],
    sites: str | Sequence[str] | None = None,
    *,
    method: str = "stacking",
) -> pd.DataFrame:
    """Models of the same data ranked by how well they predict each measurement from others.

    Args:
        models: name -> posterior, for leave-one-out; or name -> what `bayes_ir.measurement_kfold` (or
            `measurement_loo`) gave.  All of the same measurements.
        sites: which observed sites of posteriors to predict, by default all.
        method: of ArviZ's model weights.

    Returns:
        ArviZ's table, best first, with `max_k`, `share_high_k` (NaN for folds, which need no k) and `draws` beside it,
        and in `attrs["verdict"]` one sentence that says what can be told.

    Raises:
        ValueError: fewer than two models, other data, other folds, folds beside leave-one-out, or a density beside a
            probability.

    Warns:
        HighParetoKWarning: per model with k above its limit.
    """
    import arviz_stats
    from arviz_stats.utils import ELPDData

    if len(models) < 2:
        raise ValueError(f"compare_models: got {list(models)}; expected at least two models by name")
    trees = {name: model for name, model in models.items() if not isinstance(model, ELPDData)}
    for name, tree in trees.items():
        if not isinstance(tree, xr.DataTree) or "observed_data" not in tree.children:
            raise ValueError(f"compare_models: {name!r} is no posterior with the group observed_data")
    difference = different_data(trees, sites) if trees else ""
    if difference:
        raise ValueError(f"compare_models: the models were not given the same data: {difference}")
    _same_units({n: _channel(model) for n, model in models.items()})
    found: dict[str, ELPDData] = {}
    for name, model in models.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found[name] = model if isinstance(model, ELPDData) else measurement_loo(model, sites)
        for each in caught:
            warnings.warn(f"{name!r}: {each.message}", each.category, stacklevel=2)
    _same_measurements(found)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The inplace keyword")  # of pandas, to ArviZ
        table = arviz_stats.compare(found, method=method)
    ks = {
        name: np.array([np.nan]) if loo.pareto_k is None else loo.pareto_k.values
        for name, loo in found.items()
    }
    table["max_k"] = [float(ks[name].max()) for name in table.index]
    table["share_high_k"] = [_share(ks[name], found[name].good_k) for name in table.index]
    table["draws"] = [found[name].n_samples for name in table.index]
    table.attrs["verdict"] = _verdict(table)
    return table


def _channel(model: Any) -> str | None:
    return model.attrs.get("channel") if isinstance(model, xr.DataTree) else model.elpd_i.attrs.get("channel")


def _share(k: np.ndarray, limit: float) -> float:
    return float("nan") if np.isnan(k).all() else float((k > limit).mean())


def _same_units(kinds: Mapping[str, str | None]) -> None:
    dense = {name: kind in _DENSITIES for name, kind in kinds.items() if kind is not None}
    if len(set(dense.values())) > 1:
        raise ValueError(
            f"compare_models: the channels are {dict(kinds)}: a Gaussian one gives densities, the others "
            "probabilities, and the two have no common unit; compare models of one kind (for values that are codes, "
            "Quantized)"
        )


def _same_measurements(found: Mapping[str, ELPDData]) -> None:
    kinds = {name: loo.kind for name, loo in found.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            f"compare_models: the predictions are {kinds}: of one measurement from all others, and from some of them; "
            "give all models one of the two"
        )
    (first, one), *others = found.items()
    for name, two in others:
        for what in ("site", "y", "fold"):
            if not all(what in loo.elpd_i.coords for loo in (one, two)):
                continue
            a, b = (loo.elpd_i[what].values for loo in (one, two))
            same = (
                a.shape == b.shape
                and (np.isclose(a, b, rtol=1e-5, atol=1e-6) if what == "y" else a == b).all()
            )
            if not same:
                raise ValueError(
                    f"compare_models: {first!r} and {name!r} do not predict the same measurements from the same ones: "
                    f"{a.size} and {b.size} of them, {what} differs; give them the same data, folds= and seed="
                )


def _verdict(table: Any) -> str:
    best, second = table.index[:2]
    ahead, se = float(table["elpd_diff"].iloc[1]), float(table["dse"].iloc[1])
    told = f"{best!r} is ahead of {second!r} by {ahead:.1f} (standard error {se:.1f}) in log predictive probability"
    shares = {name: 100 * float(table.loc[name, "share_high_k"]) for name in (best, second)}
    high = " and ".join(f"{share:.0f} % of {name!r}" for name, share in shares.items() if share > 0)
    unsure = (
        f"; but {high} have a Pareto k above the limit, of which this error knows nothing" if high else ""
    )
    if ahead < 4:
        return f"{told}: too little to tell them apart{unsure}"
    if ahead < 2 * se:
        return f"{told}: less than two standard errors, no more than a hint{unsure}"
    return told + unsure

r"""Simulation-based calibration: is the truth exchangeable with the draws?

For x* ~ p(x), y ~ p(y | x*) and S independent draws x_1..x_S of p(x | y), truth and draws are S + 1 independent draws
of one law, so for every scalar quantity q(x, y) the randomised rank

    u = (#{s : q(x_s) < q(x*)} + V (1 + #{s : q(x_s) = q(x*)})) / (S + 1),      V ~ U(0, 1)

is exactly uniform on (0, 1). Over L replications u_1..u_L are tested by POT-C, and the p-values of K quantities are
adjusted by Holm's method. The mean of u is above 1/2 where the truth is larger than the draws; the sd ratio, that of u
over 12^{-1/2}, is above 1 where the draws are too narrow.

Draws must be independent given y: those of one particle cloud, or neighbours in a chain, are not.

Source: Talts et al. 2018 (arXiv:1804.06788); Modrak et al. 2023 (10.1214/23-BA1404); Saeilynoja et al. 2022
(arXiv:2103.10522).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.draw_sets import replicated
from bayes_ir.analysis.posterior import json_attributes
from bayes_ir.analysis.quantities import Quantity, choose_quantities, default_quantities, evaluate_quantities
from bayes_ir.analysis.uniformity import holm_adjusted, sbc_power, uniformity_p_value

__all__ = ["FewReplicationsWarning", "calibration_tree", "count_below", "randomised_ranks", "sbc_ranks"]

_STREAM = 4  # keeps these random numbers apart from those of a caller with the same seed
_ENOUGH = 500


class FewReplicationsWarning(UserWarning):
    """So few replications that a posterior too narrow by a tenth would often pass."""


def sbc_ranks(
    truths: Any,
    draws: Any,
    quantities: Mapping[str, Quantity] | Sequence[str] | None = None,
    *,
    data: Any = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> xr.DataTree:
    """Simulation-based calibration of any sampler, from its draws.

    Args:
        truths: true images, (L, *event_shape), drawn from the prior.
        draws: S independent posterior draws for the data of each truth, (L, S, *event_shape).
        quantities: functions q(x, y) by name; names among `default_quantities(event_shape)`; by default all of these.
            None of the default ones depends on the data: give at least three that do.
        data: y of each replication, (L, ...), handed to the quantities.
        alpha: family-wise level of the verdict.
        seed: seed of V.

    Returns:
        The tree of `calibration_tree`.

    Raises:
        ValueError: shapes that do not belong together, fewer than 2 draws, values that are not finite, unknown
            quantities.

    Warns:
        FewReplicationsWarning: fewer than 500 replications; says the power they have.
    """
    x, s = replicated("sbc_ranks", truths, draws)
    chosen = choose_quantities("sbc_ranks", quantities, default_quantities(x.shape[1:]))
    if data is not None and len(data) != len(x):
        raise ValueError(
            f"sbc_ranks: got data of {len(data)} replications for {len(x)} truths; expected as many."
        )
    counts = []
    for i in range(len(x)):
        y = None if data is None else data[i]
        values = evaluate_quantities("sbc_ranks", chosen, np.concatenate([x[i : i + 1], s[i]]), y)
        counts.append(count_below(values[0], values[1:]))
    less, equal = (np.stack(part) for part in zip(*counts, strict=True))
    v = np.random.default_rng((seed, _STREAM)).uniform(size=less.shape)
    return calibration_tree(list(chosen), randomised_ranks(less, equal, v, s.shape[1]), s.shape[1], alpha, {})


def count_below(truth: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of the draws (S, K) lie below the truth (K,), and how many are equal to it."""
    return (draws < truth).sum(axis=0), (draws == truth).sum(axis=0)


def randomised_ranks(less: np.ndarray, equal: np.ndarray, v: np.ndarray, draws: int) -> np.ndarray:
    """Randomised ranks u, uniform under calibration."""
    return (less + v * (1 + equal)) / (draws + 1)


def calibration_tree(
    names: Sequence[str], u: np.ndarray, draws: int, alpha: float, attrs: Mapping[str, Any]
) -> xr.DataTree:
    """The outcome of a calibration, laid out for ArviZ.

    Args:
        names: the K quantities.
        u: randomised ranks, (L, K).
        draws: S.
        alpha: family-wise level.
        attrs: further attributes of the root.

    Returns:
        Group `prior_sbc`: u of every quantity, axes (chain, draw) with one chain and one draw per replication, as
        ``arviz_plots.plot_ecdf_pit(tree, group="prior_sbc")`` wants it. Group `sbc_test`, axis `quantity`: `p_value`,
        `p_holm`, `deviates`, `mean_rank`, `sd_ratio`. Root attributes: `verdict`, `smallest_p_holm`, `replications`,
        `draws_per_replication`, `alpha`, `power` (to see, in one quantity alone, an sd too small by a tenth).

    Raises:
        ValueError: alpha is not between 0 and 1, or there are fewer than 2 replications.

    Warns:
        FewReplicationsWarning: fewer than 500 replications.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"calibration: alpha is {alpha!r}; expected a level between 0 and 1.")
    replications = len(u)
    if replications < 2:
        raise ValueError(
            f"calibration: got {replications} replication; expected at least 2, better {_ENOUGH}."
        )
    power = sbc_power(replications, draws, alpha=alpha)
    if replications < _ENOUGH:
        warnings.warn(
            f"{replications} replications of {draws} draws: a posterior sd that is too small by a tenth is seen in one "
            f"quantity with probability {power:.2f}, with {_ENOUGH} replications with probability "
            f"{sbc_power(_ENOUGH, draws, alpha=alpha):.2f}.",
            FewReplicationsWarning,
            stacklevel=3,
        )
    p = uniformity_p_value(u.T)
    adjusted = holm_adjusted(p)
    wrong = [name for name, value in zip(names, adjusted, strict=True) if value < alpha]
    test = xr.Dataset(
        {
            "p_value": ("quantity", p),
            "p_holm": ("quantity", adjusted),
            "deviates": ("quantity", adjusted < alpha),
            "mean_rank": ("quantity", u.mean(axis=0)),
            "sd_ratio": ("quantity", u.std(axis=0) * np.sqrt(12)),
        },
        coords={"quantity": list(names)},
    )
    ranks = xr.Dataset(
        {name: (("chain", "draw"), u[None, :, i]) for i, name in enumerate(names)},
        coords={"chain": [0], "draw": np.arange(replications)},
    )
    root = {
        **attrs,
        "verdict": f"not calibrated: {', '.join(wrong)}" if wrong else f"no deviation at level {alpha:g}",
        "smallest_p_holm": float(adjusted.min()),
        "replications": replications,
        "draws_per_replication": draws,
        "alpha": alpha,
        "power": power,
    }
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs=json_attributes(root)), "prior_sbc": ranks, "sbc_test": test}
    )

r"""Expected coverage of credible sets over replications, at levels that S draws can attain.

With the S draws sorted by a scalar q, the truth of a calibrated sampler falls into each of the S + 1 gaps with equal
probability. Two kinds of sets, and what they cover exactly (no weights, no interpolation):

    central   between the k-th smallest and the k-th largest, k = floor((1 - alpha)(S + 1) / 2):   1 - 2k / (S + 1)
    density   q a log density: at least that of the k-th highest draw, k = ceil(alpha S):           k / (S + 1)

Ties are broken at random. Coverage below the nominal one: the sampler is overconfident.

Source: Talts et al. 2018 (arXiv:1804.06788); Deistler et al. 2022 (arXiv:2210.04815) for sets of highest density.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import binom

from bayes_ir.analysis.draw_sets import replicated
from bayes_ir.analysis.posterior import as_array
from bayes_ir.analysis.quantities import Quantity, choose_quantities, default_quantities, evaluate_quantities
from bayes_ir.analysis.sbc import count_below
from bayes_ir.analysis.uniformity import holm_adjusted, uniformity_p_value

__all__ = ["expected_coverage"]

_STREAM = 5  # keeps these random numbers apart from those of a caller with the same seed


def expected_coverage(
    truths: Any,
    draws: Any,
    quantities: Mapping[str, Quantity] | Sequence[str] | None = None,
    *,
    data: Any = None,
    log_density: tuple[Any, Any] | None = None,
    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    seed: int = 0,
) -> xr.Dataset:
    """Coverage of central intervals per quantity and, given log densities, of sets of highest density.

    Args:
        truths: true images, (L, *event_shape), drawn from the prior.
        draws: S independent posterior draws for the data of each truth, (L, S, *event_shape).
        quantities: as for `sbc_ranks`.
        data: y of each replication, (L, ...), handed to the quantities.
        log_density: log p(x | y) up to a constant per replication, of truths (L,) and draws (L, S).
        levels: asked probabilities alpha.
        seed: seed by which ties are broken.

    Returns:
        Axes `quantity` (the names, then ``"highest density"``) and `level`: `coverage`, `nominal` (attained by S
        draws), `lower` and `upper` (95 % of a calibrated sampler's coverages, each alone); and over `quantity`
        `p_value` and `p_holm` of POT-C on how far out the truth lies, which tests all levels at once.

    Raises:
        ValueError: shapes that do not belong together, fewer than 2 draws, values not finite, unknown quantities,
            levels outside (0, 1).
    """
    where = "expected_coverage"
    x, s = replicated(where, truths, draws)
    if len(x) < 2:
        raise ValueError(f"{where}: got {len(x)} replication; expected at least 2, better 500.")
    alpha = np.atleast_1d(np.asarray(levels, dtype=float))
    if alpha.ndim != 1 or not alpha.size or not ((alpha > 0) & (alpha < 1)).all():
        raise ValueError(f"{where}: levels are {levels!r}; expected probabilities between 0 and 1.")
    if data is not None and len(data) != len(x):
        raise ValueError(
            f"{where}: got data of {len(data)} replications for {len(x)} truths; expected as many."
        )
    chosen = choose_quantities(where, quantities, default_quantities(x.shape[1:]))
    counts = []
    for i in range(len(x)):
        y = None if data is None else data[i]
        values = evaluate_quantities(where, chosen, np.concatenate([x[i : i + 1], s[i]]), y)
        counts.append(count_below(values[0], values[1:]))
    less, equal = (np.stack(part) for part in zip(*counts, strict=True))
    names, size = list(chosen), s.shape[1]
    if log_density is not None:
        below = _density_counts(where, log_density, len(x), size)
        less, equal = np.column_stack([less, below[0]]), np.column_stack([equal, below[1]])
        names.append("highest density")
    u = (less + np.random.default_rng((seed, _STREAM)).uniform(size=less.shape) * (1 + equal)) / (
        size + 1
    )  # in (0, 1)
    position = np.minimum((u * (size + 1)).astype(int), size)[..., None]  # gap 0..S in which the truth lies
    k = np.floor((1 - alpha) * (size + 1) / 2 + 1e-9).astype(int)
    top = np.ceil(alpha * size - 1e-9).astype(int)
    density = np.array([name == "highest density" for name in names])[:, None]
    covered = np.where(density, size - position < top, (position >= k) & (position <= size - k))
    nominal = np.where(density, top / (size + 1), 1 - 2 * k / (size + 1))
    # how far out: 1 - u from the highest density, |2u - 1| from the median
    p = uniformity_p_value(np.where(density.T, 1 - u, np.abs(2 * u - 1)).T)
    return xr.Dataset(
        {
            "coverage": (("quantity", "level"), covered.mean(axis=0)),
            "nominal": (("quantity", "level"), nominal),
            "lower": (("quantity", "level"), binom.ppf(0.025, len(x), nominal) / len(x)),
            "upper": (("quantity", "level"), binom.ppf(0.975, len(x), nominal) / len(x)),
            "p_value": ("quantity", p),
            "p_holm": ("quantity", holm_adjusted(p)),
        },
        coords={"quantity": names, "level": alpha},
        attrs={"replications": len(x), "draws_per_replication": size},
    )


def _density_counts(
    where: str, given: tuple[Any, Any], truths: int, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    own, theirs = (np.asarray(as_array(values), dtype=float) for values in given)
    if (
        own.shape != (truths,)
        or theirs.shape != (truths, draws)
        or np.isnan(own).any()
        or np.isnan(theirs).any()
    ):
        raise ValueError(
            f"{where}: log_density has shapes {own.shape} and {theirs.shape}; expected ({truths},) and "
            f"({truths}, {draws}), without NaN."
        )
    return (theirs < own[:, None]).sum(axis=1), (theirs == own[:, None]).sum(axis=1)

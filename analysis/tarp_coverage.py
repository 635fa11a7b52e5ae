r"""Coverage of random balls (TARP): one test for the whole image.

For a reference point r_i that does not depend on the truth x*_i (it may depend on y_i), the share of draws nearer to it

    f_i = #{s : |x_is - r_i| < |x*_i - r_i|} / S

is a rank, hence uniform (randomised as (S f_i + V) / (S + 1)) if truth and draws have one law given y_i. The expected
coverage P(f <= alpha) against alpha is the curve that is drawn. Distances are taken after every coordinate was divided
by its sd over all draws of all replications; no truth enters this scale (normalising by the extremes of the truths
makes them special, and an exact posterior fails).

References that do not depend on y cannot see a sampler that returns the prior: its draws and the truth do have one law.
References made from y, such as a back projection A^+ y plus noise, can; give them as the second set.

Source: Lemos et al. 2023 (arXiv:2302.03026).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import kstwo

from bayes_ir.analysis.draw_sets import replicated
from bayes_ir.analysis.posterior import as_array
from bayes_ir.analysis.uniformity import holm_adjusted, uniformity_p_value

__all__ = ["tarp"]

_STREAM = 1  # keeps these random numbers apart from those of a caller with the same seed
_GRID = 101


def tarp(
    truths: Any,
    draws: Any,
    references: Any = None,
    *,
    data_references: Any = None,
    band: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Tests of accuracy with random points, with POT-C.

    Args:
        truths: true images, (L, *event_shape), drawn from the prior.
        draws: S independent posterior draws for the data of each truth, (L, S, *event_shape).
        references: r_i that do not depend on y_i, (L, *event_shape); by default normal with mean and sd of all draws.
        data_references: r_i made from y_i (never from the truth), (L, *event_shape).
        band: probability of the simultaneous band.
        seed: seed of the references and the randomisation.

    Returns:
        Axis `reference` (``"y-free"`` and, if given, ``"y-dependent"``): `p_value`, `p_holm`, `f` (reference,
        replication), `coverage` (reference, alpha); and `lower`, `upper` (alpha), the Kolmogorov band in which the
        whole curve of a calibrated sampler lies with probability `band`.

    Raises:
        ValueError: shapes that do not belong together, fewer than 2 draws or replications, values not finite.
    """
    x, s = replicated("tarp", truths, draws)
    if len(x) < 2:
        raise ValueError(f"tarp: got {len(x)} replication; expected at least 2, better 500.")
    if not 0 < band < 1:
        raise ValueError(f"tarp: band is {band!r}; expected a probability between 0 and 1.")
    rng = np.random.default_rng((seed, _STREAM))
    mean, sd = s.mean(axis=(0, 1)), s.std(axis=(0, 1))
    sets = {"y-free": mean + sd * rng.normal(size=x.shape) if references is None else references}
    if data_references is not None:
        sets["y-dependent"] = data_references
    scale = np.where(sd > 0, sd, 1.0)
    f = np.stack(
        [_fractions(x, s, _points(name, given, x.shape), scale, rng) for name, given in sets.items()]
    )
    alpha = np.linspace(0, 1, _GRID)
    half = kstwo.ppf(band, len(x))
    p = uniformity_p_value(f)
    return xr.Dataset(
        {
            "p_value": ("reference", p),
            "p_holm": ("reference", holm_adjusted(p)),
            "f": (("reference", "replication"), f),
            "coverage": (("reference", "alpha"), (f[..., None] <= alpha).mean(axis=1)),
            "lower": ("alpha", np.maximum(alpha - half, 0)),
            "upper": ("alpha", np.minimum(alpha + half, 1)),
        },
        coords={"reference": list(sets), "alpha": alpha},
        attrs={"band": band, "replications": len(x), "draws_per_replication": s.shape[1]},
    )


def _points(name: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    points = np.asarray(as_array(given), dtype=np.float64)
    if points.shape != shape or not np.isfinite(points).all():
        raise ValueError(
            f"tarp: the {name} references have shape {points.shape}; expected {shape}, one finite point per truth."
        )
    return points


def _fractions(
    x: np.ndarray, s: np.ndarray, points: np.ndarray, scale: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    axes = tuple(range(1, x.ndim))
    v, found = rng.uniform(size=len(x)), np.empty(len(x))
    for i, point in enumerate(points):
        own = (((x[i : i + 1] - point) / scale) ** 2).sum(axis=axes)
        theirs = (((s[i] - point) / scale) ** 2).sum(axis=axes)
        found[i] = ((theirs < own).sum() + v[i] * (1 + (theirs == own).sum())) / (len(theirs) + 1)
    return found

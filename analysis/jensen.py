"""The Jensen gap as a group of a tree, and in words.

    jensen_gap/log_likelihood ..   (time, draw)                         log p(y | x_t), its error, m_1, bounds, reason
    jensen_gap/log_gap ..          (time, draw, denoising_posterior)    what each denoising posterior makes of it

A verdict is about the score: guidance by a denoising posterior is as good as the score of y that it makes, and the gap
of the likelihoods (or a bound of it) says nothing of that. A gap tends to zero where the likelihood itself does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.posterior import json_attributes
from bayes_ir.analysis.trajectory import level_coordinates

__all__ = ["jensen_group", "jensen_tree", "jensen_verdicts"]

#: What each figure is; those of the second kind are one per denoising posterior.
_COMMON = {
    "log_likelihood": "log p(y | x_t), nats",
    "log_likelihood_error": "its standard error; 0 in closed form",
    "score_norm": "norm of grad_{x_t} log p(y | x_t)",
    "score_norm_error": "its standard error",
    "ess": "effective number of inner draws; infinite in closed form",
    "inner_draws": "inner draws, or proposals for cells; 0 in closed form",
    "pareto_k": "shape of the tail of the inner weights; above 1/2 errors are too small; NaN in closed form",
    "inner_bias": "distance of the mean of the inner draws from E[x_0 | x_t] over their spread, less chance",
    "m1": "E |x_0 - E[x_0 | x_t]| given x_t, in units of the image",
    "m1_error": "its standard error",
    "log_bound_published": "log of the published bound of the Jensen gap, which does not hold at small noise",
    "log_bound": "log of the bound that holds",
    "reason": "why a figure is missing",
}
_EACH = {
    "log_likelihood_approximation": "log p_q(y | x_t) under the denoising posterior, nats",
    "log_gap": "log p(y | x_t) - log p_q(y | x_t), nats",
    "log_gap_error": "its standard error",
    "log_jensen_gap": "log |p(y | x_t) - p_q(y | x_t)|; for Point() the Jensen gap",
    "norm_ratio": "norm of the approximate score over that of the score",
    "norm_ratio_error": "its standard error",
    "cosine": "cosine between the approximate score and the score",
    "cosine_error": "its standard error",
    "relative_error": "norm of the error of the score over that of the score",
    "relative_error_error": "its standard error",
}


def jensen_tree(
    steps: Sequence[int],
    levels: Sequence[tuple[float, float]],
    names: Sequence[str],
    figures: Sequence[Sequence[tuple[Mapping[str, float], Sequence[Mapping[str, float]]]]],
    ingredients: Mapping[str, float],
    reasons: Mapping[str, int],
    attrs: Mapping[str, Any],
) -> xr.DataTree:
    """The tree of the figures of every level and state.

    Args:
        steps: number of every level, (T,).
        levels: pairs (a, b), (T,).
        names: of the denoising posteriors.
        figures: per level and state the figures of the state and those of every denoising posterior.
        ingredients: what the bounds are made of, but for m_1.
        reasons: bit of every reason.
        attrs: settings, for the root.
    """
    data: dict[str, Any] = {}
    for name, about in _COMMON.items():
        values = np.array([[common[name] for common, _ in level] for level in figures])
        data[name] = (("time", "draw"), values, {"long_name": about})
    for name, about in _EACH.items():
        values = np.array([[[q[name] for q in each] for _, each in level] for level in figures])
        data[name] = (("time", "draw", "denoising_posterior"), values, {"long_name": about})
    masks = {"flag_masks": list(reasons.values()), "flag_meanings": " ".join(reasons)}
    data["reason"][2].update(masks)
    for name, value in ingredients.items():
        data[name] = ((), float(value), {"long_name": "ingredient of the bounds of the Jensen gap"})
    coords = {
        "time": np.asarray(steps),
        "draw": np.arange(len(figures[0])),
        "denoising_posterior": list(names),
    }
    group = xr.Dataset(data, coords=coords | level_coordinates(levels))
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=json_attributes(attrs)), "jensen_gap": group})


def jensen_group(tree: Any) -> xr.Dataset:
    """The group `jensen_gap` of a tree.

    Raises:
        ValueError: for a tree without one.
    """
    if not isinstance(tree, xr.DataTree) or "jensen_gap" not in tree.children:
        has = sorted(tree.children) if isinstance(tree, xr.DataTree) else type(tree).__name__
        raise ValueError(
            f"expected a tree with the group 'jensen_gap', got {has}; make one with bayes_ir.jensen_gap(model, data)"
        )
    return tree["jensen_gap"].dataset


def jensen_verdicts(tree: Any, tolerance: float = 0.1) -> dict[str, str]:
    """One sentence per denoising posterior: where its score is off by more than a share of the score.

    The error at a noise level is the median over draws of ``|s_q - s| / |s|``; a level where no draw could be judged
    counts neither way and is said to be missing.

    Args:
        tree: what `bayes_ir.jensen_gap` gave.
        tolerance: relative error of the score that is let pass.

    Raises:
        ValueError: for a tree without the group, or a tolerance that is not positive.
    """
    if not tolerance > 0:
        raise ValueError(f"jensen_verdicts: tolerance must be positive, got {tolerance!r}")
    group = jensen_group(tree)
    order = np.argsort(group["noise"].values, kind="stable")
    noise = group["noise"].values[order]
    kernel, of_kernel = (
        str(tree.attrs.get("kernel")).split("(")[0],
        tree.attrs.get("kernel_denoising_posterior"),
    )
    verdicts = {}
    for name in group["denoising_posterior"].values:
        errors = group["relative_error"].sel(denoising_posterior=name).values[order]
        judged = np.isfinite(errors).any(axis=1)
        middle = np.array(
            [np.median(e[np.isfinite(e)]) if ok else np.nan for e, ok in zip(errors, judged, strict=True)]
        )
        by = f" (the choice of {kernel})" if name == of_kernel else ""
        verdicts[str(name)] = f"{name}{by}: {_verdict(noise, middle, judged, tolerance)}"
    return verdicts


def _verdict(noise: np.ndarray, error: np.ndarray, judged: np.ndarray, tolerance: float) -> str:
    """Where the error is too large, noise rising."""
    if not judged.any():
        return "not judged, no noise level has an estimate of the score that means anything; see `reason`"
    missing = f"; {(~judged).sum()} of {len(judged)} levels could not be judged" if not judged.all() else ""
    noise, error = noise[judged], error[judged]
    off, percent = error > tolerance, f"{100 * tolerance:g} %"
    span = f"b/a = {noise[0]:.3g} to {noise[-1]:.3g}"
    if not off.any():
        return f"within {percent} of the score at every noise level, {span}{missing}"
    worst = f" (at worst by {_percent(error.max())}, at b/a = {noise[error.argmax()]:.3g}){missing}"
    first, last = np.flatnonzero(off)[[0, -1]]
    if off.all():
        return f"off by more than {percent} of the score at every noise level, {span}{worst}"
    if off[: last + 1].all():
        return f"off by more than {percent} of the score below noise level b/a = {noise[last + 1]:.3g}{worst}"
    if off[first:].all():
        return (
            f"off by more than {percent} of the score above noise level b/a = {noise[first - 1]:.3g}{worst}"
        )
    where = (
        f"at {off.sum()} of {len(off)} noise levels between b/a = {noise[first]:.3g} and {noise[last]:.3g}"
    )
    return f"off by more than {percent} of the score {where}{worst}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share < 10 else f"{share:.0f} times the score"

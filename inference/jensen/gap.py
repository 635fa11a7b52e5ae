r"""The Jensen gap and the error of the likelihood score at the states of one noise level.

For every state ``x_t`` the likelihood ``p(y | x_t)`` and its score are found exactly, by the probabilities of cells, or
by nested sampling, and compared with what every denoising posterior q makes of them:

    log_gap            log p(y | x_t) - log p_q(y | x_t)
    J                  |p(y | x_t) - p_q(y | x_t)|, for Point() the Jensen gap
    norm_ratio         |s_q| / |s|
    cosine             <s_q, s> / (|s_q| |s|)
    relative_error     |s_q - s| / |s|

Where there is no answer the figures are NaN and ``reasons`` says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import IntFlag
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bayes_ir.inference.denoising_posterior import DenoisingPosterior
from bayes_ir.inference.jensen.bound import ingredients, log_bound, log_published_bound
from bayes_ir.inference.jensen.exact import cells_reference, denoising_law, exact_references, has_exact
from bayes_ir.inference.jensen.inner import InnerSampler
from bayes_ir.inference.jensen.nested import Effort, Nested, inner_moments, nested_reference
from bayes_ir.inference.jensen.reference import Estimate, Reference
from bayes_ir.inference.jensen.scores import Approximation, approximate
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Level
from bayes_ir.models.channels import Gaussian

__all__ = ["Figures", "Reason", "check_linear", "gap_at"]

_NOTHING = Estimate(math.nan, math.nan)


_HEAVY = 0.5  # from here on the variance of the weights is infinite


class Reason(IntFlag):
    """Why a figure is missing, or what is to be known of it."""

    FEW_EFFECTIVE_DRAWS = 1  # all figures are NaN
    ERROR_NOT_REACHED = 2  # the wanted error of log p(y | x_t) was not reached: see its error
    SCORE_IN_NOISE = 4  # the Monte Carlo error hides the score: its figures are NaN
    EP_NOT_SETTLED = (
        8  # expectation propagation did not converge for some denoising posterior, whose figures are NaN
    )
    OUT_OF_REACH = 16  # the cells could not be tilted, or x_t is not finite
    HEAVY_TAILS = 32  # the weights of the inner draws have a tail of k > 1/2: errors are too small


class Figures(NamedTuple):
    """The figures of one state, and those of every denoising posterior at it."""

    common: dict[str, float]
    each: list[dict[str, float]]


def check_linear(problem: Problem) -> None:
    """Refuse what the comparison cannot be made for.

    Raises:
        ModelError: for an operator that is not linear, or a plate of images.
    """
    if not problem.operator.linear:
        raise ModelError(
            f"the Jensen gap is compared over denoising posteriors, whose scores need a linear operator, and "
            f"{problem.operator!r} is not linear; linearise it, or compare draws of kernels instead."
        )
    if problem.data_sets:
        raise ModelError(
            f"the Jensen gap is that of one image, and site {problem.site!r} is a plate of "
            f"{problem.data_sets.numel()}; give the model of one of them."
        )


def gap_at(
    problem: Problem,
    denoising_posteriors: Mapping[str, DenoisingPosterior],
    x_t: Tensor,
    level: Level,
    *,
    effort: Effort,
    nested: bool,
    rng: Rng,
    on_state: Callable[[], None] = lambda: None,
) -> list[Figures]:
    """The figures at states of one level.

    Args:
        problem: what is measured, by a linear operator.
        denoising_posteriors: what to compare.
        x_t: states, (B, *event_shape).
        level: their noise level.
        effort: of nested sampling, and of the cells (``inner_draws`` proposals of the heaviest component).
        nested: sample even where the answer is known.
        rng: a generator of the level.
        on_state: called after every state.
    """
    sound = x_t.isfinite().flatten(1).all(1)
    # A state that is not finite is reported as such; nothing may fail for it, nor for its neighbours.
    x_t = torch.where(sound.reshape(-1, *(1,) * (x_t.ndim - 1)), x_t, 0.0)
    found = [approximate(problem, q, x_t, level) for q in denoising_posteriors.values()]
    x0_hat = problem.prior.denoise_at(x_t, level.a, level.b)
    known = ingredients(problem)
    exact = has_exact(problem) and not nested
    law = denoising_law(problem.prior, x_t, level) if exact else None  # type: ignore[arg-type]
    closed = exact_references(problem, law) if law and isinstance(problem.channel, Gaussian) else None
    figures = []
    for i, x in enumerate(x_t):
        own, answer = rng.spawn(240), None
        sampler = InnerSampler(problem.prior, x, level, effort.inner_steps)
        if sound[i] and law is None:
            answer = nested_reference(problem, sampler, x0_hat[i], effort, own)
        elif sound[i]:
            moments = inner_moments(sampler, x0_hat[i], own)
            reference = closed[i] if closed else _cells(problem, law, i, effort, own)
            answer = None if reference is None else Nested(reference, moments.distance, moments.bias)
        common, reason = _common(answer, level, effort)
        each = [_of_posterior(answer, a, i, reason) for a in found]
        if sound[i] and not all(bool(a.settled[i]) for a in found):
            reason |= Reason.EP_NOT_SETTLED
        m_1 = common["m1"]
        common |= {
            "log_bound_published": log_published_bound(known, m_1),
            "log_bound": log_bound(known, m_1),
            "reason": int(reason),
        }
        figures.append(Figures(common, each))
        on_state()
    return figures


def _cells(problem: Problem, law: object, row: int, effort: Effort, rng: Rng) -> Reference | None:
    try:
        return cells_reference(problem, law, row, effort.inner_draws, np.random.default_rng(rng.seed()))  # type: ignore[arg-type]
    except ValueError:
        return None


def _common(answer: Nested | None, level: Level, effort: Effort) -> tuple[dict[str, float], Reason]:
    """The figures of a state, and what is to be said of them."""
    if answer is None:
        reason = Reason.OUT_OF_REACH
        names = ("log_likelihood", "log_likelihood_error", "score_norm", "score_norm_error", "ess", "m1")
        return dict.fromkeys((*names, "m1_error", "inner_bias", "pareto_k"), math.nan) | {
            "inner_draws": 0
        }, reason
    reference, reason = answer.reference, Reason(0)
    log_p, norm = reference.log_likelihood, reference.score_norm(level.a / level.b**2)
    if reference.ess < effort.least_ess:
        reason |= Reason.FEW_EFFECTIVE_DRAWS
        log_p = norm = _NOTHING
    elif not log_p.error <= effort.wanted_error:
        reason |= Reason.ERROR_NOT_REACHED
    if answer.tail > _HEAVY:
        reason |= Reason.HEAVY_TAILS
    # A score less than four errors from nothing has no size or direction to compare with.
    if Reason.FEW_EFFECTIVE_DRAWS not in reason and not norm.error <= 0.25 * norm.value:
        reason |= Reason.SCORE_IN_NOISE
        norm = _NOTHING
    figures = {
        "log_likelihood": log_p.value,
        "log_likelihood_error": log_p.error,
        "score_norm": norm.value,
        "score_norm_error": norm.error,
        "ess": reference.ess,
        "m1": answer.distance.value,
        "m1_error": answer.distance.error,
        "inner_bias": answer.bias,
        "inner_draws": reference.draws,
        "pareto_k": answer.tail,
    }
    return figures, reason


def _of_posterior(answer: Nested | None, found: Approximation, row: int, reason: Reason) -> dict[str, float]:
    """The figures of one denoising posterior at one state."""
    lost = Reason.FEW_EFFECTIVE_DRAWS | Reason.OUT_OF_REACH
    judged = answer is not None and not reason & lost and bool(found.settled[row])
    given = bool(found.settled[row]) and answer is not None
    log_q = float(found.log_likelihood[row]) if given else math.nan
    log_p = answer.reference.log_likelihood if judged and answer else _NOTHING
    figures = {
        "log_likelihood_approximation": log_q,
        "log_gap": log_p.value - log_q,
        "log_gap_error": log_p.error,
        "log_jensen_gap": _log_difference(log_p.value, log_q),
    }
    seen = judged and Reason.SCORE_IN_NOISE not in reason
    shift = found.shift[row].flatten().cpu()
    compared = answer.reference.compare(shift) if seen and answer else None
    for name in ("norm_ratio", "cosine", "relative_error"):
        value, error = getattr(compared, name) if compared else _NOTHING
        figures |= {name: value, f"{name}_error": error}
    return figures


def _log_difference(one: float, two: float) -> float:
    """``log |exp(one) - exp(two)|``."""
    if math.isnan(one) or math.isnan(two):
        return math.nan
    apart = abs(one - two)
    return max(one, two) + math.log(-math.expm1(-apart)) if apart > 0 else -math.inf

r"""Least squares with total variation, by the alternating direction method of multipliers (ADMM).

    min_x |D^-1 (y - A x)|^2 / 2 + w sum_pixels |g|    subject to  g = G x,

G the forward differences of :mod:`bayes_ir.inference.baselines.total_variation`, ``|g|`` over their axes.  With
``A' = D^-1 A``, ``y' = D^-1 y`` and the scaled multiplier u, starting at zero,

    x <- (A'^T A' + rho G^T G)^-1 (A'^T y' + rho G^T (g - u))       by conjugate gradients from the last x
    h <- 1.6 G x - 0.6 g                                             (over-relaxed)
    g <- max(1 - (w / rho) / |h + u|, 0) (h + u)
    u <- u + h - g.

It is done when the primal residual ``|G x - g| / max(|G x|, |g|)`` and the dual one,
``|G^T (g - g_old)| / |G^T u|``, are small.  Every ten iterations rho is doubled if the first is more than three times
the second and halved in the opposite case, u with its inverse.  Nothing but G is shared with FISTA: each checks the
other.

Sources: Boyd et al. 2011, sections 3.1, 3.3 and 3.4; Wohlberg 2017 (arXiv 1704.06209, relative residuals); for total
variation Goldstein and Osher 2009 (split Bregman).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayes_ir.inference.baselines.least_squares import LeastSquares, expect_positive, warn_unless_settled
from bayes_ir.inference.baselines.total_variation import differences, differences_adjoint, expect_image
from bayes_ir.inference.problem import Problem
from bayes_ir.models.operators.conjugate_gradients import conjugate_gradients

__all__ = ["admm_tv"]


def admm_tv(
    problem: Problem,
    weight: float,
    *,
    rho: float | None = None,
    iterations: int = 1000,
    tolerance: float = 1e-5,
) -> Tensor:
    """``argmin_x |D^-1 (y - A x)|^2 / 2 + weight TV(x)``.  A point estimate, not a posterior draw.

    Args:
        problem: a linear operator and a Gaussian channel, any prior; images (C, H, W) or signals (N,).
        weight: ``w > 0``, per unit of the image.
        rho: penalty at the start, per squared unit of the image; by default ``10 weight`` over the standard deviation
            of the prior's images.
        iterations: cap on the iterations.
        tolerance: both residuals at which it is done.

    Returns:
        Image, (*event_shape).

    Raises:
        ModelError: for another problem.
        ValueError: for settings that are not positive.

    Warns:
        RuntimeWarning: when the cap is reached first.

    Source: Boyd et al. 2011.
    """
    misfit = LeastSquares(problem, "admm_tv")
    expect_image(problem, "admm_tv")
    rho = 10 * weight / misfit.typical_size if rho is None else rho
    expect_positive("admm_tv", weight=weight, rho=rho, iterations=iterations, tolerance=tolerance)
    x = torch.zeros_like(misfit.pulled_y)
    g = u = differences(x)
    change = math.inf
    for iteration in range(1, iterations + 1):
        x = _quadratic(misfit, differences_adjoint(g - u), rho, x)
        moved = differences(x)
        h = 1.6 * moved - 0.6 * g + u
        old, g = g, (1 - weight / rho / torch.linalg.vector_norm(h, dim=0)).nan_to_num().clamp(min=0) * h
        u = h - g
        primal = _ratio(moved - g, moved, g)
        dual = _ratio(differences_adjoint(g - old), differences_adjoint(u))
        change = max(primal, dual)
        if change <= tolerance:
            return misfit.finished(x)
        if iteration % 10 == 0:
            factor = 2.0 if primal > 3 * dual else 0.5 if dual > 3 * primal else 1.0
            rho, u = rho * factor, u / factor
    warn_unless_settled("admm_tv", change, tolerance, iterations)
    return misfit.finished(x)


def _quadratic(misfit: LeastSquares, pulled: Tensor, rho: float, start: Tensor) -> Tensor:
    """``(A'^T A' + rho G^T G)^-1 (A'^T y' + rho pulled)``."""

    def system(x: Tensor) -> Tensor:
        return misfit.operator.adjoint(misfit.operator.forward(x)) + rho * differences_adjoint(differences(x))

    found = conjugate_gradients(
        system, misfit.pulled_y + rho * pulled, start.ndim, start=start, tolerance=1e-9, max_iterations=200
    )
    return found.solution


def _ratio(part: Tensor, *wholes: Tensor) -> float:
    """``|part|`` relative to the largest of the wholes, zero where nothing is left."""
    size = float(torch.linalg.vector_norm(part))
    return size / max(float(torch.linalg.vector_norm(whole)) for whole in wholes) if size > 0 else 0.0

r"""Least squares with total variation, by the alternating direction method of multipliers (ADMM).

    min_x |D^-1 (y - A x)|^2 / 2 + w sum_pixels |g|    subject to  g = G x,

G the forward differences of :mod:`bayes_ir.inference.baselines.total_variation`, ``|g|`` over their axes.  With
``A' = D^-1 A``, ``y' = D^-1 y`` and the scaled multiplier u, starting at zero,

    x <- (A'^T A' + rho G^T G)^-1 (A'^T y' + rho G^T (g - u))       by conjugate gradients from the last x
    g <- max(1 - (w / rho) / |G x + u|, 0) (G x + u)
    u <- u + G x - g.

rho doubles where the primal residual ``|G x - g|`` is more than ten times the dual one, ``rho |G^T (g - g_old)|``, and
is halved in the opposite case, u with its inverse.  Nothing is shared with FISTA but G: each checks the other.

Source: Boyd et al. 2011, sections 3.1, 3.3 (residuals) and 3.4.1 (rho); for total variation Goldstein and Osher 2009
(split Bregman).
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
        tolerance: primal residual relative to ``|G x|`` and dual one relative to ``rho |G^T u|`` at which it is done.

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
    for _ in range(iterations):
        x = _quadratic(misfit, differences_adjoint(g - u), rho, x)
        moved = differences(x)
        length = torch.linalg.vector_norm(moved + u, dim=0)
        old, g = g, (1 - weight / rho / length).nan_to_num().clamp(min=0) * (moved + u)
        u = u + moved - g
        primal, dual = _norm(moved - g), rho * _norm(differences_adjoint(g - old))
        change = max(
            _ratio(primal, max(_norm(moved), _norm(g))), _ratio(dual, rho * _norm(differences_adjoint(u)))
        )
        if change <= tolerance:
            return misfit.finished(x)
        factor = 2.0 if primal > 10 * dual else 0.5 if dual > 10 * primal else 1.0
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


def _norm(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x))


def _ratio(part: float, whole: float) -> float:
    return part / whole if part > 0 else 0.0

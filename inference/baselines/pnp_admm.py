r"""Plug-and-play ADMM: the alternating direction method with a denoiser for the proximal operator of the prior.

For ``min_x f(x) + w phi(x)``, f the misfit and phi minus the log prior, up to a constant, ADMM alternates

    x <- argmin_x f(x) + rho/2 |x - (v - u)|^2          a solve with A'^T A' + rho I
    v <- D_s(x + u),    s = sqrt(w / rho)                in place of argmin_v w phi(v) + rho/2 |v - (x + u)|^2
    u <- u + x - v.

The proximal operator is a maximum a posteriori denoiser of white noise of standard deviation s; D_s is the prior's
denoised mean at that noise.  The two agree for a Gaussian prior, where the fixed point at ``w = 1`` is the posterior
mean whatever rho; otherwise the fixed point depends on rho and minimises nothing known in general.  With ``growth`` the
penalty rises, ``rho <- growth rho``, so that the iteration settles for every bounded denoiser, wherever it then is; s
stops at the lowest noise of the denoiser.

Sources: Venkatakrishnan, Bouman and Wohlberg 2013; Chan, Wang and Elgendy 2017 (arXiv 1605.01710), algorithm 1.
"""

from __future__ import annotations

import math

from torch import Tensor

from bayes_ir.inference.baselines.denoising import LevelDenoiser
from bayes_ir.inference.baselines.least_squares import (
    LeastSquares,
    expect_positive,
    relative_change,
    warn_unless_settled,
)
from bayes_ir.inference.problem import Problem

__all__ = ["pnp_admm"]


def pnp_admm(
    problem: Problem,
    *,
    weight: float = 1.0,
    rho: float | None = None,
    growth: float = 1.0,
    iterations: int = 200,
    tolerance: float = 1e-4,
) -> Tensor:
    """The fixed point of the three steps above.  A point estimate, not a posterior draw.

    Args:
        problem: a linear operator and a Gaussian channel, any prior.
        weight: ``w > 0`` of the prior.
        rho: penalty, per squared unit of the image; by default the denoiser sees a quarter of the standard deviation of
            the prior's images.
        growth: factor of rho from one iteration to the next, at least 1.
        iterations: cap on the iterations, of one network evaluation each.
        tolerance: sum of the relative changes of x, v and u, the last one relative to x, at which it is done.

    Returns:
        Image x, (*event_shape).

    Raises:
        ModelError: for another problem.
        ValueError: for settings out of range, or a noise level that the denoiser does not serve.

    Warns:
        RuntimeWarning: when the cap is reached first.

    Source: Venkatakrishnan et al. 2013; Chan et al. 2017.
    """
    misfit = LeastSquares(problem, "pnp_admm")
    rho = weight * (4 / misfit.typical_size) ** 2 if rho is None else rho
    expect_positive("pnp_admm", weight=weight, rho=rho, iterations=iterations, tolerance=tolerance)
    if not 1 <= growth < math.inf:
        raise ValueError(f"pnp_admm: expected growth >= 1, got {growth}.")
    denoised = LevelDenoiser(problem.prior, "pnp_admm")
    denoised.check(**{"sqrt(weight / rho)": math.sqrt(weight / rho)})
    lowest = problem.prior.noise_range[0]
    v = problem.prior.mean.to(misfit.y)
    x, u = v, v - v
    change = math.inf
    for _ in range(iterations):
        before = (x, v, u)
        x = misfit.proximal(v - u, rho)
        v = denoised(x + u, max(math.sqrt(weight / rho), lowest))
        u = u + x - v
        change = relative_change(x, before[0]) + relative_change(v, before[1]) + _against(u - before[2], x)
        if change <= tolerance:
            return misfit.finished(x)
        rho = rho * growth
    warn_unless_settled("pnp_admm", change, tolerance, iterations)
    return misfit.finished(x)


def _against(part: Tensor, whole: Tensor) -> float:
    return relative_change(whole, whole - part)

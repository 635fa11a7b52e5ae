r"""Least squares with total variation, by the fast iterative shrinkage-thresholding algorithm (FISTA).

    min_x F(x),    F(x) = |D^-1 (y - A x)|^2 / 2 + w TV(x),    TV(x) = sum_pixels sqrt(sum_axes (difference)^2)

with forward differences G x, zero beyond the edge, for every channel by itself (isotropic).  With L the largest
eigenvalue of the misfit's Hessian, v the extrapolated point and ``theta = 1`` at the start,

    x'     = prox_{w/L TV}(v - grad f(v) / L)
    theta' = (1 + sqrt(1 + 4 theta^2)) / 2,    v' = x' + (theta - 1) / theta' (x' - x).

Where the objective rises, theta starts at 1 again.  The proximal operator, ``min_u |u - c|^2 / 2 + k TV(u)``, is solved
in its dual, ``u = c - k G^T p`` with ``|p| <= 1`` at every pixel, by the same accelerated scheme (fast gradient
projection), from the p of the last iteration and until the duality gap

    gap = k sum_pixels (|G u| - p . G u) >= |u - u*|^2 / 2

says that u is ten times as close as the outer iteration moves.  (``skimage.restoration.denoise_tv_chambolle`` solves
the same problem from the start every time; where k is all of an image's contrast it is 1e-2 off after 1000 iterations.)

Sources: Rudin, Osher and Fatemi 1992 (total variation); Beck and Teboulle 2009, SIAM J. Imaging Sci. 2 (FISTA) and IEEE
Trans. Image Process. 18 (fast gradient projection); O'Donoghue and Candes 2015 (restart).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bayes_ir.inference.baselines.least_squares import (
    LeastSquares,
    expect_positive,
    relative_change,
    warn_unless_settled,
)
from bayes_ir.inference.problem import ModelError, Problem

__all__ = ["differences", "differences_adjoint", "expect_image", "total_variation", "variation"]


def total_variation(
    problem: Problem, weight: float, *, iterations: int = 500, tolerance: float = 1e-5, inner: int = 1000
) -> Tensor:
    """``argmin_x |D^-1 (y - A x)|^2 / 2 + weight TV(x)``.  A point estimate, not a posterior draw.

    Args:
        problem: a linear operator and a Gaussian channel, any prior; images (C, H, W) or signals (N,).
        weight: ``w > 0``, per unit of the image.
        iterations: cap on the iterations.
        tolerance: relative length ``|x' - v| / |x'|`` of a proximal gradient step at which it is done.
        inner: cap on the iterations of a proximal operator.

    Returns:
        Image, (*event_shape).

    Raises:
        ModelError: for another problem.
        ValueError: for settings that are not positive.

    Warns:
        RuntimeWarning: when the cap is reached first.

    Source: Beck and Teboulle 2009.
    """
    expect_positive("total_variation", weight=weight, iterations=iterations, tolerance=tolerance, inner=inner)
    misfit = LeastSquares(problem, "total_variation")
    expect_image(problem, "total_variation")
    curvature = misfit.largest_curvature
    x = v = torch.zeros_like(misfit.pulled_y)
    p = differences(x)
    theta, objective, change = 1.0, math.inf, 1.0
    for _ in range(iterations):
        accuracy = 0.1 * min(max(change, tolerance), 1.0)
        new, p = _proximal(v - misfit.gradient(v) / curvature, weight / curvature, p, accuracy, inner)
        change = relative_change(new, v)
        if change <= tolerance and accuracy <= tolerance:
            return misfit.finished(new)
        previous, objective = objective, misfit.value(new) + weight * variation(new)
        theta = theta if objective <= previous else 1.0
        larger = 0.5 * (1 + math.sqrt(1 + 4 * theta**2))
        v = new + (theta - 1) / larger * (new - x)
        x, theta = new, larger
    warn_unless_settled("total_variation", change, tolerance, iterations)
    return misfit.finished(x)


def expect_image(problem: Problem, baseline: str) -> None:
    """Refuse events that are neither images (C, H, W) nor signals (N,).

    Raises:
        ModelError: saying which shape came.
    """
    shape = tuple(problem.prior.event_shape)
    if len(shape) not in (1, 3):
        raise ModelError(
            f"{baseline} needs images (C, H, W) or signals (N,), whose neighbours are known, and the prior's "
            f"event_shape is {shape}; give the prior an event_shape of three dimensions."
        )


def differences(x: Tensor) -> Tensor:
    """Forward differences of an image (C, H, W) or a signal (N,) along its axes: (axes, *shape), zero at the end."""
    axes = range(1, 3) if x.ndim == 3 else range(1)
    ends = [x.narrow(axis, x.shape[axis] - 1, 1) for axis in axes]
    return torch.stack([x.diff(dim=axis, append=end) for axis, end in zip(axes, ends, strict=True)])


def differences_adjoint(g: Tensor) -> Tensor:
    """The transpose of :func:`differences`, minus the divergence: (axes, *shape) to (*shape)."""
    first = g.ndim - 1 - len(g)
    x = torch.zeros_like(g[0])
    for k, part in enumerate(g):
        axis = first + k
        inside = part.narrow(axis, 0, part.shape[axis] - 1)
        x.narrow(axis, 0, part.shape[axis] - 1).sub_(inside)
        x.narrow(axis, 1, part.shape[axis] - 1).add_(inside)
    return x


def variation(x: Tensor) -> float:
    """``TV(x)``."""
    return float(torch.linalg.vector_norm(differences(x), dim=0).sum())


def _proximal(c: Tensor, k: float, p: Tensor, accuracy: float, iterations: int) -> tuple[Tensor, Tensor]:
    """``argmin_u |u - c|^2 / 2 + k TV(u)`` from the dual p, to a relative accuracy; u and its dual."""
    step = 1 / (4 * len(p) * k)  # |G|^2 <= 4 axes
    q, theta = p, 1.0
    for iteration in range(iterations):
        new = q + step * differences(c - k * differences_adjoint(q))
        new = new / torch.linalg.vector_norm(new, dim=0).clamp(min=1)
        larger = 0.5 * (1 + math.sqrt(1 + 4 * theta**2))
        q = new + (theta - 1) / larger * (new - p)
        p, theta = new, larger
        if iteration % 10 == 9:
            u = c - k * differences_adjoint(p)
            g = differences(u)
            gap = k * float((torch.linalg.vector_norm(g, dim=0) - (p * g).sum(0)).sum())
            if 2 * gap <= accuracy**2 * float(u.square().sum()):
                break
    return c - k * differences_adjoint(p), p

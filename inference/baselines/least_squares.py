r"""What every baseline knows of the data: the misfit of a linear Gaussian model, its gradient, its proximal step.

    f(x) = |D^-1 (y - A x)|^2 / 2,    grad f(x) = -A'^T (y' - A' x),    A' = D^-1 A,  y' = D^-1 y,
    argmin_x f(x) + rho/2 |x - c|^2 = c + A'^T (A' A'^T + rho I)^-1 (y' - A' c),

D the standard deviations of the noise, sigma where it is the same everywhere.  All in float64.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.models.channels import Gaussian
from bayes_ir.models.operators import LinearOperator

__all__ = ["LeastSquares", "expect_positive", "relative_change", "warn_unless_settled"]


class LeastSquares:
    """``f(x) = |D^-1 (y - A x)|^2 / 2`` for one image.

    Args:
        problem: a linear operator and a Gaussian channel, any prior.
        baseline: name of the function that asks, for messages.

    Attributes:
        operator: ``A'``, float64.
        y: ``y'``, float64, shaped as a measurement.
        pulled_y: ``A'^T y'``, shaped as an image.

    Raises:
        ModelError: for an operator that is not linear, or another channel.
    """

    def __init__(self, problem: Problem, baseline: str) -> None:
        if not isinstance(problem.operator, LinearOperator):
            raise ModelError(
                f"{baseline} needs a linear operator, and {problem.operator!r} is not linear; baselines serve linear "
                "operators only, use DPS() for draws under any differentiable one."
            )
        if not isinstance(problem.channel, Gaussian):
            raise ModelError(
                f"{baseline} needs a Gaussian channel; site {problem.observed_site!r} has "
                f"{type(problem.channel).__name__}. Use GuidedDiffusion(), which serves every channel."
            )
        self.problem = problem
        self.operator = problem.system.whitened
        self.y = (problem.system.y / problem.system.noise).reshape(problem.operator.measurement_shape)
        self.pulled_y = self.operator.adjoint(self.y)

    def value(self, x: Tensor) -> float:
        """``f(x)``."""
        return 0.5 * float((self.y - self.operator.forward(x)).square().sum())

    def gradient(self, x: Tensor) -> Tensor:
        """``A'^T A' x - A'^T y'``."""
        return self.operator.adjoint(self.operator.forward(x)) - self.pulled_y

    @property
    def largest_curvature(self) -> float:
        """Largest eigenvalue of ``A'^T A'``, or a little more."""
        return self.problem.system.largest_eigenvalue

    def proximal(self, c: Tensor, rho: float) -> Tensor:
        """``argmin_x f(x) + rho/2 |x - c|^2``, by decomposition or by conjugate gradients."""
        residual = self.y - self.operator.forward(c)
        return c + self.operator.adjoint(self.operator.solve(residual, 1.0, rho))

    def finished(self, x: Tensor) -> Tensor:
        """An image of the problem's own type."""
        return x.to(self.problem.dtype)

    @property
    def typical_size(self) -> float:
        """Standard deviation of the prior's images, root mean square over their entries."""
        return math.sqrt(float(self.problem.prior.variance.double().mean()))


def expect_positive(baseline: str, **settings: float) -> None:
    """Refuse settings that are not positive and finite.

    Raises:
        ValueError: naming the first.
    """
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{baseline}: expected {name} > 0, got {value}.")


def warn_unless_settled(baseline: str, change: float, tolerance: float, iterations: int) -> None:
    """Say that an iteration has ended early, and by how much."""
    if not change <= tolerance:
        warnings.warn(
            f"{baseline}: after {iterations} iterations the relative change is {change:.1e}, not below "
            f"tolerance={tolerance:.1e}; raise `iterations` or accept the image as it is.",
            RuntimeWarning,
            stacklevel=3,
        )


def relative_change(new: Tensor, old: Tensor) -> float:
    """``|new - old| / |new|``, zero where nothing moves."""
    moved = float(torch.linalg.vector_norm(new - old))
    return moved / float(torch.linalg.vector_norm(new)) if moved > 0 else 0.0

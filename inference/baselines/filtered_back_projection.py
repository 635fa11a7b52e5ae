r"""Filtered back-projection, what a scanner shows: see :mod:`bayes_ir.models.operators.filtered_back_projection`."""

from __future__ import annotations

from torch import Tensor

from bayes_ir.inference.baselines.least_squares import LeastSquares
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.models.operators import Radon

__all__ = ["filtered_back_projection"]


def filtered_back_projection(problem: Problem, *, filter: str | None = "ramp") -> Tensor:
    """``x(p) = pi / (2 A) sum_a (h * y_a)(s)`` for tomography.  A point estimate, not a posterior draw.

    Args:
        problem: the operator Radon and a Gaussian channel, any prior.
        filter: window on the ramp filter, see :meth:`bayes_ir.models.Radon.fbp`.

    Returns:
        Image, (*event_shape).

    Raises:
        ModelError: for another problem.
        ValueError: for an unknown filter.

    Source: Kak and Slaney 1988, chapter 3.
    """
    LeastSquares(problem, "filtered_back_projection")
    if not isinstance(problem.operator, Radon):
        raise ModelError(
            f"filtered_back_projection needs the operator Radon, and this model has {problem.operator!r}; use "
            "pseudo_inverse(problem) or total_variation(problem, weight=...)."
        )
    return problem.operator.fbp(problem.y, filter)

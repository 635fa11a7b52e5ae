r"""The pseudo-inverse: the least-squares solution of least norm.

    x = A^+ y = V diag(1/s) U^T y,    A = U diag(s) V^T.

No prior, no noise level: noise along U is amplified by 1/s, and what A does not see is zero.  Source: Moore 1920;
Penrose 1955.
"""

from __future__ import annotations

from torch import Tensor

from bayes_ir.inference.baselines.least_squares import LeastSquares
from bayes_ir.inference.problem import Problem
from bayes_ir.models.operators import LinearOperator

__all__ = ["pseudo_inverse"]


def pseudo_inverse(problem: Problem, *, rcond: float = 0.0) -> Tensor:
    """``A^+ y``.  A point estimate, not a posterior draw.

    Args:
        problem: a linear operator and a Gaussian channel, any prior.
        rcond: singular values up to ``rcond`` times the largest count as zero (truncated decomposition).

    Returns:
        Image, (*event_shape).

    Raises:
        ModelError: for another problem.
        ValueError: unless ``0 <= rcond < 1``, or for a positive one without a decomposition.

    Source: Penrose 1955; truncation e.g. Hansen 1987.
    """
    LeastSquares(problem, "pseudo_inverse")
    operator = problem.operator
    assert isinstance(operator, LinearOperator)  # see LeastSquares
    return operator.pinv(problem.y, rcond)

r"""Evidence ``log p(y)`` and posterior weights of the components of a mixture prior.

With ``p_k = w_k p(y | k)``, ``p(y) = sum_k p_k`` and ``w_k(y) = p_k / p(y)``.  A Gaussian channel knows every p_k in
closed form.  Of cells, minimax tilting estimates them independently of each other, without bias and with relative
errors e_k, which to first order makes the standard errors

    of log p(y):    sqrt(sum_k w_k(y)^2 e_k^2)
    of w_k(y):      w_k(y) sqrt((1 - 2 w_k(y)) e_k^2 + sum_j w_j(y)^2 e_j^2).

Source: the delta method; probabilities of boxes, Botev 2017 (arXiv 1603.04166), section 2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bayes_ir.inference.exact.box_channels import box_posterior
from bayes_ir.inference.exact.linear_gaussian import exact_posterior
from bayes_ir.inference.problem import Problem
from bayes_ir.models.channels import OneBit, Quantized

__all__ = ["Evidence", "Weights", "component_weights", "log_evidence"]


class Evidence(NamedTuple):
    """``log p(y)`` in nats, and its standard error."""

    value: float
    standard_error: float


class Weights(NamedTuple):
    """Posterior weights of the components of the prior, (K,), and their standard errors, (K,)."""

    value: Tensor
    standard_error: Tensor


def log_evidence(problem: Problem, *, samples: int = 20_000, seed: int = 0) -> Evidence:
    """``log p(y)`` and its standard error, which is zero for a Gaussian channel.

    Args:
        problem: one that ``Exact()`` serves with its default settings.
        samples: proposals per component, for cells.
        seed: seed of the proposals.

    Raises:
        ModelError: for any other problem.

    Example:
        >>> import pyro, torch
        >>> from bayes_ir.inference import read_problem
        >>> from bayes_ir.models import GaussianPrior, Identity, OneBit
        >>> prior = GaussianPrior(torch.zeros(3), torch.eye(3))
        >>> A = Identity(prior.event_shape)
        >>> def model():
        ...     pyro.sample("y", OneBit(A(pyro.sample("x", prior)), noise_std=0.1))
        >>> value, error = log_evidence(read_problem(model, {"y": torch.ones(3)}))
        >>> round(value, 4), round(error, 4)  # 3 log(1 / 2)
        (-2.0794, 0.0)
    """
    log_joint, error = _log_joint(problem, samples, seed)
    weights = log_joint.softmax(0)
    return Evidence(float(log_joint.logsumexp(0)), float((weights * error).square().sum().sqrt()))


def component_weights(problem: Problem, *, samples: int = 20_000, seed: int = 0) -> Weights:
    """Posterior weights ``P(k | y)`` of the components of the prior; the arguments are those of :func:`log_evidence`.

    Components whose weight is bounded by e^-40 of the largest count as zero.

    Raises:
        ModelError: for a problem that ``Exact()`` does not serve with its default settings.
    """
    log_joint, error = _log_joint(problem, samples, seed)
    weights = log_joint.softmax(0)
    spread = (1 - 2 * weights) * error.square() + (weights * error).square().sum()
    return Weights(weights, weights * spread.clamp(min=0).sqrt())


def _log_joint(problem: Problem, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """``log w_k p(y | k)`` and relative errors, (K,) each."""
    if isinstance(problem.channel, (OneBit, Quantized)):
        return box_posterior(problem).log_weights(samples, np.random.default_rng(seed))
    posterior, value = exact_posterior(problem)
    log_joint = value + posterior.log_weights
    return log_joint, torch.zeros_like(log_joint)

r"""The posterior of a Gaussian-mixture prior under linear Gaussian measurements, in closed form.

With ``x ~ sum_k w_k N(mu_k, C_k)``, ``y = A x + n``, ``n ~ N(0, D^2)`` and ``S_k = A C_k A^T + D^2``,

    p(x | y) = sum_k w_k(y) N(mu_k + G_k (y - A mu_k), C_k - G_k A C_k),    G_k = C_k A^T S_k^-1
    w_k(y)   proportional to  w_k N(y; A mu_k, S_k),    p(y) = sum_k w_k N(y; A mu_k, S_k).

Source: textbook conditioning of Gaussians; for mixtures e.g. Cardoso et al. 2023, appendix B.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.models.channels import Gaussian
from bayes_ir.models.operators import LinearOperator
from bayes_ir.models.priors.gaussian_mixture import GaussianMixture, GaussianMixturePrior

__all__ = ["exact_posterior"]


@lru_cache(maxsize=1)
def exact_posterior(problem: Problem) -> tuple[GaussianMixture, Tensor]:
    """The exact posterior as a distribution, and the log evidence ``log p(y)``.

    Args:
        problem: Gaussian or Gaussian-mixture prior, linear A, Gaussian channel.

    Raises:
        ModelError: for any other prior or channel.
    """
    if not isinstance(problem.prior, GaussianMixturePrior) or not isinstance(problem.channel, Gaussian):
        raise ModelError(
            "the exact posterior needs a GaussianPrior or GaussianMixturePrior and a Gaussian channel; this model has "
            f"{type(problem.prior).__name__} and {type(problem.channel).__name__}. "
            "Use QCSSGMPlus(), which serves every prior and channel."
        )
    if not isinstance(problem.operator, LinearOperator):
        raise ModelError(
            f"the exact posterior needs a linear operator, and {problem.operator!r} is not linear. Use DPS()."
        )
    prior = problem.prior.components
    system = problem.system
    a = problem.operator.to(dtype=torch.float64).to_matrix() / system.noise[:, None]  # D^-1 A, (M, N)
    innovation = system.y / system.noise - prior.means @ a.T  # (K, M)
    covariance = (prior.basis * prior.variances[:, None, :]) @ prior.basis.mT
    cross = covariance @ a.T  # (K, N, M)
    lower = torch.linalg.cholesky(a @ cross + torch.eye(len(a), dtype=a.dtype, device=a.device))
    gain = torch.cholesky_solve(cross.mT, lower).mT
    means = prior.means + (gain @ innovation[..., None])[..., 0]
    variances, basis = torch.linalg.eigh(covariance - gain @ cross.mT)
    white = torch.linalg.solve_triangular(lower, innovation[..., None], upper=False)[..., 0]
    log_normal = -0.5 * (white**2 + math.log(2 * math.pi)).sum(-1) - lower.diagonal(
        dim1=-2, dim2=-1
    ).log().sum(-1)
    log_joint = prior.log_weights + log_normal - system.noise.log().sum()
    posterior = GaussianMixture(
        log_joint, means, basis, variances.clamp(min=0), problem.prior.event_shape, problem.dtype
    )
    return posterior, log_joint.logsumexp(-1)

r"""What a denoising posterior makes of the likelihood of ``x_t`` and of its score.

With ``N(mu, V)`` for ``p(x_0 | x_t)``, ``m = A mu`` and ``K = A V A^T``,

    log p_q(y | x_t)                   = log int p(y | z) N(z; m, K) dz
    (b^2 / a) grad log p_q(y | x_t)    = K_gain r,    r = d/dm of the same,

exactly for a Gaussian channel, by expectation propagation for others.  ``Point`` has K = 0 and puts
``log p(y | x0_hat)``, the right side of Jensen's inequality.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.covariances import ScalarCovariance
from bayes_ir.inference.denoising_posterior import DenoisingPosterior
from bayes_ir.inference.expectation_propagation import expectation_propagation, log_evidence
from bayes_ir.inference.predictive import predictive
from bayes_ir.inference.predictive_laws import Spectral
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.samplers import Level
from bayes_ir.models.channels import Gaussian
from bayes_ir.models.priors.mixture_law import LOG_2PI

__all__ = ["Approximation", "approximate"]

_FEW = 100  # measurements whose sites have variances of their own
_TOLERANCE, _SWEEPS = 1e-6, 100


class Approximation(NamedTuple):
    """``log p_q(y | x_t)``, (B,), and ``(b^2 / a)`` times its gradient as the method has it, (B, *event_shape)."""

    log_likelihood: Tensor
    shift: Tensor
    settled: Tensor  # (B,), whether expectation propagation converged


@torch.no_grad()
def approximate(
    problem: Problem, denoising_posterior: DenoisingPosterior, x_t: Tensor, level: Level
) -> Approximation:
    """The likelihood and its score under a denoising posterior, at states x_t (B, *event_shape).

    Raises:
        ModelError: where ``A V A^T`` is too large to decompose.
        ValueError: for a calibration that the prior does not have.
    """
    belief = denoising_posterior.at(problem.prior, x_t, level)
    system, v, mu = problem.system, belief.covariance, belief.mean
    settled = torch.ones(len(x_t), dtype=torch.bool, device=x_t.device)
    if isinstance(v, ScalarCovariance) and v.variance == 0:
        tilted = system.tilt(system.mean(mu), 0.0)
        pulled = system.adjoint(tilted.slope, mu.dtype)
        return Approximation(tilted.log_normaliser.sum(1), belief.gain(pulled), settled)
    law = predictive(system, v, mu, spectral=True)
    assert isinstance(law, Spectral)
    if isinstance(system.channel, Gaussian):
        residual = system.residual(mu)
        inside = law.left_adjoint(residual)
        slope = inside / (1 + law.kappa)
        log_likelihood = _log_normal(residual - law.left(inside), inside, law.kappa, system.noise)
    else:
        mean = system.mean(mu)
        found = expectation_propagation(
            law, mean, per_site=law.measurements <= _FEW, tolerance=_TOLERANCE, max_sweeps=_SWEEPS
        )
        slope, settled = found.range_slope, found.residual < 1e-3
        log_likelihood = log_evidence(law, mean, found.sites)
    return Approximation(log_likelihood, belief.gain(law.pull(slope, mu.dtype)), settled)


def _log_normal(outside: Tensor, inside: Tensor, kappa: Tensor, noise: Tensor) -> Tensor:
    """``log N(y; m, D (I + K) D)``, the residual over the noise being split by U and its complement, (B,)."""
    squares = outside.square().sum(1) + (inside.square() / (1 + kappa)).sum(1)
    log_det = torch.log1p(kappa).sum(-1) + 2 * noise.log().sum()
    return -0.5 * (squares + log_det + outside.shape[1] * LOG_2PI)

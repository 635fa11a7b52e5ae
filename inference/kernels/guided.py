r"""Guided diffusion: a conditioned denoiser driven by an unconditional sampler.

Every step evaluates the network once and changes its answer,

    mu, v          from the denoising posterior at (x_t, x0_hat)
    A^T r          from the measurement rule at mu, v
    x0_hat(x_t, y) = x0_hat + v A^T r,

then lets the sampler move as if ``x0_hat(x_t, y)`` were the denoised mean.  A published kernel is a
choice of denoising posterior, measurement rule, sampler and forward process.
"""

from __future__ import annotations

from abc import abstractmethod

import torch

from bayes_ir.inference.denoising_posterior import DenoisingPosterior, Flat
from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.path import PathKernel, PathState
from bayes_ir.inference.measurement_score import MeasurementScore
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng

__all__ = ["GuidedKernel"]


class GuidedKernel(PathKernel):
    """Kernel made of a denoising posterior, a measurement rule, a sampler and a forward process.

    Attributes:
        scale: weight of the measurement score; 1 is Bayes.
    """

    scale: float = 1.0

    @property
    def denoising_posterior(self) -> DenoisingPosterior:
        """Gaussian stand-in for ``p(x_0 | x_t)``."""
        return Flat()

    @property
    @abstractmethod
    def measurement_score(self) -> MeasurementScore:
        """Rule for ``A^T r``."""

    def check(self, problem: Problem) -> None:
        if not problem.operator.linear:
            raise ModelError(
                f"{type(self).__name__} needs a linear operator, and {problem.operator!r} is not linear; use DPS(), "
                "which serves nonlinear operators, or DenseOperator with its Jacobian as a linearisation."
            )
        self.measurement_score.check(problem, type(self).__name__)

    def step(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        now, then = state.levels
        prior, posterior = self._prior(problem), self.denoising_posterior
        with torch.set_grad_enabled(posterior.jacobian):
            x_t = state.x.detach().requires_grad_(posterior.jacobian)
            x0_hat = prior.denoise(x_t, now.t)
        v = posterior.variance(prior, now.a, now.b)
        mu = posterior.mean(x_t.detach(), x0_hat.detach(), now.a, now.b)
        pulled_slope, memory, info = self.measurement_score(problem.system, mu, v, state.memory)
        if posterior.jacobian:
            (pulled,) = torch.autograd.grad(x0_hat, x_t, pulled_slope)
            change = now.b**2 / now.a * pulled
        else:
            change = v * pulled_slope
        x_t, x0_hat_y = x_t.detach(), x0_hat.detach() + self.scale * change
        # In x_t the measurement rule's curvature is a^-2 times that in mu = x_t / a.
        curvature = self.scale * self.measurement_score.largest_curvature(problem.system, v) / now.a**2
        x = self.sampler.move(x_t, x0_hat_y, now, then, curvature, rng)
        info["nfe"] = torch.ones(len(x), dtype=torch.int64)
        return state.moved(x, memory), info

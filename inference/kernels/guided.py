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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bayes_ir.inference.denoising_posterior import DenoisingPosterior, Flat
from bayes_ir.inference.kernels.base import Info, Kernel
from bayes_ir.inference.measurement_score import MeasurementScore
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Level, Sampler
from bayes_ir.models.diffusion import Diffusion, VarianceExploding
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["GuidedKernel", "GuidedState"]


@dataclass(frozen=True)
class GuidedState:
    """Images at the next level, and what the measurement rule may start from."""

    x: Tensor  # (B, *event_shape)
    memory: Any
    schedule: list[Level]
    k: int = 0

    @property
    def done(self) -> bool:
        return self.k == len(self.schedule) - 1


class GuidedKernel(Kernel[GuidedState]):
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

    @property
    @abstractmethod
    def sampler(self) -> Sampler:
        """How the conditioned denoiser becomes a path."""

    def process(self, prior: DiffusionPrior) -> Diffusion:
        """Forward process the sampler walks back along; by default variance exploding."""
        return VarianceExploding(*prior.noise_range)

    def check(self, problem: Problem) -> None:
        self.measurement_score.check(problem, type(self).__name__)

    def length(self, problem: Problem) -> int:
        return len(self.sampler.times(self._prior(problem)))

    def init(self, problem: Problem, rng: Rng) -> GuidedState:
        prior = self._prior(problem)
        schedule = self.sampler.schedule(prior)
        return GuidedState(self.sampler.start(prior, schedule[0], rng), None, schedule)

    def step(self, problem: Problem, state: GuidedState, rng: Rng) -> tuple[GuidedState, Info]:
        now, then = state.schedule[state.k : state.k + 2]
        x_t = state.x
        x0_hat = self._prior(problem).denoise(x_t, now.t)
        mu = self.denoising_posterior.mean(x_t, x0_hat, now.a, now.b)
        v = self.denoising_posterior.variance(now.a, now.b)
        slope, memory, info = self.measurement_score(problem.system, mu, v, state.memory)
        x0_hat_y = x0_hat + self.scale * v * slope
        # In x_t the measurement rule's curvature is a^-2 times that in mu = x_t / a.
        curvature = self.scale * self.measurement_score.largest_curvature(problem.system, v) / now.a**2
        x = self.sampler.move(x_t, x0_hat_y, now, then, curvature, rng)
        info["nfe"] = torch.ones(len(x), dtype=torch.int64)
        return GuidedState(x, memory, state.schedule, state.k + 1), info

    def _prior(self, problem: Problem) -> DiffusionPrior:
        return problem.prior.with_diffusion(self.process(problem.prior))

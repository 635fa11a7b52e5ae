"""Samplers: how a denoiser becomes a path from noise to an image.

A sampler owns the times at which the network is evaluated and the move from one to the next, written
in terms of the (conditioned) denoised mean.  It knows nothing of measurements.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from bayes_ir.inference.rng import Rng
from bayes_ir.models.diffusion import DDPM, Diffusion, Scalar, noise_from_denoised
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["Level", "Sampler", "Visit", "root"]


class Level(NamedTuple):
    """One time of a schedule: ``x_t = a x_0 + b eps``."""

    t: float
    a: float
    b: float

    @property
    def ratio(self) -> float:
        """Noise-to-signal ratio ``b / a``."""
        return self.b / self.a if self.a else math.inf


class Visit(NamedTuple):
    """What one network evaluation said: a state, and the denoised mean there, conditioned on y or not."""

    x: Tensor  # x_t, (B, *event_shape)
    x0_hat: Tensor  # shaped as x
    level: Level

    @property
    def eps_hat(self) -> Tensor:
        """Predicted noise ``(x_t - a x0_hat) / b``."""
        return noise_from_denoised(self.x, self.x0_hat, self.level.a, self.level.b)


class Sampler(ABC):
    """A rule that moves ``x_t`` towards the data, given ``x0_hat``."""

    @abstractmethod
    def times(self, prior: DiffusionPrior) -> Tensor:
        """Times of the network evaluations, float64, descending (a time may repeat)."""

    @abstractmethod
    def move(self, visit: Visit, before: Visit | None, then: Level, curvature: Scalar, rng: Rng) -> Tensor:
        """The next state.

        Args:
            visit: the state, its denoised mean and its level.
            before: the visit before this one; ``None`` at the first.
            then: the level of the next network evaluation; the clean one (1, 0) after the last.
            curvature: bound of the curvature that conditioning added to ``-log p(x_t)``, a number.
            rng: random numbers of the block.
        """

    def process(self, prior: DiffusionPrior) -> Diffusion:
        """Forward process that the sampler walks back along unless a kernel says otherwise."""
        return DDPM()

    def start(self, prior: DiffusionPrior, first: Level, rng: Rng) -> Tensor:
        """Draw ``x_T`` from ``N(a E[x_0], a^2 var[x_0] + b^2)``, the law of ``x_T`` up to correlations."""
        noise = rng.normal(*prior.event_shape)
        spread = (first.a**2 * prior.variance + first.b**2).sqrt()
        return (first.a * prior.mean + spread * noise).to(noise.dtype)

    def schedule(self, prior: DiffusionPrior) -> list[Level]:
        """The levels of :meth:`times` under the prior's diffusion, then the clean one."""
        times = self.times(prior)
        a, b = prior.diffusion.coefficients(times)
        return [*map(Level, times.tolist(), a.tolist(), b.tolist()), Level(0.0, 1.0, 0.0)]


def root(variance: float) -> float:
    """``variance^{1/2}``, 0 for a difference that rounding has made negative."""
    return math.sqrt(max(variance, 0.0))

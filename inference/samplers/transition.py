r"""Samplers that move by a Gaussian law of the next state given this one and the clean image.

    x_s ~ q(x_s | x_t, x_0) = N(kept x_t + clean x_0, noise^2 I)

whose marginal ``q(x_s | x_0) = N(a_s x_0, b_s^2 I)`` is that of the forward process, so that a draw of
``p(x_0 | x_t)`` in the place of x_0 makes ``x_s ~ p(x_s)`` whatever the distance of the levels.  Moving from the mean
``x0_hat`` instead makes it up to what the levels lie apart.

Source: Song, Meng and Ermon 2021 (DDIM, arXiv 2010.02502), equation 7.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers.base import Level, Visit
from bayes_ir.inference.samplers.gridded import GriddedSampler
from bayes_ir.models.diffusion import Scalar

__all__ = ["Transition", "TransitionSampler"]


class Transition(NamedTuple):
    """``q(x_s | x_t, x_0)``."""

    kept: float
    clean: float
    noise: float

    def mean(self, x_t: Tensor, x_0: Tensor) -> Tensor:
        """``kept x_t + clean x_0``, images (B, *event_shape)."""
        return self.kept * x_t + self.clean * x_0


@dataclass(frozen=True, kw_only=True)
class TransitionSampler(GriddedSampler):
    """Sampler that moves by ``q(x_s | x_t, x_0)`` at ``x_0 = x0_hat``.

    Attributes:
        steps: network evaluations.
        grid: name of the time grid.
    """

    @abstractmethod
    def transition(self, now: Level, then: Level) -> Transition:
        """The law from one level to the next."""

    def move(self, visit: Visit, before: Visit | None, then: Level, curvature: Scalar, rng: Rng) -> Tensor:
        q = self.transition(visit.level, then)
        mean = q.mean(visit.x, visit.x0_hat)
        return mean + q.noise * rng.normal(*mean.shape[1:]) if q.noise > 0 else mean

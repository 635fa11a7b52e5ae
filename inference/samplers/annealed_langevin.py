r"""Annealed Langevin dynamics that moves with its target.

At every noise level the unadjusted Langevin chain of ``p(x_t | y)`` takes a few steps

    x <- x + alpha s(x | y) + sqrt(2 alpha) z,     s = (a x0_hat - x) / b^2,

and the noise is lowered.  The published algorithm leaves x where it is when the level falls from (a, b) to
(a', b') and trusts the next steps to catch up; with finitely many they do not, and the draws come out too
wide.  Here the step that ends a level also follows the probability flow to the next one,

    x <- a' x0_hat + b' eps_hat,     eps_hat = (x - a x0_hat) / b,

from the same network evaluation (``transport=False`` gives the published algorithm).

The chain is stable while alpha times the largest curvature of ``-log p(x_t | y)`` is below 2.  That
curvature is at most ``L = 1 / b^2 + l``: the prior's part never exceeds ``1 / b^2``, because
``-grad s = (1 - a^2 Cov[x_0 | x_t] / b^2) / b^2``, and ``l`` is the bound of the measurement rule.
The step is ``alpha = step_size / L``, so that any ``step_size`` below 2 is stable for an exact denoiser,
whatever the data.  The default, 1.5, mixes fastest (``benchmarks/sampler_accuracy.py``) and leaves a third for
an inexact one.  (The published constant corresponds to ``step_size = 2`` without the likelihood's part: it
contracts nothing for an exact denoiser.)

The highest level is the root mean square distance between two images of the prior, ``sqrt(2 tr Cov[x_0])``:
there ``x_t`` hardly tells two images apart, and levels above it would be spent on nothing.

Source: Song and Ermon 2019, algorithm 1; 2020 (NCSNv2), technique 1 for the highest level; transport: Song et
al. 2021, equation 13.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers.base import Level, Sampler, Visit
from bayes_ir.models.diffusion import Diffusion, Scalar, VarianceExploding
from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.time_grids import geometric_grid

__all__ = ["Langevin"]


@dataclass(frozen=True, kw_only=True)
class Langevin(Sampler):
    """Annealed Langevin dynamics with steps chosen from the largest curvature of each level.

    Attributes:
        levels: noise levels, geometric from the distance between images (or the upper end of the prior's
            ``noise_range`` if that is lower) to the lower end of ``noise_range``.
        steps_per_level: Langevin steps at each.
        step_size: step size as a fraction of the inverse curvature, in (0, 2).
        transport: follow the probability flow when the level falls.
    """

    levels: int = 232
    steps_per_level: int = 5
    step_size: float = 1.5
    transport: bool = True

    def __post_init__(self) -> None:
        if self.levels < 2 or self.steps_per_level < 1 or not 0 < self.step_size < 2:
            raise ValueError(
                "Langevin: expected levels >= 2, steps_per_level >= 1 and 0 < step_size < 2 (2 is the limit of "
                f"stability), got levels={self.levels}, steps_per_level={self.steps_per_level}, "
                f"step_size={self.step_size}."
            )

    def times(self, prior: DiffusionPrior) -> Tensor:
        low, high = prior.noise_range
        apart = float((2 * prior.variance.sum()).sqrt())
        top = min(high, apart) if apart > low else high
        grid = geometric_grid(prior.diffusion, self.levels, noise_range=(low, top))
        return grid.repeat_interleave(self.steps_per_level)

    def process(self, prior: DiffusionPrior) -> Diffusion:
        return VarianceExploding(*prior.noise_range)

    def move(self, visit: Visit, before: Visit | None, then: Level, curvature: Scalar, rng: Rng) -> Tensor:
        x_t, x0_hat, now = visit
        # Scaled to the level it leads to, so that the step to the clean image adds no noise.
        alpha = self.step_size / (1 / now.b**2 + curvature) * (then.b / now.b) ** 2
        eps_hat = visit.eps_hat
        moved = then.a * x0_hat + then.b * eps_hat if self.transport or then.b == 0 else x_t
        return moved - alpha / now.b * eps_hat + (2 * alpha) ** 0.5 * rng.normal(*x_t.shape[1:])

"""What every kernel that walks a path of noise levels has in common: schedule, forward process, state."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor

from bayes_ir.inference.kernels.base import Kernel
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Level, Sampler, Visit
from bayes_ir.models.diffusion import Diffusion
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["PathKernel", "PathState"]


@dataclass(frozen=True)
class PathState:
    """Images at the next level, the visit before, and what the kernel remembers from it."""

    x: Tensor  # (B, *event_shape)
    schedule: list[Level]
    k: int = 0
    before: Visit | None = None
    memory: Any = None

    @property
    def done(self) -> bool:
        return self.k == len(self.schedule) - 1

    @property
    def levels(self) -> tuple[Level, Level]:
        """The present level and the one the step leads to."""
        return self.schedule[self.k], self.schedule[self.k + 1]

    @property
    def last(self) -> bool:
        """Whether the next step leads to the clean image."""
        return self.k == len(self.schedule) - 2

    def moved(self, x: Tensor, visit: Visit | None = None, memory: Any = None) -> PathState:
        """The state at the next level."""
        return PathState(x, self.schedule, self.k + 1, visit, memory)


class PathKernel(Kernel[PathState]):
    """Kernel that walks back along a forward process with a sampler, one network evaluation a step."""

    @property
    @abstractmethod
    def sampler(self) -> Sampler:
        """How the denoiser becomes a path."""

    def process(self, prior: DiffusionPrior) -> Diffusion:
        """Forward process the sampler walks back along; by default the sampler's own."""
        return self.sampler.process(prior)

    def length(self, problem: Problem) -> int:
        return len(self.sampler.times(self._prior(problem)))

    def init(self, problem: Problem, rng: Rng) -> PathState:
        prior = self._prior(problem)
        schedule = self.sampler.schedule(prior)
        return PathState(self.sampler.start(prior, schedule[0], rng), schedule)

    def renoised(self, problem: Problem, x: Tensor, ratio: float, rng: Rng) -> PathState:
        """A state part of the way down, made from images by the forward process.

        Args:
            problem: what is measured.
            x: images (B, *event_shape), one per draw.
            ratio: the state is at the first level whose ``b / a`` is at most this, in units of the image, and at the
                last one where none is.
            rng: random numbers of the block.
        """
        schedule = self.sampler.schedule(self._prior(problem))
        below = [k for k, level in enumerate(schedule[:-1]) if level.b <= ratio * level.a]
        k = below[0] if below else len(schedule) - 2
        now = schedule[k]
        return PathState(now.a * x + now.b * rng.normal(*x.shape[1:]), schedule, k)

    def _prior(self, problem: Problem) -> DiffusionPrior:
        return _observed(problem.prior, self.process(problem.prior))


@lru_cache(maxsize=1)
def _observed(prior: DiffusionPrior, process: Diffusion) -> DiffusionPrior:
    """``prior.with_diffusion(process)``, remembered: every step asks for it."""
    return prior.with_diffusion(process)

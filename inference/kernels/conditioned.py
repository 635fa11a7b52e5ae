r"""Conditioned denoisers: the denoised mean is changed by y, any sampler does the rest.

Every step evaluates the network once, turns ``x0_hat(x_t)`` into ``x0_hat(x_t, y)``, and lets the sampler move as if
that were the denoised mean.  Where the law ``N(x0_hat(x_t, y), V(x_t, y))`` of ``x_0`` given ``x_t`` and y is known
as well, the last step ends in a draw of it: ending in its mean would lose what is still uncertain at the lowest
noise level.  The first step likewise starts afresh from ``x_T = a x_0 + b eps`` with such an ``x_0``: a start from the
prior alone is off by what y says of the mean, a tenth of a standard deviation at a noise ten times the prior's, and a
deterministic sampler would carry that to the end.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.path import PathKernel, PathState
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import DDIM, Sampler, TransitionSampler, Visit
from bayes_ir.models.diffusion import Scalar
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["ComposedKernel", "Conditioned", "ConditionedKernel"]

_DDIM = DDIM(steps=100, eta=1.0)


@dataclass(frozen=True)
class Conditioned:
    """What a conditioned denoiser answers.

    Attributes:
        x0_hat: ``x0_hat(x_t, y)``, (B, *event_shape).
        curvature: bound of the curvature that y added to ``-log p(x_t)``, a number; only Langevin asks.
        spread: makes a draw of ``N(0, V(x_t, y))`` shaped as ``x0_hat``; ``None`` where the method has no V.
        informed: whether V is that of ``x_0`` at high noise too, and not only what ``x_t`` and y say.
        memory: what the next call may start from.
        info: numbers to report, each (B,).
    """

    x0_hat: Tensor
    curvature: Scalar = 0.0
    spread: Callable[[Rng], Tensor] | None = None
    informed: bool = False
    memory: Any = None
    info: Info = field(default_factory=dict)


class ConditionedKernel(PathKernel):
    """Kernel made of a conditioned denoiser and a sampler.

    Attributes:
        drawn: move from a draw of ``N(x0_hat(x_t, y), V(x_t, y))`` instead of its mean, for samplers that are
            transitions; a method without V moves from means.
    """

    drawn: bool = False

    @abstractmethod
    def condition(self, problem: Problem, prior: DiffusionPrior, state: PathState, rng: Rng) -> Conditioned:
        """``x0_hat(x_t, y)`` at ``state.x`` and level ``state.levels[0]``, from one network evaluation.

        Args:
            problem: what is measured.
            prior: the prior observed through the process of the path.
            state: images, level and memory.
            rng: random numbers of the block.
        """

    def step(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        now, then = state.levels
        found = self.condition(problem, self._prior(problem), state, rng)
        x, x0_hat = state.x, found.x0_hat
        starts = state.k == 0 and found.informed
        if found.spread is not None and (self.drawn or starts or state.last):
            x_0 = x0_hat + found.spread(rng)
            x = now.a * x_0 + now.b * rng.normal(*x.shape[1:]) if starts else x
            x0_hat = x_0 if self.drawn or state.last else x0_hat
        visit = Visit(x, x0_hat, now)
        x = self.sampler.move(visit, state.before, then, found.curvature, rng)
        info = {**found.info, "nfe": torch.ones(len(x), dtype=torch.int64)}
        return state.moved(x, visit, found.memory), info


@dataclass(frozen=True, kw_only=True)
class ComposedKernel(ConditionedKernel):
    """A conditioned denoiser with a sampler of one's choice.

    Attributes:
        sampler: how the denoiser becomes a path.
        steps: network evaluations, instead of those of the sampler.
    """

    sampler: Sampler = _DDIM  # type: ignore[misc]
    steps: int | None = None

    def __post_init__(self) -> None:
        name, sampler = type(self).__name__, type(self.sampler).__name__
        if self.drawn and not isinstance(self.sampler, TransitionSampler):
            raise ValueError(
                f"{name}: {sampler} is no transition q(x_s | x_t, x_0), so that it cannot move from a draw of x_0; "
                "set drawn=False."
            )
        if self.steps is None:
            return
        if "steps" not in {f.name for f in fields(self.sampler)}:  # type: ignore[arg-type]
            raise ValueError(
                f"{name}: steps={self.steps}, but {sampler} counts otherwise; leave steps out and set the sampler."
            )
        object.__setattr__(self, "sampler", replace(self.sampler, steps=self.steps))  # type: ignore[type-var]

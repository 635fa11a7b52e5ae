r"""RePaint: the known part replaced at every level, and every stretch of the path walked again and again.

A move down, from level t to t-1, samples the unknown part and puts the noised data in the place of the known one,

    x'      ~ p(x_{t-1} | x_t)                                       ancestral
    x_{t-1} = (I - P) x' + P (a A^+ y + b eps),    P = A^+ A,

(a, b) being the level t-1 that ``x_{t-1}`` has; the published equation 8a writes the known part with the noise of level
t.  For a mask P cuts the known pixels out, as published; nothing else asks for a mask, so that A may be any linear
operator with a decomposition.  The noise of y is part of that of the level (see
:mod:`bayes_ir.inference.kernels._replacement`); published is the noise-free case.

The two parts of ``x_{t-1}`` were drawn without looking at each other.  Moves up, ``x_t ~ q(x_t | x_{t-1})``, and down
again give the denoiser the time to make them agree (see :mod:`bayes_ir.inference.kernels.time_travel`); a move up, too,
ends with its known part as the data say it is.  The released code replaces the known part of ``x_t`` before a move down
instead of that of ``x_{t-1}`` after it, which is the same but for the last: it does not put the data into the finished
image.

What it approximates: with one sample per stretch (plain replacement) the unknown part sees the data only through what
the denoiser makes of them, and is off and too wide; with more it comes closer, at ``jump_samples`` times the network
evaluations.

Source: Lugmayr et al. 2022 (CVPR), equations 8a to 8c and algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from bayes_ir.inference.kernels._replacement import check_replaceable, known_part
from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.path import PathKernel, PathState
from bayes_ir.inference.kernels.time_travel import renoised, visits
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Ancestral, Sampler, Visit
from bayes_ir.models.diffusion import DDPM, Diffusion
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["RePaint"]


@dataclass(frozen=True, kw_only=True)
class RePaint(PathKernel):
    """RePaint for a Gaussian channel and a linear operator with a decomposition.

    Attributes:
        steps: noise levels; the network evaluations are about ``steps * jump_samples``.
        jump_length: levels a jump back up climbs.
        jump_samples: times every stretch of ``jump_length`` levels is walked; 1 for plain replacement.

    Raises:
        ModelError: for a channel other than Gaussian, or an operator that is not linear or has no decomposition.
        ValueError: for settings out of range.
    """

    citation: ClassVar[str] = "Lugmayr et al. 2022 (arXiv 2201.09865)"
    steps: int = 250
    jump_length: int = 10
    jump_samples: int = 10

    def __post_init__(self) -> None:
        if self.steps < 2 or self.jump_length < 1 or self.jump_samples < 1:
            raise ValueError(
                "RePaint: expected steps >= 2, jump_length >= 1 and jump_samples >= 1, got "
                f"steps={self.steps}, jump_length={self.jump_length}, jump_samples={self.jump_samples}."
            )

    @property
    def sampler(self) -> Sampler:
        return Ancestral(steps=self.steps)

    def process(self, prior: DiffusionPrior) -> Diffusion:
        return DDPM()

    def check(self, problem: Problem) -> None:
        check_replaceable(problem, "RePaint")

    def length(self, problem: Problem) -> int:
        return (
            len(visits(self.sampler.schedule(self._prior(problem)), self.jump_length, self.jump_samples)) - 1
        )

    def init(self, problem: Problem, rng: Rng) -> PathState:
        state = super().init(problem, rng)
        return replace(state, schedule=visits(state.schedule, self.jump_length, self.jump_samples))

    def step(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        now, then = state.levels
        forward = then.ratio > now.ratio
        visit = None
        if forward:
            x = renoised(state.x, now, then, rng)
        else:
            visit = Visit(state.x, problem.prior.denoise_at(state.x, now.a, now.b), now)
            x = self.sampler.move(visit, state.before, then, 0.0, rng)
        x = known_part(problem).replace(x, state.x, now, then, rng)
        return state.moved(x, visit), {"nfe": torch.full((len(x),), 0 if forward else 1)}

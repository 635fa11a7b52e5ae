r"""ILVR: the low-pass part of every state is that of the noised reference.

With ``phi = A^+ A``, for a down-sampling A the low-pass filter "down and up again", every step refines the sample
``x'_{t-1}`` of an ancestral step,

    x_{t-1} = x'_{t-1} - phi(x'_{t-1}) + phi(y_{t-1}),

where ``y_{t-1}`` is the reference noised to the level t-1 that the step leads to.  Only ``phi`` of the reference
enters, and that is ``A^+ y``: no image is needed, and A may be any linear operator with a decomposition.

Two choices beside the paper's.  The published method takes the reference for exact; here the noise of y counts as part
of the noise of the level, and directions that A hardly sees are left alone once the level is finer than the data (see
:mod:`bayes_ir.inference.kernels._replacement`).  The released code noises the reference to level t.

What it approximates: the refined part is drawn without looking at the rest of the image, so that the two agree only as
far as the next denoising steps make them; the draws are consistent with y, not draws of ``p(x | y)``.  Steps left to
the prior at the end loosen the consistency again.

Source: Choi et al. 2021 (ICCV), algorithm 1; the range of refined steps as in its released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from bayes_ir.inference.kernels._replacement import check_replaceable, known_part
from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.path import PathKernel, PathState
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Ancestral, Sampler, Visit
from bayes_ir.models.diffusion import DDPM, Diffusion
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["ILVR"]


@dataclass(frozen=True, kw_only=True)
class ILVR(PathKernel):
    """ILVR for a Gaussian channel and a linear operator with a decomposition.

    Attributes:
        steps: network evaluations.
        free_fraction: fraction of the steps, at the end, that are left to the prior.  The released example has
            0.2 of 100 steps, which gives up the data finer than the noise at which the prior takes over.

    Raises:
        ModelError: for a channel other than Gaussian, or an operator that is not linear or has no decomposition.
        ValueError: for settings out of range.
    """

    citation: ClassVar[str] = "Choi et al. 2021 (arXiv 2108.02938)"
    steps: int = 100
    free_fraction: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 2 or not 0 <= self.free_fraction < 1:
            raise ValueError(
                f"ILVR: expected steps >= 2 and 0 <= free_fraction < 1, got steps={self.steps}, "
                f"free_fraction={self.free_fraction}."
            )

    @property
    def sampler(self) -> Sampler:
        return Ancestral(steps=self.steps)

    def process(self, prior: DiffusionPrior) -> Diffusion:
        return DDPM()

    def check(self, problem: Problem) -> None:
        check_replaceable(problem, "ILVR")

    def step(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        now, then = state.levels
        visit = Visit(state.x, problem.prior.denoise_at(state.x, now.a, now.b), now)
        x = self.sampler.move(visit, state.before, then, 0.0, rng)
        if state.k < self.steps - round(self.free_fraction * self.steps):
            x = known_part(problem).replace(x, state.x, now, then, rng)
        return state.moved(x, visit), {"nfe": torch.ones(len(x), dtype=torch.int64)}

r"""ScoreSDE: an unconditional sampler with the data put back after every move.

    x <- move(x, E[x_0 | x_t])                       predictor or corrector, to level (a, b)
    x <- x - P x + P (a A^+ y + b eps),              P = A^+ A,

at the level the move leads to, the noise of y being part of that of the level (see
:mod:`bayes_ir.inference.kernels._replacement`).  For inpainting P x are the known pixels, for colourisation the grey
image, for magnetic resonance imaging the sampled points of k-space (score-MRI).  Any sampler may move; predictor and
corrector walk the variance-exploding process on a geometric grid, the published choice, and DDPM's variance-preserving
one on a uniform grid.

``diffuse_data=False`` puts ``a A^+ y`` there instead, the data without the noise of the level, as score-MRI does: the
network then sees states whose known part is cleaner than the rest.

The released codes have no model of the noise of y and replace the known part down to the last state; here a direction
whose data are noisier than the level is denoised by the prior from there on, and no corrector moves it.  Theirs noises
the data of the predictor to the level that it comes from.

What it approximates: the unknown part is moved by the score of ``p(x_t)``, with the known part as an independent draw
at every level, so that it sees the data only through what the network makes of them: the draws are too little
correlated with y and too wide.  Corrector steps make up for some of it.

Source: Song et al. 2021 (ICLR), appendix I.2; score-MRI: Chung and Ye 2022 (arXiv 2110.05243), algorithm 1.
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
from bayes_ir.inference.samplers import Sampler, Visit
from bayes_ir.inference.samplers.predictor_corrector import PredictorCorrector

__all__ = ["ScoreSDE"]

_SAMPLER = PredictorCorrector(grid="geometric")


@dataclass(frozen=True, kw_only=True)
class ScoreSDE(PathKernel):
    """Replacement sampling for a Gaussian channel and a linear operator with a decomposition.

    Attributes:
        sampler: how the denoiser becomes a path.
        diffuse_data: noise the data to the level they join; without it they are put there as they are (score-MRI).

    Raises:
        ModelError: for a channel other than Gaussian, or an operator that is not linear or has no decomposition.
    """

    citation: ClassVar[str] = "Song et al. 2021 (arXiv 2011.13456)"
    sampler: Sampler = _SAMPLER  # type: ignore[misc]
    diffuse_data: bool = True

    def check(self, problem: Problem) -> None:
        check_replaceable(problem, "ScoreSDE")

    def step(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        now, then = state.levels
        visit = Visit(state.x, problem.prior.denoise_at(state.x, now.a, now.b), now)
        x = self.sampler.move(visit, state.before, then, 0.0, rng)
        x = known_part(problem).replace(x, state.x, now, then, rng, diffuse=self.diffuse_data)
        return state.moved(x, visit), {"nfe": torch.ones(len(x), dtype=torch.int64)}

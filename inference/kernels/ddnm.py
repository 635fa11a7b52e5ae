r"""DDNM: the range of A^T from the data, the null space from the denoiser, for data that are (nearly) free of noise.

    x0_hat(x_t, y) = x0_hat + A^+ (y - A x0_hat)

is the image closest to the denoised mean that satisfies ``A x = y`` (for y in the range of A); any sampler moves by
it.  An operator that is not linear is served where ``A.pinv`` decodes it, by ``x0_hat + A^+ y - A^+ A(x0_hat)``.  The
noise of the channel is not used: y is taken for exact, and what noise it has enters the draws magnified by A^+.
Noisy data are for :class:`bayes_ir.inference.kernels.ddnm_plus.DDNMPlus`.

Two predicted noises can go to the sampler with ``x0_hat(x_t, y)``:

    "network"     (x_t - a x0_hat) / b             the sampler moves by x0_hat, then a' A^+ (y - A x0_hat) is added
    "rectified"   (x_t - a x0_hat(x_t, y)) / b     the sampler moves by x0_hat(x_t, y)

The released code does the first, the published algorithm the second, and the first is right for a Gaussian prior.
In the limit of many steps it holds ``A x_t`` where ``A x0_hat(x_t) = y``.  With u the part of ``x_t`` in the null
space, ``E[x_0 | u, A x_0]`` is linear in ``A x_0``; so its mean given ``x_t`` is its value at ``A x0_hat(x_t) = y``,
and u follows the score of ``p(u | y)``: exact data are sampled exactly.  The second sees y through the noise of
``A x_t``.  For a correlated Gaussian of 8 numbers, 4 of them measured, its means are off by 0.1 to 0.3 standard
deviations and its standard deviations 1.1 to 1.3 of the true ones, however many the steps.

Time travel rises by the forward process from ``x_t``.  (The released code noises ``x0_hat`` afresh, which forgets
``x_t`` and costs variance.)

Source: Wang, Yu and Zhang 2023 (ICLR), sections 3.2 and 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.conditioned import ComposedKernel, Conditioned
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.kernels.time_travel import TravellingKernel
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import DDIM, Sampler, Visit
from bayes_ir.models.channels import Gaussian
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["DDNM"]

_DDIM = DDIM(steps=100, eta=0.85)


@dataclass(frozen=True, kw_only=True)
class DDNM(TravellingKernel, ComposedKernel):
    """DDNM for nearly noise-free data and any operator with a pseudo-inverse or a decoding.

    Attributes:
        sampler: how the denoiser becomes a path.
        steps: network evaluations of a path without travel, instead of those of the sampler.
        predicted_noise: ``"network"`` or ``"rectified"``, what the sampler takes for the noise of ``x_t``.
        travel_length: levels that a jump rises.
        travel_repeats: times a stretch of ``travel_length`` levels is descended; 1 for no time travel.

    Raises:
        ModelError: for a channel other than Gaussian, or an operator without ``pinv``.
        ValueError: for settings out of range.
    """

    citation: ClassVar[str] = "Wang, Yu and Zhang 2023 (arXiv 2212.00490)"
    sampler: Sampler = _DDIM  # type: ignore[misc]
    predicted_noise: str = "network"
    travel_length: int = 1
    travel_repeats: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.predicted_noise not in ("network", "rectified"):
            raise ValueError(
                f"DDNM: expected predicted_noise 'network' or 'rectified', got {self.predicted_noise!r}."
            )
        self._check_travel()

    def check(self, problem: Problem) -> None:
        where = f"site {problem.observed_site!r}"
        if not isinstance(problem.channel, Gaussian):
            raise ModelError(
                f"DDNM needs a Gaussian channel; {where} has {type(problem.channel).__name__}. "
                "Use QCSSGMPlus(), which serves every channel of a linear operator."
            )
        try:
            problem.operator.pinv(problem.y)
        except TypeError as error:
            raise ModelError(
                f"DDNM needs an operator with a pseudo-inverse or a decoding; {where} has {problem.operator!r}, which "
                "has none. Use DPS(), which serves every differentiable operator."
            ) from error

    def condition(self, problem: Problem, prior: DiffusionPrior, state: PathState, rng: Rng) -> Conditioned:
        now, _ = state.levels
        x0_hat = prior.denoise_at(state.x, now.a, now.b)
        rectified = x0_hat + _correction(problem, x0_hat)
        # In measured directions the score is (a A^+ y - x_t) / b^2, of no more curvature than the prior's bound.
        return Conditioned(rectified)

    def descend(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        if self.predicted_noise == "rectified":
            return ComposedKernel.step(self, problem, state, rng)
        now, then = state.levels
        x0_hat = problem.prior.denoise_at(state.x, now.a, now.b)
        correction = _correction(problem, x0_hat)
        visit = Visit(state.x, x0_hat, now)
        x = self.sampler.move(visit, state.before, then, 0.0, rng) + then.a * correction
        return state.moved(x, visit), {"nfe": torch.ones(len(x), dtype=torch.int64)}


def _correction(problem: Problem, x0_hat: Tensor) -> Tensor:
    """``A^+ (y - A x0_hat)``, or what stands for it where A is not linear."""
    operator, y = problem.operator, problem.y
    if operator.linear:
        return operator.pinv(y - operator(x0_hat))
    return operator.pinv(y) - operator.pinv(operator(x0_hat))

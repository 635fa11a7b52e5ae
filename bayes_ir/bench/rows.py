r"""Rows that no method is: draws of the prior, and the sampler that knows the exact conditional score.

The *oracle* walks a sampler's path with the denoised mean of the exact posterior,

    x0_hat(x_t, y) = E[x_0 | x_t, y],    p(x_0 | y) = sum_k w_k(y) N(m_k, C_k)    (a mixture again),

so that what is left is the error of the start, the grid and the sampler: what no guidance can undercut there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.inference import ComposedKernel, Conditioned, Kernel, ModelError, Problem, exact_posterior
from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.rng import Rng
from bayes_ir.models import DiffusionPrior, GaussianMixturePrior

__all__ = ["Oracle", "PriorDraws", "Unconditional"]

_NEGLIGIBLE = 40.0  # nats below the largest weight


@dataclass(frozen=True)
class _Drawn:
    x: Tensor
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class PriorDraws(Kernel[_Drawn]):
    """Independent draws of the prior, as if nothing had been measured.

    Raises:
        ModelError: for a prior other than a Gaussian or a Gaussian mixture.
    """

    citation: ClassVar[str] = "the prior itself"

    def check(self, problem: Problem) -> None:
        if not isinstance(problem.prior, GaussianMixturePrior):
            raise ModelError(
                f"PriorDraws needs a GaussianPrior or GaussianMixturePrior; this is a {type(problem.prior).__name__}."
            )

    def length(self, problem: Problem) -> int:
        return 1

    def init(self, problem: Problem, rng: Rng) -> _Drawn:
        return _Drawn(rng.normal(*problem.prior.event_shape))

    def step(self, problem: Problem, state: _Drawn, rng: Rng) -> tuple[_Drawn, Info]:
        assert isinstance(problem.prior, GaussianMixturePrior)
        normal = state.x.flatten(1).double()
        x = problem.prior.components.transport(rng.uniform().double(), normal)
        return _Drawn(x, done=True), {"nfe": torch.zeros(len(x), dtype=torch.int64)}


@dataclass(frozen=True, kw_only=True)
class Unconditional(ComposedKernel):
    """A sampler that never hears of the measurements.

    Attributes:
        sampler: how the denoiser becomes a path.
        steps: network evaluations, instead of those of the sampler.
    """

    citation: ClassVar[str] = "the sampler itself"

    def condition(self, problem: Problem, prior: DiffusionPrior, state: PathState, rng: Rng) -> Conditioned:
        return Conditioned(prior.denoise(state.x, state.levels[0].t))


@dataclass(frozen=True, kw_only=True)
class Oracle(ComposedKernel):
    """A sampler with the exact conditional score, for a Gaussian-mixture prior and a linear Gaussian channel.

    Attributes:
        sampler: how the denoiser becomes a path.
        steps: network evaluations, instead of those of the sampler.

    Raises:
        ModelError: for any other prior, operator or channel.
    """

    citation: ClassVar[str] = "closed form"

    def check(self, problem: Problem) -> None:
        exact_posterior(problem)

    def condition(self, problem: Problem, prior: DiffusionPrior, state: PathState, rng: Rng) -> Conditioned:
        posterior = _posterior(problem).with_diffusion(prior.diffusion)
        return Conditioned(posterior.denoise(state.x, state.levels[0].t))


@lru_cache(maxsize=1)
def _posterior(problem: Problem) -> GaussianMixturePrior:
    """The exact posterior, used as a prior."""
    law, _ = exact_posterior(problem)
    told = law.log_weights > law.log_weights.max() - _NEGLIGIBLE
    variances = law.variances.expand(law.means.shape)[told]
    basis = law.basis[told]
    return GaussianMixturePrior(
        law.log_weights[told].exp(),
        law.means[told],
        (basis * variances[:, None, :]) @ basis.mT,
        event_shape=problem.prior.event_shape,
    ).to(problem.device, problem.dtype)

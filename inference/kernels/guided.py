r"""Guided diffusion: the denoised mean shifted by what the channel says under a belief about the clean image.

Every step evaluates the network once and changes its answer,

    mu, V, K       from the denoising posterior at x_t
    A^T r          from the measurement rule under N(mu, V)
    x0_hat(x_t, y) = x0_hat + K r,

then lets the sampler move as if ``x0_hat(x_t, y)`` were the denoised mean.  A published kernel is a
choice of denoising posterior, measurement rule, sampler and forward process.  An operator that is not linear is
linearised at the denoised mean, draw by draw.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from bayes_ir.inference.denoising_posterior import Belief, DenoisingPosterior, Flat
from bayes_ir.inference.kernels.conditioned import Conditioned, ConditionedKernel
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.linearised import linearised_system
from bayes_ir.inference.measurement_score import MeasurementScore, PullBack
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Langevin
from bayes_ir.inference.system import System
from bayes_ir.models.diffusion import Scalar
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["GuidedKernel"]


class GuidedKernel(ConditionedKernel):
    """Kernel made of a denoising posterior, a measurement rule, a sampler and a forward process.

    Attributes:
        scale: weight of the measurement score; 1 is Bayes.
        linearises: whether operators that are not linear are served by linearisation.
    """

    scale: float = 1.0
    linearises: bool = False

    @property
    def denoising_posterior(self) -> DenoisingPosterior:
        """Gaussian stand-in for ``p(x_0 | x_t)``."""
        return Flat()

    @property
    @abstractmethod
    def measurement_score(self) -> MeasurementScore:
        """Rule for ``A^T r``."""

    def check(self, problem: Problem) -> None:
        if not problem.operator.linear and (not self.linearises or isinstance(self.sampler, Langevin)):
            raise ModelError(
                f"{type(self).__name__} needs a linear operator, and {problem.operator!r} is not linear; use DPS(), "
                "which serves nonlinear operators, or MomentMatching(), which linearises them."
            )
        problem.need_derivative(type(self).__name__)
        self.measurement_score.check(problem, type(self).__name__)
        # A dry run of one draw finds what is missing (a calibration) or too large to decompose.
        rng = Rng(0, draws=1, device=problem.device, dtype=problem.dtype)
        with torch.no_grad():
            self.condition(problem, self._prior(problem), self.init(problem, rng), rng)

    def condition(self, problem: Problem, prior: DiffusionPrior, state: PathState, rng: Rng) -> Conditioned:
        rule, (now, _) = self.measurement_score, state.levels
        belief = self.denoising_posterior.at(prior, state.x, now)
        linear = problem.operator.linear
        system = problem.system if linear else linearised_system(problem, belief.mean)
        pulled_slope, memory, info, pull_back = rule(system, belief, state.memory)
        x0_hat = torch.add(belief.x0_hat, belief.gain(pulled_slope), alpha=self.scale)
        curvature: Scalar = 0.0
        if isinstance(self.sampler, Langevin):
            curvature = self.scale * belief.stretch**2 * rule.largest_curvature(system, belief.covariance)
        spread = None if pull_back is None else _Spread(system, belief, pull_back)
        informed = self.denoising_posterior.informed
        return Conditioned(x0_hat, curvature, spread, informed, memory, info)


class _Spread:
    """Draws of ``N(0, V_y)``, ``V_y = V - V A^T (K + T^-1)^-1 A V``, by Matheron's rule."""

    def __init__(self, system: System, belief: Belief, pull_back: PullBack) -> None:
        self._system, self._belief, self._pull_back = system, belief, pull_back

    def __call__(self, rng: Rng) -> Tensor:
        v, shape = self._belief.covariance, self._belief.mean.shape
        e = v.root(rng.normal(*shape[1:]))
        n = rng.normal(self._system.measurements).double()
        return e - v(self._pull_back(self._system.apply(e), n))

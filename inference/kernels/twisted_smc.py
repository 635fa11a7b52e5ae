r"""Twisted sequential Monte Carlo: guided diffusion whose bias is weighed and resampled away.

A cloud of N particles walks down the levels.  At ``x_t`` the denoising posterior and the channel give the *twist*
``psi_t(x_t)``, an estimate of ``p(y | x_t)``, and a move ``q(x_s | x_t)`` that follows y (see
:mod:`bayes_ir.inference.twisting`).  Weights keep the books,

    w_T = psi_T(x_T),    w <- w  p(x_s | x_t) / q(x_s | x_t)  psi_s(x_s) / psi_t(x_t),    psi_0(x_0) = p(y | x_0),

so that the weighted particles stand for ``p(x_t) psi_t(x_t)`` at every level and for ``p(x_0) p(y | x_0)`` at the end,
p being the prior's own path on these levels.  A cloud whose effective sample size falls below a share of N is resampled
(systematically, like particles beside each other: :mod:`bayes_ir.inference.ordering`).  The product of the mean weights
estimates the evidence ``p(y)``.

As N grows the draws are exact for that path, whatever the twist: a mode that a guided path would visit too often loses
weight.  What is left is the error of the prior's path at these levels, ``x_s`` by ``q(x_s | x_t, x_0)`` with a draw
``x_0 ~ N(x0_hat, V)`` (exact for Gaussian priors), or with ``drawn=False`` from means, right for levels that lie close.

With ``Calibrated()`` no Jacobian of the network is needed: expectation propagation has the evidence of any channel, not
only its slope.  ``Point()`` and ``drawn=False`` make it TDS, with the Jacobian.

Source: Wu et al. 2023 (TDS, arXiv 2306.17775), algorithm 1; moves from draws and EP twists are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.inference.covariances import SharedCovariance
from bayes_ir.inference.denoising_posterior import (
    AroundDenoisedMean,
    Calibrated,
    DenoisingPosterior,
    Isotropic,
)
from bayes_ir.inference.expectation_propagation import Sites
from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.path import PathKernel
from bayes_ir.inference.particles import Clouds, share
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Ancestral, Level, TransitionSampler
from bayes_ir.inference.twisting import twist

__all__ = ["TwistedSMC"]

_CALIBRATED, _SAMPLER, _ISOTROPIC = Calibrated(), Ancestral(steps=32, grid="calibrated"), Isotropic()
_TWO_LEVELS = [Level(0.0, 1.0, b) for b in (2.0, 1.0)]


@dataclass(frozen=True)
class CloudState:
    """Particles of all clouds at the next level, or the draws once ``done``."""

    x: Tensor  # (C N, *event_shape), in the end (B, *event_shape)
    schedule: list[Level]
    rng: Rng  # of the particles
    clouds: Clouds
    log_factor: Tensor  # what the weights still lack until psi at x is known, (C N,)
    sites: Sites | None = None
    k: int = 0

    @property
    def done(self) -> bool:
        return self.k == len(self.schedule) - 1


@dataclass(frozen=True, kw_only=True)
class TwistedSMC(PathKernel):
    """Twisted SMC for any channel, a linear operator, and ``A V A^T`` that can be decomposed.

    A block of B draws comes from ``ceil(B / (kept particles))`` independent clouds, in turn, however small B is: choose
    ``block_size`` as a multiple of ``kept particles``.  Draws of one cloud are *not* independent of each other:
    ``sample_stats`` tells their ``cloud`` (within the block), the smallest effective sample size on its way
    (``particles_ess``), its ``log_evidence`` and the standard error of that.  Draws of different blocks and chains are.

    Attributes:
        denoising_posterior: Gaussian stand-in for ``p(x_0 | x_t)``; with ``drawn`` one whose V all draws share.
        sampler: the prior's path, a transition.
        steps: network evaluations per particle, instead of those of the sampler.
        particles: N, per cloud.
        kept: share of the particles that become draws; those of a cloud repeat each other, so that two of them for
            every draw are worth more than twice the steps.
        ess_threshold: share of N below which a cloud is resampled; at 0 never, weights are then importance weights.
        drawn: move from draws of ``x_0`` instead of its mean.
        weighted: return all particles with their ``log_weight`` instead of resampled ones; needs ``kept=1``.
        per_site: own site variances in EP: a somewhat better twist, at a factorisation per particle and sweep.

    Raises:
        ModelError: for an operator that is not linear, one too large for EP, or a calibration that is missing.
        ValueError: for settings out of range.
    """

    citation: ClassVar[str] = "Wu et al. 2023 (arXiv 2306.17775)"
    one_batch: ClassVar[bool] = False
    denoising_posterior: DenoisingPosterior = _CALIBRATED
    sampler: TransitionSampler = _SAMPLER  # type: ignore[misc]
    steps: int | None = None
    particles: int = 512
    kept: float = 0.5
    ess_threshold: float = 0.5
    drawn: bool = True
    weighted: bool = False
    per_site: bool = False

    def __post_init__(self) -> None:
        if self.particles < 2 or not 0 < self.kept <= 1 or not 0 <= self.ess_threshold <= 1:
            raise ValueError(
                "TwistedSMC: expected particles >= 2, 0 < kept <= 1 and 0 <= ess_threshold <= 1, got "
                f"particles={self.particles}, kept={self.kept}, ess_threshold={self.ess_threshold}."
            )
        if not isinstance(self.sampler, TransitionSampler):
            raise ValueError(
                f"TwistedSMC: {type(self.sampler).__name__} is no transition q(x_s | x_t, x_0), so that its moves have "
                "no density to weigh; use Ancestral() or DDIM(eta=...) with eta > 0."
            )
        if self.drawn and not isinstance(self.denoising_posterior, AroundDenoisedMean):
            raise ValueError(
                f"TwistedSMC: {self.denoising_posterior!r} has no V around x0_hat that all particles share, so that "
                "moves from draws have no density; set drawn=False."
            )
        if not self.drawn and self.sampler.transition(*_TWO_LEVELS).noise == 0:
            raise ValueError(
                f"TwistedSMC: {self.sampler!r} moves from means without noise, so that its moves have no density; "
                "give it noise, such as DDIM(eta=0.85), or set drawn=True."
            )
        if self.weighted and self.kept != 1:
            raise ValueError(
                f"TwistedSMC: weighted=True returns all particles; set kept=1 (got {self.kept})."
            )
        if self.steps is not None:
            object.__setattr__(self, "sampler", replace(self.sampler, steps=self.steps))

    @property
    def block_size(self) -> int:
        """The draws of one cloud."""
        return max(1, round(self.kept * self.particles))

    def check(self, problem: Problem) -> None:
        if not problem.operator.linear:
            raise ModelError(
                f"TwistedSMC needs a linear operator, and {problem.operator!r} is not linear; use DPS() or DAPS(), "
                "which serve nonlinear operators."
            )
        problem.need_derivative("TwistedSMC")
        # A dry run of few particles finds what is missing (a calibration) or too large to decompose.
        few = replace(self, particles=2, kept=1, weighted=False)
        with torch.no_grad():
            rng = Rng(0, draws=2, device=problem.device, dtype=problem.dtype)
            few.step(problem, few.init(problem, rng), rng)

    def init(self, problem: Problem, rng: Rng) -> CloudState:  # type: ignore[override]
        if self.weighted and rng.draws % self.particles:
            raise ModelError(
                f"TwistedSMC(weighted=True) returns whole clouds of {self.particles} particles, and a block has "
                f"{rng.draws} draws; choose draws and block_size as multiples of {self.particles}."
            )
        count = math.ceil(rng.draws / (self.kept * self.particles))
        clouds = Clouds.start(count, self.particles, problem.device)
        particles = rng.spawn(clouds.log_w.numel())
        path = super().init(problem, particles)
        return CloudState(path.x, path.schedule, particles, clouds, clouds.log_w.flatten())

    def step(self, problem: Problem, state: CloudState, rng: Rng) -> tuple[CloudState, Info]:  # type: ignore[override]
        now, then = state.schedule[state.k : state.k + 2]
        last = state.k == len(state.schedule) - 2
        system, shape = problem.system, state.clouds.log_w.shape
        posterior = _ISOTROPIC if last and not self.drawn else self.denoising_posterior
        belief = posterior.at(self._prior(problem), state.x, now)
        found = twist(system, state.x, belief, state.sites, self.per_site)

        clouds = state.clouds.weighted((state.log_factor + found.log_psi).reshape(shape))
        u, like = state.rng.uniform()[: shape[0]], found.x0_hat.unflatten(0, shape)
        clouds, ancestors = clouds.resampled(self.ess_threshold, u, like)
        first = torch.arange(shape[0], device=ancestors.device)[:, None] * shape[1]
        found = found.take((first + ancestors).flatten())

        q = self.sampler.transition(now, then)
        if self.drawn or last:
            assert isinstance(belief.covariance, SharedCovariance)
            moved = found.moved_from_draw(system, belief.covariance, q, state.rng)
        else:
            moved = found.moved_from_mean(q, state.rng)
        log_factor = moved.log_ratio - found.log_psi
        state = CloudState(moved.x, state.schedule, state.rng, clouds, log_factor, found.sites, state.k + 1)
        done, before = (round(k * clouds.log_w.numel() / rng.draws) for k in (state.k, state.k - 1))
        info: Info = {"nfe": torch.full((rng.draws,), done - before, device=problem.device)}
        return self._finished(problem, state, rng, info) if last else (state, info)

    def _finished(self, problem: Problem, state: CloudState, rng: Rng, info: Info) -> tuple[CloudState, Info]:
        """The draws, from the final weights."""
        shape = state.clouds.log_w.shape
        log_likelihood = problem.log_likelihood(state.x).flatten(1).double().sum(1)
        clouds = state.clouds.weighted((state.log_factor + log_likelihood).reshape(shape))
        if self.weighted:
            cloud = torch.arange(len(state.x), device=state.x.device) // shape[1]
            x, info["log_weight"] = state.x, (clouds.log_w + clouds.collected[:, None]).flatten()
        else:
            u, like = state.rng.uniform()[: shape[0]], state.x.unflatten(0, shape)
            cloud, particle = share(clouds.log_w, u, rng.draws, like)
            x = state.x[cloud * shape[1] + particle]
        info |= {
            "cloud": cloud,
            "particles_ess": clouds.least[cloud],
            "log_evidence": clouds.log_evidence[cloud],
            "log_evidence_error": clouds.log_evidence_error[cloud],
        }
        return replace(state, x=x, clouds=clouds), info

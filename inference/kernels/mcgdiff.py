r"""MCGDiff: a particle filter along the path, in the singular directions of the operator.

With D the standard deviations of the noise and ``D^-1 A = U S V^T``, y is one reading of every direction that A sees,
``d_i = (U^T D^-1 y)_i / s_i = (V^T x_0)_i + n_i``, ``n_i ~ N(0, r_i^2)``, ``r_i = 1 / s_i``, which is the law of a
state of the forward process at the noise ratio r_i.  So take the first level k_i of the path whose ratio
``rho = b / a`` is r_i or less.  Given the state there, ``v_i = (V^T x)_i / a``, y says ``d_i ~ N(v_i, r_i^2 -
rho_{k_i}^2)``, whatever the states below and the other directions are.  The posterior is the path of the prior with
these factors.  Above k_i they are announced by the forward process, so that every level k from the noisiest to k_i has

    g_k(v_i) = N(v_i; d_i, gamma_i),    gamma_i = rho_k^2 - rho_{k_i}^2 + (r_i^2 - rho_{k_i}^2).

A move of the sampler, in these units ``N(m_i, n^2)`` in every direction, is conditioned on the factors of the level it
leads to, and the weight, known before the particles move, is what that costs:

    w'  = w prod_i N(d_i; m_i, n^2 + gamma_i) / g_k(v_i)        over the directions with a factor at level k + 1
    v_i ~ N(m_i + K (d_i - m_i), K gamma_i),   K = n^2 / (n^2 + gamma_i);    the other directions as the sampler moves.

The move is that of DDIM from ``x_0 ~ N(x0_hat, r^2 I)``: with the r^2 that is calibrated for the level the draws have
the right width after a few steps.  The published move starts from ``x0_hat``, which makes them too narrow, and its last
one is without noise; here it has in any case that of the last level where the data are better than this level.

A block of B draws is made of ``ceil(B / particles)`` clouds, independent of each other, whose final weights give each
its share of draws.  Draws of one cloud have ancestors in common: how often a mode is found is known as well as the
number of clouds and their ``ess`` allow, however many draws there are.

Exact in the limit of many particles and many steps.

The paper puts a datum at the level of the nearest ratio and gives it there a variance ``kappa (1 + rho^2)`` in place of
what is left of its own.  The published benchmark is ``MCGDiff(kappa=1e-2, eta=0.85, spread="published",
ess_threshold=1.0, resampling="multinomial")``; resampling at every step lets modes die out that the start had.

Source: Cardoso, Janati El Idrissi, Le Corff and Moulines 2024 (ICLR, arXiv 2308.07983), algorithm 1 and section 2.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.covariances import ScalarCovariance
from bayes_ir.inference.denoising_posterior import Calibrated, Isotropic
from bayes_ir.inference.kernels._replacement import KnownPart, known_part
from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.kernels.spectral import SpectralKernel, coordinates
from bayes_ir.inference.particles import Clouds, share, take
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import DDIM, Level
from bayes_ir.models.diffusion import Scalar
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["MCGDiff"]

_SPREADS = ("calibrated", "isotropic", "published")


class _Data(NamedTuple):
    """The data in singular directions, and down to which level each of them is announced."""

    known: KnownPart
    ratios: Tensor  # rho of all levels, (levels,)
    last: Tensor  # k_i, (r,)
    left: Tensor  # gamma_i at k_i, (r,)

    def active(self, k: int) -> Tensor:
        """Which directions have a factor at level k, (r,)."""
        return self.last >= k

    def gamma(self, k: int) -> Tensor:
        """Variances of the factors at level k, (r,); of no meaning where there is none."""
        return self.ratios[k] ** 2 - self.ratios[self.last] ** 2 + self.left

    def log_factor(self, v: Tensor, variance: Tensor, active: Tensor) -> Tensor:
        """``sum log N(d_i; v_i, variance_i)`` over active directions of v (C, N, r): (C, N)."""
        terms = (v - self.known.data).square() / variance + (2 * math.pi * variance).log()
        return -0.5 * torch.where(active, terms, 0.0).sum(-1)

    def move(self, mean: Tensor, n: float, free: Scalar, k: int, z: Tensor) -> Tensor:
        """``x / a`` at level k, from ``N(mean, n^2)`` given the data where active and ``N(mean, free^2)`` elsewhere."""
        moved, m, gamma = mean + free * z, coordinates(self.known, mean), self.gamma(k)
        gain = n**2 / (n**2 + gamma)
        v = m + gain * (self.known.data - m) + (gain * gamma).sqrt() * coordinates(self.known, z)
        change = torch.where(self.active(k), v - coordinates(self.known, moved), 0.0)
        return moved + self.known.svd.right(change).to(moved.dtype)


class _Memory(NamedTuple):
    data: _Data
    clouds: Clouds


@dataclass(frozen=True, kw_only=True)
class MCGDiff(SpectralKernel):
    """MCGDiff for a Gaussian channel and a linear operator with a decomposition.

    A draw reports its ``cloud`` (number in the block), and of this cloud the smallest effective sample size on its way,
    ``ess``, the estimate ``log_evidence`` of ``log p(y)`` and its ``log_evidence_error`` by the genealogy (see
    :mod:`bayes_ir.inference.particles`).  ``nfe`` are the evaluations of all particles, divided among the draws.

    Attributes:
        particles: particles of a cloud.  All clouds are evaluated at once, which takes the memory of a block of
            ``ceil(draws / particles) * particles`` draws.
        steps: network evaluations of a particle.
        eta: stochasticity of DDIM, above 0 and up to 1.
        grid: name of the time grid; see :class:`bayes_ir.inference.samplers.gridded.GriddedSampler`.
        spread: r, ``"calibrated"`` for the prior and the level, ``"isotropic"`` for ``s^2 q / (s^2 + q)`` with
            ``q = rho^2`` and s^2 the prior's mean variance, or ``"published"``, which is 0.
        ess_threshold: share of the particles; a cloud whose effective sample size is below is resampled.  At 0 none
            is, at 1 all are at every step.
        resampling: ``"systematic"`` or ``"multinomial"``.
        kappa: published variance of the data at their level, or ``None`` for what is left of their own.

    Raises:
        ModelError: for a channel other than Gaussian, an operator that is not linear or has no decomposition, or a
            prior without the calibration.
        ValueError: for settings out of range.
    """

    citation: ClassVar[str] = "Cardoso et al. 2024 (arXiv 2308.07983)"
    one_batch: ClassVar[bool] = False
    particles: int = 1000
    steps: int = 100
    eta: float = 1.0
    grid: str = "uniform"
    spread: str = "calibrated"
    ess_threshold: float = 0.8
    resampling: str = "systematic"
    kappa: float | None = None

    def __post_init__(self) -> None:
        if self.particles < 2 or not (0 <= self.ess_threshold <= 1 and 0 < self.eta <= 1):
            raise ValueError(
                "MCGDiff: expected particles >= 2, 0 <= ess_threshold <= 1 and 0 < eta <= 1, got "
                f"particles={self.particles}, ess_threshold={self.ess_threshold}, eta={self.eta}."
            )
        named = self.resampling in ("systematic", "multinomial") and self.spread in _SPREADS
        if not (named and (self.kappa is None or self.kappa > 0)):
            raise ValueError(
                "MCGDiff: expected resampling 'systematic' or 'multinomial', spread 'calibrated', 'isotropic' or "
                f"'published', and kappa > 0 or None, got resampling={self.resampling!r}, spread={self.spread!r}, "
                f"kappa={self.kappa}."
            )
        _ = self.sampler  # refuses steps and grids

    @property
    def sampler(self) -> DDIM:
        return DDIM(steps=self.steps, grid=self.grid, eta=self.eta)

    @property
    def block_size(self) -> int:
        """The draws of one cloud."""
        return self.particles

    def check(self, problem: Problem) -> None:
        super().check(problem)
        if self.spread == "calibrated":
            try:
                problem.prior.calibration("scalar")
            except ValueError as error:
                raise ModelError(f"{error} Or set MCGDiff(spread='isotropic').") from error

    def init(self, problem: Problem, rng: Rng) -> PathState:
        prior = self._prior(problem)
        schedule = self.sampler.schedule(prior)
        data, first = self._data(problem, schedule), schedule[0]
        clouds = Clouds.start(math.ceil(rng.draws / self.particles), self.particles, problem.device)
        z = self._normal(problem, clouds, rng)
        mean, free = prior.mean.to(z).expand_as(z), (prior.variance.to(z) + first.ratio**2).sqrt()
        n = (prior.mean_variance + first.ratio**2) ** 0.5
        cost = data.log_factor(coordinates(data.known, mean), n**2 + data.gamma(0), data.active(0))
        x = first.a * data.move(mean, n, free, 0, z)
        return PathState(x, schedule, memory=_Memory(data, clouds.weighted(cost)))

    def step(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        (now, then), prior = state.levels, self._prior(problem)
        data, clouds = state.memory
        x, k, known = state.x, state.k + 1, data.known
        q, active = self.sampler.transition(now, then), data.active(k)
        free = (q.noise**2 + q.clean**2 * self._doubt(prior, now)) ** 0.5 / then.a
        n = max(free, now.ratio) if state.last else free
        mean = q.mean(x, prior.denoise_at(x, now.a, now.b)) / then.a
        after = data.log_factor(coordinates(known, mean), n**2 + data.gamma(k), active)
        before = data.log_factor(coordinates(known, x) / now.a, data.gamma(k - 1), active)
        u = rng.spawn(len(x)).uniform(*([self.particles] if self.resampling == "multinomial" else []))
        clouds, ancestors = clouds.weighted(after - before).resampled(self.ess_threshold, u)
        x = then.a * data.move(take(mean, ancestors), n, free, k, self._normal(problem, clouds, rng))
        info: Info = {"nfe": _divided(clouds.log_w.numel(), rng.draws, x.device)}
        if state.last:
            cloud, particle = share(clouds.log_w, rng.spawn(len(x)).uniform(), rng.draws)
            x = x[cloud, particle]
            evidence = clouds.log_evidence + _log_volume(problem, known)
            info |= {"cloud": cloud, "ess": clouds.least[cloud], "log_evidence": evidence[cloud]}
            info["log_evidence_error"] = clouds.log_evidence_error[cloud]
        return state.moved(x, memory=_Memory(data, clouds)), info

    def _doubt(self, prior: DiffusionPrior, level: Level) -> float:
        """The variance ``r^2`` of a pixel of ``x_0`` around ``x0_hat``."""
        if self.spread == "published":
            return 0.0
        rule = Calibrated(basis="scalar") if self.spread == "calibrated" else Isotropic()
        variance = rule.covariance(prior, level)
        assert isinstance(variance, ScalarCovariance)
        return variance.variance

    def _data(self, problem: Problem, schedule: list[Level]) -> _Data:
        known = known_part(problem)
        ratios = known.noise.new_tensor([level.ratio for level in schedule])
        r2, rho2 = known.noise**2, ratios[:, None] ** 2
        if self.kappa is None:
            last = (rho2 <= r2).long().argmax(0)
            return _Data(known, ratios, last, r2 - ratios[last] ** 2)
        last = ((r2 - rho2).abs() / (1 + rho2)).argmin(0)
        return _Data(known, ratios, last, self.kappa * (1 + ratios[last] ** 2))

    @staticmethod
    def _normal(problem: Problem, clouds: Clouds, rng: Rng) -> Tensor:
        """A standard normal image for every particle, (C, N, *event_shape)."""
        shape = clouds.log_w.shape
        return rng.spawn(shape.numel()).normal(*problem.prior.event_shape).unflatten(0, shape)


def _divided(total: int, draws: int, device: torch.device) -> Tensor:
    """``total`` evaluations divided among the draws, the first taking what is left over."""
    return total // draws + (torch.arange(draws, device=device) < total % draws).long()


def _log_volume(problem: Problem, known: KnownPart) -> Tensor:
    """``log p(y) - log p(d)``: the change of units, and what of y no image can explain."""
    y, seen = problem.system.y / problem.system.noise, known.data / known.noise
    unexplained = y.square().sum() - seen.square().sum() + (len(y) - len(seen)) * math.log(2 * math.pi)
    return known.noise.log().sum() - 0.5 * unexplained - problem.system.noise.log().sum()

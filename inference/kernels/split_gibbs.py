r"""Split Gibbs: the image and a noisy copy of it, drawn in turn given each other.

    z ~ N(z; x, rho^2 I) p(y | z)      what the data say, no network
    x ~ N(z; x, rho^2 I) p(x)          the denoising posterior p(x_0 | x_t = z) at the noise ratio rho

The second is drawn by the diffusion, from rho down in a few levels of the variance-exploding process, each move from a
draw of ``N(x0_hat, V)``.  rho falls geometrically over the sweeps and stays at its smallest for some more.

Published, ``p(y | z)`` is the likelihood, and what the x then have is the posterior under a likelihood that rho has
smoothed: for Gaussian noise n its covariance is ``D^2 + rho^2 A A^T``.  The first step is exact by perturbing and
solving.  For one-bit and quantized data, which say of ``u = A z + n`` only its cell, two exact draws alternate in it,

    u | z      N((A z)_i, D_i^2) on its cell, every measurement by itself
    z | u, x   as for Gaussian data u.

Here the noise that the copy adds is by default taken off that of the data (``coupling="exact"``), as exact data
augmentation does.  With ``D^-1 A = U S V^T``, ``c = (U^T D^-1 u) / s`` and ``v = V^T x``, direction by direction,

    u | x      N((A x)_i, kappa^2 D_i^2) on its cell,    kappa = max(1, rho s_1)        Gaussian data: u = y
    z | u, x   v + w (c - v) + rho sqrt(1 - w) e,        w = (rho s / kappa)^2          min(1, (rho s)^2)

which has no inner sweeps, and as soon as ``rho s_1 <= 1`` the x have the posterior itself, whatever rho is.

Exact in the limit of many sweeps and many inner levels; published also of ``rho -> 0``.  A sweep moves the image by
about rho, so that a chain forgets in ``(p / rho)^2`` sweeps, with p the width of the posterior: what makes draws good
is the way rho falls.  Every draw is a chain of its own.

Source: Wu et al. 2024 (PnP-DM, arXiv 2405.18782), algorithm 1; Xu and Chi 2024 (DPnP, arXiv 2403.17042); exact data
augmentation by Marnissi et al. 2018; u as in Albert and Chib 1993.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.inference.covariances import ScalarCovariance
from bayes_ir.inference.denoising_posterior import AroundDenoisedMean, Calibrated
from bayes_ir.inference.exact.box_channels import cells_of
from bayes_ir.inference.kernels.base import Info, Kernel
from bayes_ir.inference.predictive import predictive
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Ancestral, Level
from bayes_ir.inference.truncated_normal import truncated_normal
from bayes_ir.models.channels import Gaussian, OneBit, Quantized
from bayes_ir.models.diffusion import VarianceExploding

__all__ = ["SplitGibbs"]

_CALIBRATED, _MOVE = Calibrated(), Ancestral()


@dataclass(frozen=True)
class _State:
    x: Tensor  # (B, *event_shape)
    z: Tensor  # the copy, shaped as x
    rhos: list[float]
    k: int = 0

    @property
    def done(self) -> bool:
        return self.k == len(self.rhos)


@dataclass(frozen=True, kw_only=True)
class SplitGibbs(Kernel[_State]):
    """Split Gibbs sampling for a linear operator and a Gaussian, one-bit or quantized channel.

    Attributes:
        sweeps: sweeps over which rho falls from ``rho_max`` to ``rho_min``.
        last_sweeps: sweeps at ``rho_min`` after them.
        inner_steps: levels of a draw from the denoising posterior, each a network evaluation.  For the same number of
            evaluations more sweeps are worth more than more levels.
        rho_max: largest rho in units of the image, or ``None`` for the prior's largest standard deviation of a pixel.
        rho_min: smallest rho, or ``None`` for the largest that leaves the posterior as it is, ``1 / s_1``, a third of
            it for the published coupling, and in any case not below the prior's ``noise_range``.
        denoising_posterior: ``N(x0_hat, V)`` in the place of ``p(x_0 | x_t)`` between two levels.
        coupling: ``"exact"`` or ``"published"``.
        likelihood_sweeps: draws of u and z in one sweep, where the published coupling alternates them.

    Raises:
        ModelError: for an operator that is not linear, another channel, or ``coupling="exact"`` with an operator that
            has no decomposition.
        ValueError: for settings out of range.
    """

    citation: ClassVar[str] = "Wu et al. 2024 (arXiv 2405.18782)"
    sweeps: int = 200
    last_sweeps: int = 40
    inner_steps: int = 1
    rho_max: float | None = None
    rho_min: float | None = None
    denoising_posterior: AroundDenoisedMean = _CALIBRATED  # type: ignore[misc]
    coupling: str = "exact"
    likelihood_sweeps: int = 1

    def __post_init__(self) -> None:
        if min(self.sweeps - 1, self.last_sweeps + 1, self.inner_steps, self.likelihood_sweeps) < 1:
            raise ValueError(
                "SplitGibbs: expected sweeps >= 2, last_sweeps >= 0, inner_steps >= 1 and likelihood_sweeps >= 1, got "
                f"sweeps={self.sweeps}, last_sweeps={self.last_sweeps}, inner_steps={self.inner_steps}, "
                f"likelihood_sweeps={self.likelihood_sweeps}."
            )
        if self.coupling not in ("exact", "published") or not isinstance(
            self.denoising_posterior, AroundDenoisedMean
        ):
            raise ValueError(
                "SplitGibbs: expected coupling 'exact' or 'published' and a denoising_posterior that can be drawn "
                f"from, Calibrated() or Isotropic(), got {self.coupling!r} and {self.denoising_posterior!r}."
            )
        low, high = (math.nan if rho is None else rho for rho in (self.rho_min, self.rho_max))
        if low <= 0 or high <= 0 or low > high:
            raise ValueError(
                f"SplitGibbs: expected 0 < rho_min <= rho_max, got {self.rho_min} and {self.rho_max}."
            )

    def check(self, problem: Problem) -> None:
        where = f"site {problem.observed_site!r}"
        if not problem.operator.linear:
            raise ModelError(
                f"SplitGibbs needs a linear operator; {where} has {problem.operator!r}, which is not linear. "
                "Use DAPS(), which serves every differentiable operator."
            )
        if not isinstance(problem.channel, (Gaussian, OneBit, Quantized)):
            raise ModelError(
                "SplitGibbs draws exactly from the likelihood of a Gaussian, OneBit or Quantized channel; "
                f"{where} has {type(problem.channel).__name__}. Use DAPS() or QCSSGMPlus(), which serve every channel."
            )
        if self.coupling == "exact" and not problem.system.spectral:
            raise ModelError(
                "SplitGibbs(coupling='exact') needs the singular value decomposition of A divided by its noise; "
                f"{where} has {problem.operator!r}, which has none at this size. Use "
                "SplitGibbs(coupling='published'), which goes by conjugate gradients."
            )
        self.denoising_posterior.covariance(problem.prior, self._levels(problem, self._rhos(problem)[0])[0])

    def length(self, problem: Problem) -> int:
        return self.sweeps + self.last_sweeps

    def init(self, problem: Problem, rng: Rng) -> _State:
        prior = problem.prior
        noise = rng.normal(*prior.event_shape)
        x = (prior.mean + prior.variance.sqrt() * noise).to(noise.dtype)
        return _State(x, x, self._rhos(problem))

    def step(self, problem: Problem, state: _State, rng: Rng) -> tuple[_State, Info]:
        rho = state.rhos[state.k]
        draw = self._coupled if self.coupling == "exact" else self._split
        z = draw(problem, state, rho, rng)
        x = self._denoised(problem, z, rho, rng)
        nfe = torch.full((len(x),), self.inner_steps, dtype=torch.int64, device=x.device)
        return replace(state, x=x, z=z, k=state.k + 1), {"nfe": nfe}

    def _coupled(self, problem: Problem, state: _State, rho: float, rng: Rng) -> Tensor:
        """The copy given x and y, the data's noise being what the copy leaves of it."""
        system, x = problem.system, state.x
        svd, s = system.svd, system.svd.singular_values
        w, inflation = (rho * s).square(), 1.0
        if isinstance(problem.channel, Gaussian):
            u, w = system.y / system.noise, w.clamp(max=1)
        else:
            inflation = max(1.0, rho * problem.system.largest_eigenvalue**0.5)
            u, w = self._in_cells(problem, system.mean(x), inflation, rng), w / inflation**2
        v = svd.right_adjoint(x.double())
        c = svd.left_adjoint(u.unflatten(-1, problem.operator.measurement_shape)) / s
        noise = rho * rng.normal(*x.shape[1:])
        e = svd.right_adjoint(noise.double())
        return x + noise + svd.right(w * (c - v) + ((1 - w).clamp(min=0).sqrt() - 1) * e).to(x.dtype)

    def _split(self, problem: Problem, state: _State, rho: float, rng: Rng) -> Tensor:
        """The copy given x and y as published, by perturbing and solving."""
        system, x, z, v = problem.system, state.x, state.z, ScalarCovariance(rho**2)
        gaussian = isinstance(problem.channel, Gaussian)
        for _ in range(1 if gaussian else self.likelihood_sweeps):
            u = system.y / system.noise if gaussian else self._in_cells(problem, system.mean(z), 1.0, rng)
            z = x + v.root(rng.normal(*x.shape[1:]))
            noise = rng.normal(system.measurements).double()
            z = z + v(predictive(system, v, x).pulled_solve(u - system.mean(z) - noise, x.dtype).image)
        return z

    @staticmethod
    def _in_cells(problem: Problem, mean: Tensor, sd: float, rng: Rng) -> Tensor:
        """``D^-1 u`` from ``N(mean, sd^2)`` in the cells of the data, for means (B, M)."""
        lower, upper = (bound / problem.system.noise for bound in cells_of(problem))
        return mean + sd * truncated_normal(
            (lower - mean) / sd, (upper - mean) / sd, rng.uniform(mean.shape[1])
        )

    def _denoised(self, problem: Problem, z: Tensor, rho: float, rng: Rng) -> Tensor:
        """The image given z: down from rho, the last move being to a draw of ``N(x0_hat, V)``."""
        levels = self._levels(problem, rho)
        prior = problem.prior.with_diffusion(self._process(problem))
        x, shape = z, z.shape[1:]
        for now, then in pairwise(levels):
            belief = self.denoising_posterior.at(prior, x, now)
            x_0 = belief.mean + belief.covariance.root(rng.normal(*shape))
            q = _MOVE.transition(now, then)
            x = q.mean(x, x_0) + q.noise * rng.normal(*shape)
        return x

    def _rhos(self, problem: Problem) -> list[float]:
        low, largest = problem.prior.noise_range[0], problem.system.largest_eigenvalue**0.5
        least = max(low, (1 if self.coupling == "exact" else 1 / 3) / largest)
        high = self.rho_max or float(problem.prior.variance.double().max().sqrt())
        falling = torch.linspace(0, 1, self.sweeps, dtype=torch.float64)
        rhos = high * (min(self.rho_min or least, high) / high) ** falling
        return rhos.tolist() + [float(rhos[-1])] * self.last_sweeps

    def _levels(self, problem: Problem, rho: float) -> list[Level]:
        """Noise ratios from rho to the lowest of the prior in equal proportion, and the clean level."""
        low = min(problem.prior.noise_range[0], rho)
        share = torch.arange(self.inner_steps, dtype=torch.float64) / max(self.inner_steps - 1, 1)
        ratios = rho * (low / rho) ** share
        times = self._process(problem).time_at(ratios)
        levels = [Level(t, 1.0, b) for t, b in zip(times.tolist(), ratios.tolist(), strict=True)]
        return [*levels, Level(0.0, 1.0, 0.0)]

    @staticmethod
    def _process(problem: Problem) -> VarianceExploding:
        return VarianceExploding(*problem.prior.noise_range)

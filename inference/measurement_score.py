r"""What the channel says: the slope r of the log-likelihood of the noised image.

Every rule turns the belief ``x_0 ~ N(mu, V)`` and the measurements into

    A^T r,    r = d/dm log int p(y | z) N(z; m, A V A^T) dz,    m = A mu,

exactly or approximately, and bounds its curvature ``-d r / d m`` so that step sizes can be chosen safely.

A rule that replaces the channel by Gaussian pseudo-data of precision T also says how far x_0 is still uncertain,
``V_y = V - V A^T (K + T^-1)^-1 A V``; a draw of ``N(0, V_y)`` is ``e - V A^T (K + T^-1)^-1 (A e + T^{-1/2} n)`` with
``e ~ N(0, V)`` and n standard normal (Matheron's rule), so that all it takes is one more product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.covariances import ImageCovariance, ScalarCovariance
from bayes_ir.inference.denoising_posterior import Belief
from bayes_ir.inference.expectation_propagation import Sites, expectation_propagation, range_slope
from bayes_ir.inference.predictive import predictive
from bayes_ir.inference.predictive_laws import Spectral
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.system import System
from bayes_ir.models.channels import Channel, Gaussian
from bayes_ir.models.diffusion import Scalar

__all__ = [
    "DiagonalMarginal",
    "GaussianMarginal",
    "InflatedNoise",
    "MeasurementScore",
    "PropagatedMarginal",
    "RowSumMarginal",
    "ScoreResult",
]

PullBack = Callable[[Tensor, Tensor], Tensor]


class ScoreResult(NamedTuple):
    """``A^T r`` for a batch of images, what the next call may start from, and what to report."""

    pulled_slope: Tensor  # A^T r, (B, *event_shape)
    memory: Any
    info: dict[str, Tensor]  # each (B,)
    pull_back: PullBack | None = None  # (A e, n) -> A^T (K + T^-1)^-1 (A e + T^{-1/2} n), both (B, M)


class MeasurementScore(ABC):
    """A rule for ``A^T r`` under a belief about the image."""

    channels: tuple[type[Channel], ...] = (Channel,)

    def check(self, problem: Problem, kernel: str) -> None:
        """Refuse a channel this rule cannot serve."""
        if not isinstance(problem.channel, self.channels):
            names = " or ".join(c.__name__ for c in self.channels)
            raise ModelError(
                f"{kernel} needs a {names} channel; site {problem.observed_site!r} has "
                f"{type(problem.channel).__name__}. Use QCSSGMPlus(), which serves every channel."
            )

    @abstractmethod
    def __call__(self, system: System, belief: Belief, memory: Any) -> ScoreResult:
        """Evaluate the rule for a batch of beliefs."""

    @abstractmethod
    def largest_curvature(self, system: System, covariance: ImageCovariance) -> Scalar:
        """Upper bound of the eigenvalues of ``-A^T (dr/dm) A``, a number."""


@dataclass(frozen=True)
class GaussianMarginal(MeasurementScore):
    """Gaussian channel, exact: ``r = (A V A^T + D^2)^-1 (y - m)``, by decomposition or conjugate gradients.

    Attributes:
        tolerance: relative residual of conjugate gradients, where there are any.
        max_iterations: cap on their iterations.
    """

    channels = (Gaussian,)
    tolerance: float = 1e-5
    max_iterations: int = 300

    def __call__(self, system: System, belief: Belief, memory: Any) -> ScoreResult:
        mu = belief.mean
        law = predictive(
            system, belief.covariance, mu, tolerance=self.tolerance, max_iterations=self.max_iterations
        )
        found = law.pulled_solve(system.residual(mu), mu.dtype, memory)
        return ScoreResult(
            found.image, found.solved, found.info, lambda e, n: law.pulled_solve(e + n, mu.dtype).image
        )

    def largest_curvature(self, system: System, covariance: ImageCovariance) -> Scalar:
        return _marginal_curvature(system, covariance)


@dataclass(frozen=True)
class InflatedNoise(MeasurementScore):
    """Gaussian channel with its noise inflated, not spread through A: ``r_m = (y - m)_m / (sigma_m^2 + v)``.

    Source: Jalal et al. 2021 (arXiv 2108.01368), equation 4, with ``gamma_t^2 = v``.
    """

    channels = (Gaussian,)

    def __call__(self, system: System, belief: Belief, memory: Any) -> ScoreResult:
        weight = system.noise**2 / (system.noise**2 + belief.covariance.highest)
        return ScoreResult(system.adjoint(weight * system.residual(belief.mean), belief.mean.dtype), None, {})

    def largest_curvature(self, system: System, covariance: ImageCovariance) -> Scalar:
        weight = system.noise**2 / (system.noise**2 + covariance.lowest)
        return system.largest_eigenvalue * weight.max()


@dataclass(frozen=True)
class DiagonalMarginal(MeasurementScore):
    """Each measurement by itself: ``r_m`` from ``z_m ~ N(m_m, [A V A^T]_mm)``, correlations ignored.

    Source: Meng and Kabashima 2023 (QCS-SGM, arXiv 2211.13006), theorem 1.
    """

    def __call__(self, system: System, belief: Belief, memory: Any) -> ScoreResult:
        mu = belief.mean
        slope = system.tilt(system.mean(mu), predictive(system, belief.covariance, mu).variance).slope
        return ScoreResult(system.adjoint(slope, mu.dtype), None, {})

    def largest_curvature(self, system: System, covariance: ImageCovariance) -> Scalar:
        # A^T diag(c) A with c_m <= 1 / (1 / c + v [A A^T]_mm) for a log-concave channel of curvature c at most.
        c = system.largest_channel_curvature
        return system.largest_eigenvalue * c / (1 + covariance.lowest * c * system.least_row_energy)


@dataclass(frozen=True)
class RowSumMarginal(MeasurementScore):
    """Each measurement by itself, with the row sums of ``A V A^T`` for its variances: one product with V.

    Source: Boys et al. 2023 (TMPD, arXiv 2310.06721), section 3.2.
    """

    def __call__(self, system: System, belief: Belief, memory: Any) -> ScoreResult:
        mu = belief.mean
        # D^-1 A V A^T 1: the row sums over noise_m, where whitened variances carry noise_m^-2.
        rows = system.apply(belief.covariance(system.adjoint(system.noise.expand(len(mu), -1), mu.dtype)))
        variance = (rows / system.noise).clamp(min=0)
        slope = system.tilt(system.mean(mu), variance).slope
        return ScoreResult(system.adjoint(slope, mu.dtype), None, {})

    def largest_curvature(self, system: System, covariance: ImageCovariance) -> Scalar:
        return system.largest_eigenvalue * system.largest_channel_curvature


@dataclass(frozen=True)
class PropagatedMarginal(MeasurementScore):
    """Any channel by expectation propagation, a Gaussian one in closed form.

    Attributes:
        per_site: own site variances instead of a shared one; ``None`` for up to 100 measurements, where a shared
            variance averages over too few sites and a factorisation per draw and sweep is cheap.
        tolerance: relative change at which a draw's sites have converged.
        max_sweeps: cap on the sweeps of one call.
        damping: share of the old sites kept in an update.
    """

    per_site: bool | None = None
    tolerance: float = 1e-4
    max_sweeps: int = 30
    damping: float = 0.2

    def __call__(self, system: System, belief: Belief, memory: Any) -> ScoreResult:
        mu, v = belief.mean, belief.covariance
        if isinstance(system.channel, Gaussian):
            return GaussianMarginal()(system, belief, memory)
        if isinstance(v, ScalarCovariance) and v.variance == 0:
            slope = system.tilt(system.mean(mu), v.variance).slope
            return ScoreResult(system.adjoint(slope, mu.dtype), None, {})
        law = predictive(system, v, mu, spectral=True)
        assert isinstance(law, Spectral)
        per_site = law.measurements <= 100 if self.per_site is None else self.per_site
        result = expectation_propagation(
            law,
            system.mean(mu),
            start=memory,
            per_site=per_site,
            tolerance=self.tolerance,
            max_sweeps=self.max_sweeps,
            damping=self.damping,
        )
        # Sites that did not settle are no place to start from.
        settled = (result.residual < 0.5)[:, None]
        sites = Sites(*(torch.where(settled, site, 0.0) for site in result.sites))
        tau = result.sites.tau

        def pull_back(e: Tensor, n: Tensor) -> Tensor:
            # (K + T^-1)^-1 (A e + T^{-1/2} n) = (I + T K)^-1 (T A e + T^{1/2} n): no T^-1, which may be infinite.
            pseudo = tau * e + tau.clamp(min=0).sqrt() * n
            return law.pull(range_slope(law, pseudo, tau, per_site), mu.dtype)

        info = {"ep_sweeps": result.sweeps, "ep_residual": result.residual}
        return ScoreResult(law.pull(result.range_slope, mu.dtype), sites, info, pull_back)

    def largest_curvature(self, system: System, covariance: ImageCovariance) -> Scalar:
        # (K + T^-1)^-1 with tau at most the largest curvature of a log-concave channel.
        return _marginal_curvature(system, covariance)


def _marginal_curvature(system: System, covariance: ImageCovariance) -> Scalar:
    """Bound of the eigenvalues of ``A'^T (1/c + A' V A'^T)^-1 A'`` with ``A' = D^-1 A``, from the smallest of V."""
    largest = system.largest_eigenvalue * system.largest_channel_curvature
    return largest / (1 + covariance.lowest * largest)

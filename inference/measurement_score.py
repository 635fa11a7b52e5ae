r"""What the channel says: the slope r of the log-likelihood of the noised image.

Every rule turns ``z = A x_0 ~ N(m, v A A^T)`` and the measurements into

    A^T r,    r = d/dm log int p(y | z) N(z; m, v A A^T) dz,

exactly or approximately, and bounds its curvature ``-d r / d m`` so that step sizes can be
chosen safely.  Arithmetic happens in the whitened singular coordinates of :class:`System`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.expectation_propagation import Sites, expectation_propagation
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.system import SpectralSystem, System
from bayes_ir.models.channels import Channel, Gaussian

__all__ = [
    "DiagonalMarginal",
    "GaussianMarginal",
    "InflatedNoise",
    "MeasurementScore",
    "PropagatedMarginal",
    "ScoreResult",
]


class ScoreResult(NamedTuple):
    """``A^T r`` for a batch of images, what the next call may start from, and what to report."""

    pulled_slope: Tensor  # A^T r, (B, *event_shape)
    memory: Any
    info: dict[str, Tensor]  # each (B,)


class MeasurementScore(ABC):
    """A rule for ``A^T r``; the mean is given as the image ``mu`` with ``m = A mu``."""

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
    def __call__(self, system: System, mu: Tensor, variance: Tensor, memory: Any) -> ScoreResult:
        """Evaluate the rule at images mu (B, *event_shape) with ``V = variance * I`` (float64 scalar)."""

    @abstractmethod
    def largest_curvature(self, system: System, variance: Tensor) -> Tensor:
        """Upper bound of the eigenvalues of ``-A^T (dr/dm) A``, a float64 scalar."""


@dataclass(frozen=True)
class GaussianMarginal(MeasurementScore):
    """Gaussian channel, exact: ``r = (v A A^T + D^2)^-1 (y - m)``, by decomposition or conjugate gradients."""

    channels = (Gaussian,)

    def __call__(self, system: System, mu: Tensor, variance: Tensor, memory: Any) -> ScoreResult:
        return ScoreResult(*system.pulled_solve(system.residual(mu), variance, mu.dtype, memory))

    def largest_curvature(self, system: System, variance: Tensor) -> Tensor:
        return _marginal_curvature(system, variance)


@dataclass(frozen=True)
class InflatedNoise(MeasurementScore):
    """Gaussian channel with its noise inflated, not spread through A: ``r_m = (y - m)_m / (sigma_m^2 + v)``.

    Source: Jalal et al. 2021 (arXiv 2108.01368), equation 4, with ``gamma_t^2 = v``.
    """

    channels = (Gaussian,)

    def __call__(self, system: System, mu: Tensor, variance: Tensor, memory: Any) -> ScoreResult:
        weight = system.noise**2 / (system.noise**2 + variance)
        return ScoreResult(system.adjoint(weight * system.residual(mu), mu.dtype), None, {})

    def largest_curvature(self, system: System, variance: Tensor) -> Tensor:
        weight = system.noise**2 / (system.noise**2 + variance)
        return system.largest_eigenvalue * weight.max()


@dataclass(frozen=True)
class DiagonalMarginal(MeasurementScore):
    """Each measurement by itself: ``r_m`` from ``z_m ~ N(m_m, v [A A^T]_mm)``, correlations ignored.

    Source: Meng and Kabashima 2023 (QCS-SGM, arXiv 2211.13006), theorem 1.
    """

    def __call__(self, system: System, mu: Tensor, variance: Tensor, memory: Any) -> ScoreResult:
        slope = system.tilt(system.apply(mu), variance * system.row_energy).slope
        return ScoreResult(system.adjoint(slope, mu.dtype), None, {})

    def largest_curvature(self, system: System, variance: Tensor) -> Tensor:
        # A^T diag(c) A with c_m <= 1 / (1 + v [A A^T]_mm) for a log-concave channel of unit noise.
        return system.largest_eigenvalue / (1 + variance * system.row_energy.min())


@dataclass(frozen=True)
class PropagatedMarginal(MeasurementScore):
    """Any channel by expectation propagation, a Gaussian one in closed form.

    Attributes:
        per_site: own site variances instead of a shared one.
        tolerance: relative change at which a draw's sites have converged.
        max_sweeps: cap on the sweeps of one call.
        damping: share of the old sites kept in an update.
    """

    per_site: bool = False
    tolerance: float = 1e-4
    max_sweeps: int = 30
    damping: float = 0.2

    def check(self, problem: Problem, kernel: str) -> None:
        super().check(problem, kernel)
        if not isinstance(problem.channel, Gaussian) and not isinstance(problem.system, SpectralSystem):
            raise ModelError(
                f"{kernel}: expectation propagation needs the singular values of the operator, and "
                f"{problem.operator!r} is too large to decompose; use QCSSGM(), which treats one measurement at a "
                "time, or an operator with structure (A.has_svd)."
            )

    def __call__(self, system: System, mu: Tensor, variance: Tensor, memory: Any) -> ScoreResult:
        if isinstance(system.channel, Gaussian):
            return GaussianMarginal()(system, mu, variance, memory)
        assert isinstance(system, SpectralSystem)  # see check
        result = expectation_propagation(
            system,
            system.apply(mu),
            variance * system.singular_values**2,
            start=memory,
            per_site=self.per_site,
            tolerance=self.tolerance,
            max_sweeps=self.max_sweeps,
            damping=self.damping,
        )
        # Sites that did not settle are no place to start from.
        settled = (result.residual < 0.5)[:, None]
        sites = Sites(*(torch.where(settled, site, 0.0) for site in result.sites))
        info = {"ep_sweeps": result.sweeps, "ep_residual": result.residual}
        return ScoreResult(system.pull(result.range_slope, mu.dtype), sites, info)

    def largest_curvature(self, system: System, variance: Tensor) -> Tensor:
        # (K + T^-1)^-1 <= (K + I)^-1, because a log-concave channel of unit noise has tau <= 1.
        return _marginal_curvature(system, variance)


def _marginal_curvature(system: System, variance: Tensor) -> Tensor:
    """Largest eigenvalue of ``A'^T (I + v A' A'^T)^-1 A'`` with ``A' = D^-1 A``; it grows with that of ``A' A'^T``."""
    return system.largest_eigenvalue / (1 + variance * system.largest_eigenvalue)

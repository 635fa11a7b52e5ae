r"""QCS-SGM+: annealed Langevin dynamics with expectation propagation, for any channel and any A.

With the flat denoising posterior ``x_0 | x_t ~ N(x_t, b^2 I)`` the pseudo-likelihood is

    l_t(x_t) = int p(y | z) N(z; A x_t, b^2 A A^T) dz,

whose score EP gives (see :mod:`bayes_ir.inference.expectation_propagation`), warm-started from the
sites of the last step.  The published step matches the norm of the likelihood score to that of the prior
over the whole batch, which couples draws and discards the noise level; here the two add with weight one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.measurement_score import MeasurementScore, PropagatedMarginal
from bayes_ir.inference.samplers import Langevin, Sampler

__all__ = ["QCSSGMPlus"]


@dataclass(frozen=True, kw_only=True)
class QCSSGMPlus(GuidedKernel):
    """QCS-SGM+ for every channel with tilted moments; exact likelihood scores for a Gaussian one.

    Step sizes follow from the largest curvature of each level, not from the published constant, which
    diverges with an accurate denoiser (see :class:`bayes_ir.inference.samplers.Langevin`).

    Attributes:
        levels: noise levels, geometric (see :class:`bayes_ir.inference.samplers.Langevin`).
        steps_per_level: Langevin steps at each.
        step_size: step size as a fraction of the inverse of the largest curvature.
        per_site: own site variances in EP instead of a shared one (slower; better for few measurements).
        tolerance: relative change of the sites at which EP has converged.
        max_sweeps: cap on the EP sweeps of one step.
        damping: share of the old sites kept in an EP update, in [0, 1).
    """

    citation: ClassVar[str] = "Meng and Kabashima 2023 (arXiv 2302.00919)"
    levels: int = 232
    steps_per_level: int = 5
    step_size: float = 1.5
    per_site: bool = False
    tolerance: float = 1e-3
    max_sweeps: int = 20
    damping: float = 0.2

    def __post_init__(self) -> None:
        if not self.tolerance > 0 or self.max_sweeps < 1 or not 0 <= self.damping < 1:
            raise ValueError(
                "QCSSGMPlus: expected tolerance > 0, max_sweeps >= 1 and 0 <= damping < 1, got "
                f"tolerance={self.tolerance}, max_sweeps={self.max_sweeps}, damping={self.damping}."
            )

    @property
    def measurement_score(self) -> MeasurementScore:
        return PropagatedMarginal(self.per_site, self.tolerance, self.max_sweeps, self.damping)

    @property
    def sampler(self) -> Sampler:
        return Langevin(levels=self.levels, steps_per_level=self.steps_per_level, step_size=self.step_size)

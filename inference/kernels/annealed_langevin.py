r"""Annealed Langevin dynamics for Gaussian measurements.

At noise level ``b`` (variance exploding) the chain targets ``p(x_t) l_t(x_t)`` with

    l_t(x_t) = N(y; A x_t, sigma^2 I + b^2 A A^T),

the marginal of y if ``x_0`` given ``x_t`` were ``N(x_t, b^2 I)``.  As ``b`` falls ``l_t``
becomes the likelihood and the chain ends at ``p(x | y)``.  With ``inflated=True`` the covariance is
``(sigma^2 + b^2) I`` instead, the form of Jalal et al. 2021.

What it approximates: the levels in between are not the noised posterior, so weights of modes that
part at high noise are those of the level at which they parted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.measurement_score import GaussianMarginal, InflatedNoise, MeasurementScore
from bayes_ir.inference.samplers import Langevin, Sampler

__all__ = ["AnnealedLangevin"]


@dataclass(frozen=True, kw_only=True)
class AnnealedLangevin(GuidedKernel):
    """Annealed Langevin dynamics for a Gaussian channel.

    Step sizes follow from the largest curvature of each level (see
    :class:`bayes_ir.inference.samplers.Langevin`), so they are stable for any denoiser.

    Attributes:
        levels: noise levels, geometric (see :class:`bayes_ir.inference.samplers.Langevin`).
        steps_per_level: Langevin steps at each; ``levels * steps_per_level`` network evaluations.
        step_size: step size as a fraction of the inverse of the largest curvature.
        inflated: the form of Jalal et al.

    Raises:
        ModelError: for a channel other than Gaussian.
    """

    citation: ClassVar[str] = (
        "Song and Ermon 2019 (arXiv 1907.05600); inflated: Jalal et al. 2021 (arXiv 2108.01368)"
    )
    levels: int = 232
    steps_per_level: int = 5
    step_size: float = 1.5
    inflated: bool = False

    @property
    def measurement_score(self) -> MeasurementScore:
        return InflatedNoise() if self.inflated else GaussianMarginal()

    @property
    def sampler(self) -> Sampler:
        return Langevin(levels=self.levels, steps_per_level=self.steps_per_level, step_size=self.step_size)

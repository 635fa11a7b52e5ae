r"""QCS-SGM: annealed Langevin dynamics for quantized measurements, one measurement at a time.

With the flat denoising posterior ``x_0 | x_t ~ N(x_t, b^2 I)`` each noisy measurement is

    z_m + n_m | x_t ~ N([A x_t]_m, sigma_m^2 + b^2 [A A^T]_mm),

and the pseudo-likelihood is the product of their cell probabilities: exact when the rows of A are
orthogonal, otherwise an approximation that ignores their correlations (QCS-SGM+ does not).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.measurement_score import DiagonalMarginal, MeasurementScore
from bayes_ir.inference.samplers import Langevin, Sampler

__all__ = ["QCSSGM"]


@dataclass(frozen=True, kw_only=True)
class QCSSGM(GuidedKernel):
    """QCS-SGM for 1-bit, quantized and Gaussian channels.

    Step sizes follow from the largest curvature of each level, not from the published constant, which
    diverges with an accurate denoiser (see :class:`bayes_ir.inference.samplers.Langevin`).

    Attributes:
        levels: noise levels, geometric (see :class:`bayes_ir.inference.samplers.Langevin`).
        steps_per_level: Langevin steps at each.
        step_size: step size as a fraction of the inverse of the largest curvature.
    """

    citation: ClassVar[str] = "Meng and Kabashima 2023, ICLR (arXiv 2211.13006)"
    levels: int = 232
    steps_per_level: int = 5
    step_size: float = 1.5

    @property
    def measurement_score(self) -> MeasurementScore:
        return DiagonalMarginal()

    @property
    def sampler(self) -> Sampler:
        return Langevin(levels=self.levels, steps_per_level=self.steps_per_level, step_size=self.step_size)

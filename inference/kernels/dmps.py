r"""DMPS: diffusion model posterior sampling for linear Gaussian measurements.

With the flat denoising posterior ``x_0 | x_t ~ N(x_t / a, (b / a)^2 I)``,

    grad log p(y | x_t) = A^T (sigma^2 I + (b / a)^2 A A^T)^-1 (y - A x_t / a) / a,

by the singular value decomposition of A, is added to the score at ``x_t`` of an ancestral step.  (The
released code evaluates it at ``x_{t-1}`` with the coefficients of level t and multiplies it by 1.75;
``scale=1.75`` gives the second.)  On a rectified flow the same guidance bends the velocity and the path is
followed by Euler's rule.

What it approximates: the flat denoising posterior is wrong whenever the prior knows more than ``x_t``, so the
draws are biased at every step count; the tables of the documentation say by how much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.measurement_score import GaussianMarginal, MeasurementScore
from bayes_ir.inference.samplers import DDIM, Ancestral, Sampler
from bayes_ir.models.diffusion import DDPM, Diffusion, RectifiedFlow
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["DMPS"]


@dataclass(frozen=True, kw_only=True)
class DMPS(GuidedKernel):
    """DMPS for a Gaussian channel.

    Attributes:
        steps: network evaluations.
        diffusion: ``DDPM()`` for the ancestral form, ``RectifiedFlow()`` for the flow form.
        scale: weight of the likelihood score; 1 is Bayes, 1.75 the published constant.

    Raises:
        ModelError: for a channel other than Gaussian.
    """

    citation: ClassVar[str] = "Meng and Kabashima 2022 (arXiv 2211.12343)"
    steps: int = 1000
    diffusion: Diffusion = field(default_factory=DDPM)
    scale: float = 1.0

    @property
    def measurement_score(self) -> MeasurementScore:
        return GaussianMarginal()

    @property
    def sampler(self) -> Sampler:
        if isinstance(self.diffusion, RectifiedFlow):
            return DDIM(steps=self.steps, eta=0.0)
        return Ancestral(steps=self.steps)

    def process(self, prior: DiffusionPrior) -> Diffusion:
        return self.diffusion

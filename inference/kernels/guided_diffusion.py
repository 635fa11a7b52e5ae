r"""Guided diffusion with every part chosen: the general kernel, of which the published ones are presets.

    mu, v            denoising posterior at (x_t, x0_hat)
    A^T r            what the channel says: exact for a Gaussian one, expectation propagation for the others
    x0_hat(x_t, y)   x0_hat + K r
    x                the sampler's move, as if x0_hat(x_t, y) were the denoised mean

With ``Isotropic(with_jacobian=True)`` it is PiGDM, with ``Point()`` the DPS approximation at its proper weight, with
``Flat()`` DMPS; each with the sampler of one's choice.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar

from bayes_ir.inference.denoising_posterior import DenoisingPosterior, Isotropic
from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.measurement_score import MeasurementScore, PropagatedMarginal
from bayes_ir.inference.samplers import DDIM, Langevin, Sampler
from bayes_ir.models.diffusion import DDPM, Diffusion
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["GuidedDiffusion"]

_ISOTROPIC, _DDIM = Isotropic(), DDIM(steps=100, eta=1.0)


@dataclass(frozen=True, kw_only=True)
class GuidedDiffusion(GuidedKernel):
    """Guided diffusion for any linear operator and any channel.

    What it approximates: the denoising posterior; and no guided path gets the weights of modes right that part
    early.

    Attributes:
        denoising_posterior: Gaussian stand-in for ``p(x_0 | x_t)``.
        sampler: how the denoiser becomes a path; Langevin walks the variance-exploding process, the others DDPM's.
        steps: network evaluations, instead of those of the sampler.
        scale: weight of the measurement score; 1 is Bayes.
        per_site: own site variances in EP instead of a shared one.
    """

    citation: ClassVar[str] = "Song et al. 2023 (PiGDM, ICLR) and the methods named in its parts"
    denoising_posterior: DenoisingPosterior = _ISOTROPIC
    sampler: Sampler = _DDIM
    steps: int | None = None
    scale: float = 1.0
    per_site: bool = False

    def __post_init__(self) -> None:
        if self.steps is None:
            return
        if "steps" not in {field.name for field in fields(self.sampler)}:  # type: ignore[arg-type]
            raise ValueError(
                f"GuidedDiffusion: steps={self.steps}, but {type(self.sampler).__name__} counts otherwise; "
                "leave steps out and set the sampler."
            )
        object.__setattr__(self, "sampler", replace(self.sampler, steps=self.steps))  # type: ignore[type-var]

    @property
    def measurement_score(self) -> MeasurementScore:
        return PropagatedMarginal(self.per_site)

    def process(self, prior: DiffusionPrior) -> Diffusion:
        return super().process(prior) if isinstance(self.sampler, Langevin) else DDPM()

r"""DiffPIR: plug-and-play restoration by half-quadratic splitting along a diffusion path.

The denoised mean is the prior's half of the splitting; the data's half is a proximal step from it,

    x0_hat(x_t, y) = argmin_x |y - A x|^2 + rho |x - x0_hat|^2,    rho = lambda sigma^2 / q,    q = (b / a)^2,

which is the mean of the Gaussian posterior of ``x_0 ~ N(x0_hat, (q / lambda) I)``, in closed form by the singular
values or by conjugate gradients.  So ``lambda = 1`` takes the noise of ``x_t / a`` for the uncertainty of ``x_0``.
That is Bayes for a flat prior, whose posterior would be centred at ``x_t / a``; around ``x0_hat`` it is too wide by
``(s^2 + q) / s^2`` for a prior of variance ``s^2``, and overstates the data at high noise.

Then part of the noise is drawn afresh (see :class:`bayes_ir.inference.samplers.renoising.Renoise`), with ``eps_hat``
from the new mean.

What it approximates: a path that moves from the mean loses the variance of ``x_0`` with all the noise that is drawn
afresh.  Of a Gaussian the draws end with ``(1 + sqrt(1 - zeta)) / 2`` of the variance, however many the steps.  With
``drawn=True`` the path moves from draws of the Gaussian posterior instead; together with zeta = 1 every level then is
a sweep of a split Gibbs sampler, and the error left in the wide variance fades with the number of levels.

The released code solves the proximal step for images in [0, 1] while ``(b / a)^2`` counts noise of images in [-1, 1],
so that its prior is four times weaker than lambda says (``as_published=True``).  It starts from y diffused to the
highest level and returns the image at the lowest one with its noise.

Source: Zhu et al. 2023 (arXiv 2305.08995), algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bayes_ir.inference.covariances import ScalarCovariance
from bayes_ir.inference.denoising_posterior import Belief, DenoisingPosterior
from bayes_ir.inference.kernels.conditioned import ComposedKernel
from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.measurement_score import GaussianMarginal, MeasurementScore
from bayes_ir.inference.samplers import Level, Sampler
from bayes_ir.inference.samplers.renoising import Renoise
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["DiffPIR"]

_SAMPLER = Renoise(steps=100, zeta=0.1, grid="root")


@dataclass(frozen=True)
class _Splitting(DenoisingPosterior):
    """``N(x0_hat, (b / a)^2 / lambda I)``.

    Attributes:
        weight: ``lambda``.
    """

    informed: ClassVar[bool] = False
    weight: float

    def at(self, prior: DiffusionPrior, x_t: Tensor, level: Level) -> Belief:
        x0_hat = prior.denoise_at(x_t, level.a, level.b)
        v = ScalarCovariance(level.ratio**2 / self.weight)
        return Belief(x0_hat, x0_hat, v, v, v.variance * level.a / level.b**2)


@dataclass(frozen=True, kw_only=True)
class DiffPIR(ComposedKernel, GuidedKernel):
    """DiffPIR for a Gaussian channel and any linear operator.

    Attributes:
        sampler: how the denoiser becomes a path.
        steps: network evaluations, instead of those of the sampler.
        prior_weight: ``lambda``, weight of the denoised mean against the data.
        as_published: ``lambda`` as in the released code, four times weaker.
        drawn: move from a draw of the Gaussian posterior instead of its mean.

    Raises:
        ModelError: for an operator that is not linear or a channel other than Gaussian.
        ValueError: unless ``prior_weight`` is positive, or when ``drawn`` is asked of a sampler that is no transition.
    """

    citation: ClassVar[str] = "Zhu et al. 2023 (arXiv 2305.08995)"
    sampler: Sampler = _SAMPLER  # type: ignore[misc]
    prior_weight: float = 1.0
    as_published: bool = False
    drawn: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prior_weight > 0:
            raise ValueError(f"DiffPIR: expected prior_weight > 0, got {self.prior_weight}.")

    @property
    def denoising_posterior(self) -> DenoisingPosterior:
        return _Splitting(self.prior_weight / 4 if self.as_published else self.prior_weight)

    @property
    def measurement_score(self) -> MeasurementScore:
        return GaussianMarginal()

r"""Guided diffusion with every part chosen: the general kernel, of which the published ones are presets.

    mu, V, K         denoising posterior at x_t
    A^T r            what the channel says: exact for a Gaussian one, expectation propagation for the others
    x0_hat(x_t, y)   x0_hat + K r
    V(x_t, y)        V - V A^T (A V A^T + T^-1)^-1 A V,  T the precision of the data or of their pseudo-data
    x                the sampler's move from a draw of N(x0_hat(x_t, y), V(x_t, y))

The default takes V from the prior's calibration and the gain from the network's Jacobian, which knows of the mode that
x_t is near what an average over modes cannot: one vector-Jacobian product a step, which counts as two more network
calls, and on images an error several times smaller.  ``Calibrated()`` does without.

With ``drawn=True`` the sampler's transition ``q(x_s | x_t, x_0)`` is given a draw of ``x_0``, not its mean: where V is
the covariance of ``p(x_0 | x_t)`` and that law is Gaussian, the path then has the right law after any number of steps,
one included.  With ``drawn=False`` the doubt about ``x_0`` has to come from small steps.

With ``Isotropic(with_jacobian=True)`` it is PiGDM, with ``Point()`` the DPS approximation at its proper weight, with
``Flat()`` DMPS, with ``Tweedie()`` moment matching; each with the sampler of one's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bayes_ir.inference.denoising_posterior import Calibrated, DenoisingPosterior
from bayes_ir.inference.kernels.conditioned import ComposedKernel
from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.measurement_score import MeasurementScore, PropagatedMarginal
from bayes_ir.inference.samplers import Ancestral, Sampler

__all__ = ["GuidedDiffusion"]

_CALIBRATED, _SAMPLER = Calibrated(with_jacobian=True), Ancestral(steps=32, grid="karras")


@dataclass(frozen=True, kw_only=True)
class GuidedDiffusion(ComposedKernel, GuidedKernel):
    """Guided diffusion for any operator and any channel.

    What it approximates: the denoising posterior; and no guided path gets the weights of modes right that part
    early.

    Attributes:
        denoising_posterior: Gaussian stand-in for ``p(x_0 | x_t)``.
        sampler: how the denoiser becomes a path.
        steps: network evaluations, instead of those of the sampler.
        drawn: move from a draw of ``N(x0_hat(x_t, y), V(x_t, y))`` instead of its mean.
        scale: weight of the measurement score; 1 is Bayes.
        per_site: own site variances in EP instead of a shared one; by default for up to 100 measurements.

    Raises:
        ModelError: for an operator that is not linear under a channel other than Gaussian (unless with ``Point()``),
            or one too large for the expectation propagation it needs.
        ValueError: when ``drawn`` is asked of a sampler that is no transition, such as an ODE solver.
    """

    citation: ClassVar[str] = "Song et al. 2023 (PiGDM, ICLR) and the methods named in its parts"
    denoising_posterior: DenoisingPosterior = _CALIBRATED  # type: ignore[misc]
    sampler: Sampler = _SAMPLER  # type: ignore[misc]
    drawn: bool = True
    scale: float = 1.0
    per_site: bool | None = None
    linearises: ClassVar[bool] = True  # type: ignore[misc]

    @property
    def measurement_score(self) -> MeasurementScore:
        return PropagatedMarginal(self.per_site)

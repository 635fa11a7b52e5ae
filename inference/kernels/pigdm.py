r"""PiGDM: pseudo-inverse guided diffusion, by an isotropic denoising posterior and the network's Jacobian.

With ``p(x_0 | x_t) ~ N(x0_hat, r_t^2 I)`` and Gaussian noise,

    grad_{x_t} log p(y | x_t) ~ J^T A^T (r_t^2 A A^T + D^2)^-1 (y - A x0_hat),    J = d x0_hat / d x_t,

which vanishing noise turns into the pseudo-inverse: ``r_t^-2 J^T (A^+ y - A^+ A x0_hat)``.  In that form A and its
pseudo-inverse may be any encoder h and decoder h^+, differentiable or not (``decode=True``),

    x0_hat(x_t, y) = x0_hat + (b^2 / a) J^T (h^+(y) - h^+(h(x0_hat))) / (r_t^2 + sigma^2),

where sigma, the noise in units of the decoded image, plays the part it has under orthonormal rows.

``r_t^2`` is :class:`bayes_ir.inference.Isotropic`'s, from the prior's own variance; ``spread=1.0`` is the published
``b^2 / (a^2 + b^2)``.  Along a rectified flow (``sampler=FlowODE()``) the kernel is OT-ODE.  The released code serves
noise-free measurements only.

What it approximates: the covariance of ``p(x_0 | x_t)`` by a multiple of the identity.

Source: Song et al. 2023 (PiGDM, ICLR), equations 7 and 8; Pokle et al. 2024 (OT-ODE, arXiv 2310.04432), algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bayes_ir.inference.denoising_posterior import DenoisingPosterior, Isotropic
from bayes_ir.inference.kernels.conditioned import ComposedKernel, Conditioned
from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.measurement_score import GaussianMarginal, MeasurementScore
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["PiGDM"]


@dataclass(frozen=True, kw_only=True)
class PiGDM(ComposedKernel, GuidedKernel):
    """PiGDM for a Gaussian channel and any operator that is linear, differentiable, or has a decoder.

    Attributes:
        sampler: how the denoiser becomes a path.
        steps: network evaluations, instead of those of the sampler.
        spread: standard deviation of the prior's pixels, in its units; by default the prior's own.
        decode: use the operator as an encoder with its ``pinv`` as decoder, without derivatives.

    Raises:
        ModelError: for a channel other than Gaussian, or ``decode`` with an operator that has no ``pinv``.
    """

    citation: ClassVar[str] = "Song et al. 2023 (PiGDM, ICLR)"
    spread: float | None = None
    decode: bool = False
    linearises: ClassVar[bool] = True  # type: ignore[misc]

    @property
    def denoising_posterior(self) -> DenoisingPosterior:
        return Isotropic(with_jacobian=True, spread=self.spread)

    @property
    def measurement_score(self) -> MeasurementScore:
        return GaussianMarginal()

    def check(self, problem: Problem) -> None:
        if not self.decode:
            return super().check(problem)
        self.measurement_score.check(problem, "PiGDM")
        try:
            problem.operator.pinv(problem.y)
        except TypeError as error:
            raise ModelError(
                f"PiGDM(decode=True): {error} Leave decode out if {problem.operator!r} is differentiable."
            ) from error

    def condition(self, problem: Problem, prior: DiffusionPrior, state: PathState, rng: Rng) -> Conditioned:
        if not self.decode:
            return super().condition(problem, prior, state, rng)
        h = problem.operator
        belief = self.denoising_posterior.at(prior, state.x, state.levels[0])
        x0_hat = belief.x0_hat
        gap = h.pinv(problem.y) - h.pinv(h.forward(x0_hat))
        noise = problem.channel.noise_std.double()
        weight = 1 / (belief.covariance.highest + noise.square().mean())
        return Conditioned(x0_hat + self.scale * weight * belief.gain(gap))

r"""Moment matching: the mean and the covariance of p(x_0 | x_t), both from the network.

By Tweedie's formulas ``p(x_0 | x_t)`` has the mean ``x0_hat`` and the covariance ``V = (b^2 / a) J``, so that

    grad_{x_t} log p(y | x_t) ~ J^T A^T (A V A^T + D^2)^-1 (y - A x0_hat)

has no guess in it but the Gaussian form.  The system is solved by conjugate gradients, every draw to its own tolerance,
one vector-Jacobian product an iteration (MMPS); or ``A V A^T`` is replaced by the diagonal of its row sums,
``diag(A V A^T 1)``, at the price of one product (TMPD, ``diagonal=True``), which then serves every channel.

Exact in the limit of many steps where ``p(x_0 | x_t)`` is Gaussian; with ``drawn=True`` the path moves from draws of
``N(x0_hat(x_t, y), V(x_t, y))``, made by Lanczos' method, and is then exact after any number of steps.  Operators that
are not linear are linearised at the denoised mean.

Source: Rozet et al. 2024 (MMPS, arXiv 2405.13712), equations 14 to 16; Boys et al. 2023 (TMPD, arXiv 2310.06721).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bayes_ir.inference.denoising_posterior import DenoisingPosterior, Tweedie
from bayes_ir.inference.kernels.conditioned import ComposedKernel
from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.measurement_score import GaussianMarginal, MeasurementScore, RowSumMarginal
from bayes_ir.inference.samplers import Ancestral, Sampler

__all__ = ["MomentMatching"]

_SAMPLER = Ancestral(steps=64, grid="karras")


@dataclass(frozen=True, kw_only=True)
class MomentMatching(ComposedKernel, GuidedKernel):
    """Moment matching for linear and differentiable operators.

    Attributes:
        sampler: how the denoiser becomes a path.
        steps: network evaluations, instead of those of the sampler.
        diagonal: the row sums of ``A V A^T`` in its place (TMPD); serves every channel.
        drawn: move from a draw of ``N(x0_hat(x_t, y), V(x_t, y))`` instead of its mean; with ``diagonal`` there is no
            V(x_t, y) and the path moves from means.
        tolerance: relative residual at which a draw's system is solved.
        max_iterations: cap on the iterations of conjugate gradients.

    Raises:
        ModelError: for a channel other than Gaussian, unless ``diagonal``.
        ValueError: for settings out of range, or ``drawn`` with a sampler that is no transition.
    """

    citation: ClassVar[str] = (
        "Rozet et al. 2024 (arXiv 2405.13712); diagonal: Boys et al. 2023 (arXiv 2310.06721)"
    )
    sampler: Sampler = _SAMPLER  # type: ignore[misc]
    diagonal: bool = False
    drawn: bool = True
    tolerance: float = 1e-3
    max_iterations: int = 50
    linearises: ClassVar[bool] = True  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.tolerance < 1 or self.max_iterations < 1:
            raise ValueError(
                "MomentMatching: expected 0 < tolerance < 1 and max_iterations >= 1, got "
                f"tolerance={self.tolerance}, max_iterations={self.max_iterations}."
            )

    @property
    def denoising_posterior(self) -> DenoisingPosterior:
        return Tweedie()

    @property
    def measurement_score(self) -> MeasurementScore:
        if self.diagonal:
            return RowSumMarginal()
        return GaussianMarginal(tolerance=self.tolerance, max_iterations=self.max_iterations)

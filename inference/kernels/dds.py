r"""DDS: the denoised mean brought towards the data by a few steps of conjugate gradients.

    x0_hat(x_t, y) ~ argmin_x  gamma/2 |y - A x|^2 + 1/2 |x - x0_hat|^2,    that is
    (I + gamma A^T A) x = x0_hat + gamma A^T y,

and in the limit of no noise (``gamma="noiseless"``) ``A^T A x = A^T y``, by a fixed small number of iterations that
start at ``x0_hat``.  The start is part of the method: iterates stay in ``x0_hat`` plus the Krylov space of
``A^T (y - A x0_hat)``, so that what A does not see is left as it is and the noiseless limit of many iterations is
``x0_hat + A^+ (y - A x0_hat)`` (DDNM).  No decomposition is needed.  Complex images are real ones with two channels,
where conjugate gradients are those of the Hermitian system.

A number (the published 1) knows neither the noise nor the level, so that the path is no posterior sampler: where it is
larger than what follows, the draws are too narrow.  ``gamma="bayes"`` reads the objective as what it is, the Gaussian
posterior of ``x_0 ~ N(x0_hat, r^2 I)``, with

    gamma = r^2 / sigma^2,    r^2 = s^2 q / (s^2 + q),    q = (b / a)^2,    s^2 the prior's mean variance,

and then ends in a draw of that posterior.  It is exact, in the limit of many steps and iterations, for a white Gaussian
prior.

Paper and released code carry the network's own ``eps_hat(x_t)`` into the move; here it is the one that belongs to
``x0_hat(x_t, y)``, as the score of ``p(x_t | y)`` asks, whatever the sampler.  The code moves by
``Renoise(zeta=eta**2)``, the paper by DDIM.

Source: Chung, Lee and Ye 2024 (DDS, arXiv 2303.05754).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from bayes_ir.inference.denoising_posterior import Isotropic
from bayes_ir.inference.kernels.conditioned import ComposedKernel, Conditioned
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import DDIM, Sampler
from bayes_ir.models.channels import Gaussian
from bayes_ir.models.operators import LinearOperator
from bayes_ir.models.operators.conjugate_gradients import Solution, conjugate_gradients
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["DDS"]

_SAMPLER = DDIM(steps=50, eta=0.85)


@dataclass(frozen=True, kw_only=True)
class DDS(ComposedKernel):
    """DDS for a Gaussian channel and any linear operator, with or without a decomposition.

    Attributes:
        sampler: how the denoiser becomes a path.
        steps: network evaluations, instead of those of the sampler.
        gamma: weight of the data: ``"bayes"`` for ``r^2 / sigma^2`` of every level and measurement, ``"noiseless"``
            for its limit of no noise, or a positive number, published as 1.
        cg_iterations: iterations of conjugate gradients per step.

    Raises:
        ModelError: for an operator that is not linear or a channel other than Gaussian.
        ValueError: for settings out of range.
    """

    citation: ClassVar[str] = "Chung, Lee and Ye 2024 (arXiv 2303.05754)"
    sampler: Sampler = _SAMPLER  # type: ignore[misc]
    gamma: float | str = "bayes"
    cg_iterations: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        named = self.gamma in ("bayes", "noiseless")
        if not (named or (not isinstance(self.gamma, str) and 0 < self.gamma < math.inf)) or (
            self.cg_iterations < 1
        ):
            raise ValueError(
                "DDS: expected a positive gamma, 'bayes' or 'noiseless', and cg_iterations >= 1, got "
                f"gamma={self.gamma!r}, cg_iterations={self.cg_iterations}."
            )

    def check(self, problem: Problem) -> None:
        if not problem.operator.linear:
            raise ModelError(
                f"DDS needs a linear operator, and {problem.operator!r} is not linear; use DPS() or DAPS(), which "
                "serve nonlinear operators."
            )
        if not isinstance(problem.channel, Gaussian):
            raise ModelError(
                f"DDS needs a Gaussian channel; site {problem.observed_site!r} has {type(problem.channel).__name__}. "
                "Use QCSSGMPlus() or DAPS(), which serve every channel."
            )

    def condition(self, problem: Problem, prior: DiffusionPrior, state: PathState, rng: Rng) -> Conditioned:
        now, _ = state.levels
        operator, noise = problem.operator, problem.channel.noise_std
        assert isinstance(operator, LinearOperator)  # see check
        r2 = Isotropic().covariance(prior, now).variance
        gamma = r2 / noise.square() if self.gamma == "bayes" else self.gamma
        x0_hat = prior.denoise_at(state.x, now.a, now.b)
        found = self._towards(operator, gamma, problem.y - operator(x0_hat))

        def spread(rng: Rng) -> Tensor:
            """A draw of ``N(0, r^2 I)`` less what noisy data of it would make of it (Matheron's rule)."""
            e = r2**0.5 * rng.normal(*operator.event_shape)
            data = operator(e) + noise * rng.normal(*operator.measurement_shape)
            return e - self._towards(operator, gamma, data).solution

        info = {"cg_iterations": found.iterations, "cg_residual": found.residual}
        return Conditioned(
            x0_hat + found.solution,
            1 / now.b**2,  # the most that data can add to N(x0_hat, (b / a)^2 I), whatever gamma
            spread if self.gamma == "bayes" else None,
            info=info,
        )

    def _towards(self, operator: LinearOperator, gamma: Any, residual: Tensor) -> Solution:
        """The change of x that a residual ``y - A x`` (B, *measurement_shape) asks for."""
        kept, weight = (0.0, 1.0) if self.gamma == "noiseless" else (1.0, gamma)
        return conjugate_gradients(
            lambda x: kept * x + operator.adjoint(weight * operator.forward(x)),
            operator.adjoint(weight * residual),
            len(operator.event_shape),
            tolerance=torch.finfo(residual.dtype).eps,
            max_iterations=self.cg_iterations,
        )

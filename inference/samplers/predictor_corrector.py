r"""Predictor-corrector sampling: Langevin steps at every level, then a step of the reverse SDE to the next.

    correct   x <- x + e s + (2 e)^{1/2} z,            s = (a x0_hat - x) / b^2,    ``corrector_steps`` times
    predict   x <- (2 - alpha) x + beta^2 s + beta z   to the next level, as :class:`ReverseSDE`

The corrector draws the law of x towards ``p(x_t)`` where the predictor has left it; it comes after the start and after
every arrival, and the last step ends in ``x0_hat``.  Two rules for its step e, from the signal-to-noise ratio r:

    "curvature"   e = 2 r^2 / L,                 L = 1 / b^2 + l
    "published"   e = 2 (r |z| / |s|)^2,         per draw

L bounds the curvature of ``-log p(x_t | y)``, l being the part of y, so that the first is stable for ``r < 1`` and
inflates an sd by at most about ``r^2 / 2`` (1.3 % for r = 0.16).  It is the second wherever the noise makes
the score, ``|s| = |z| / b``, which is so for an image at most levels.  The second is no Langevin step: with a step
that depends on x the chain rests in ``p(x_t) |s|^2``, whose variance is ``1 + 2 / n`` times too large for white x of n
values and worse where few directions make the norm: nothing for an image, but in ten dimensions the standard
deviation may double.  The released code takes the norms' means over the batch, which hides this and couples the draws.

The published step for a variance-preserving process has one more factor, ``1 - beta_i``, at most 2 % below one.

Source: Song et al. 2021 (arXiv 2011.13456), appendix G, algorithms 2 and 3 (the loop), 4 and 5 (the corrector).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers.base import Level, Visit
from bayes_ir.inference.samplers.reverse_sde import ReverseSDE
from bayes_ir.models.diffusion import Scalar, score_from_denoised
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["PredictorCorrector"]


@dataclass(frozen=True, kw_only=True)
class PredictorCorrector(ReverseSDE):
    """Reverse SDE with Langevin correctors; ``steps (1 + corrector_steps)`` network evaluations.

    Attributes:
        steps: noise levels.
        grid: name of the time grid.
        corrector_steps: Langevin steps at each level.
        signal_to_noise: r, the size of the Langevin steps, between 0 and 1.
        corrector: rule of the step, ``"curvature"`` or ``"published"``.

    Raises:
        ValueError: for settings out of range.
    """

    steps: int = 1000
    corrector_steps: int = 1
    signal_to_noise: float = 0.16
    corrector: str = "curvature"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = self.corrector in ("curvature", "published")
        if self.corrector_steps < 1 or not 0 < self.signal_to_noise < 1 or not known:
            raise ValueError(
                "PredictorCorrector: expected corrector_steps >= 1, 0 < signal_to_noise < 1 and corrector 'curvature' "
                f"or 'published', got corrector_steps={self.corrector_steps}, "
                f"signal_to_noise={self.signal_to_noise}, corrector={self.corrector!r}."
            )

    def times(self, prior: DiffusionPrior) -> Tensor:
        return super().times(prior).repeat_interleave(1 + self.corrector_steps)

    def move(self, visit: Visit, before: Visit | None, then: Level, curvature: Scalar, rng: Rng) -> Tensor:
        x_t, x0_hat, now = visit
        if then != now:
            return super().move(visit, before, then, curvature, rng)
        score = score_from_denoised(x_t, x0_hat, now.a, now.b)
        z = rng.normal(*x_t.shape[1:])
        e: Scalar
        if self.corrector == "published":
            e = 2 * (self.signal_to_noise * _norm(z) / _norm(score)) ** 2
        else:
            e = 2 * self.signal_to_noise**2 / (1 / now.b**2 + curvature)
        return x_t + e * score + (2 * e) ** 0.5 * z


def _norm(v: Tensor) -> Tensor:
    """Euclidean norm of each draw, (B, 1, ..., 1)."""
    return torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True)

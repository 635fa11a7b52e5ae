r"""DPM-Solver++(2M): two evaluations of the denoised mean, the present and the one before, make a step.

With ``lambda = log(a / b)`` and ``h = lambda_s - lambda_t`` from level t to the less noisy s the linear part of the
reverse process is solved exactly, and ``x0_hat`` is extrapolated linearly in lambda to the middle of the step,

    D   = x0_hat_t + (h / h_before) (x0_hat_t - x0_hat_before) / 2,
    x_s = (b_s / b_t) e^{-eta h} x_t + a_s (1 - e^{-(1 + eta) h}) D + b_s (1 - e^{-2 eta h})^{1/2} z.

``eta = 0`` is the probability flow, ``eta = 1`` the reverse SDE, and between them eta is the variance of the noise
in units of the latter's.  With ``D = x0_hat`` these are DDIM and the ancestral sampler; so are the first step, which
has no evaluation before it, and the last, which ends in ``x0_hat``.

For a Gaussian prior the law of the draws is of second order in h whatever eta: noise that enters in a step moves
``x0_hat`` only from the next one on, and the extrapolation there makes good what was missed.

The released code may take the last steps at first order when there are few (fewer than 15); here only the one to the
clean image is, where h is infinite.

Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 2, and its SDE-DPM-Solver++(2M) for ``eta = 1``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers.base import Level, Visit, root
from bayes_ir.inference.samplers.gridded import GriddedSampler
from bayes_ir.models.diffusion import Scalar

__all__ = ["Multistep"]


@dataclass(frozen=True, kw_only=True)
class Multistep(GriddedSampler):
    """DPM-Solver++(2M) for ``eta = 0``, SDE-DPM-Solver++(2M) for ``eta = 1``; one evaluation a step.

    Attributes:
        steps: network evaluations.
        grid: name of the time grid.
        eta: variance of the noise in units of the reverse SDE's, from 0 (deterministic) to 1.

    Raises:
        ValueError: for eta outside [0, 1], fewer than two steps or an unknown grid.
    """

    steps: int = 32
    grid: str = "karras"
    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"Multistep: expected 0 <= eta <= 1, got {self.eta}.")

    def move(self, visit: Visit, before: Visit | None, then: Level, curvature: Scalar, rng: Rng) -> Tensor:
        now = visit.level
        decay = then.ratio / now.ratio  # e^{-h}
        moved = (then.b / now.b) * decay**self.eta * visit.x
        moved = moved + then.a * (1 - decay ** (1 + self.eta)) * _extrapolated(visit, before, then)
        if not self.eta:
            return moved
        return moved + then.b * root(1 - decay ** (2 * self.eta)) * rng.normal(*moved.shape[1:])


def _extrapolated(visit: Visit, before: Visit | None, then: Level) -> Tensor:
    """``D``, the denoised mean in the middle of the step."""
    if before is None or then.b == 0:
        return visit.x0_hat
    h = math.log(visit.level.ratio / then.ratio)
    h_before = math.log(before.level.ratio / visit.level.ratio)
    return visit.x0_hat + 0.5 * (h / h_before) * (visit.x0_hat - before.x0_hat)

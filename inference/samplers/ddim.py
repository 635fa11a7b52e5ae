r"""DDIM: the implicit sampler, deterministic for eta = 0 and ancestral for eta = 1.

With ``eps_hat = (x_s - a_s x0_hat) / b_s`` and
``c = eta (b_t / b_s) sqrt(b_s^2 - (a_s / a_t)^2 b_t^2)``,

    x_t = a_t x0_hat + sqrt(b_t^2 - c^2) eps_hat + c z.

For rectified flow and eta = 0 this is Euler's rule for ``dx/dt = v``.

Source: Song, Meng and Ermon 2021 (DDIM), equations 12 and 16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers.base import Level, Sampler
from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.time_grids import uniform_grid

__all__ = ["DDIM"]


@dataclass(frozen=True, kw_only=True)
class DDIM(Sampler):
    """DDIM sampler on times spaced evenly.

    Attributes:
        steps: network evaluations.
        eta: stochasticity, from 0 (deterministic) to 1 (ancestral).
    """

    steps: int = 100
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.eta <= 1:
            raise ValueError(
                f"DDIM: expected steps >= 1 and 0 <= eta <= 1, got steps={self.steps}, eta={self.eta}."
            )

    def times(self, prior: DiffusionPrior) -> Tensor:
        return uniform_grid(prior.diffusion, self.steps, noise_range=prior.noise_range)

    def move(
        self, x_t: Tensor, x0_hat: Tensor, now: Level, then: Level, curvature: Tensor, rng: Rng
    ) -> Tensor:
        eps_hat = (x_t - now.a * x0_hat) / now.b
        c = self.eta * then.b / now.b * torch.sqrt(now.b**2 - (now.a / then.a) ** 2 * then.b**2)
        moved = then.a * x0_hat + torch.sqrt(then.b**2 - c**2) * eps_hat
        return moved + c * rng.normal(*x_t.shape[1:]) if self.eta else moved

r"""DDIM: the implicit sampler, deterministic for eta = 0 and ancestral for eta = 1.

With ``eps_hat = (x_s - a_s x0_hat) / b_s`` and
``c = eta (b_t / b_s) sqrt(b_s^2 - (a_s / a_t)^2 b_t^2)``,

    x_t = a_t x0_hat + sqrt(b_t^2 - c^2) eps_hat + c z.

For rectified flow and eta = 0 this is Euler's rule for ``dx/dt = v``.

Source: Song, Meng and Ermon 2021 (DDIM), equations 12 and 16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers.base import Level, Visit
from bayes_ir.inference.samplers.gridded import GriddedSampler

__all__ = ["DDIM"]


@dataclass(frozen=True, kw_only=True)
class DDIM(GriddedSampler):
    """DDIM sampler.

    Attributes:
        steps: network evaluations.
        grid: name of the time grid.
        eta: stochasticity, from 0 (deterministic) to 1 (ancestral).
    """

    transition: ClassVar[bool] = True
    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDIM: expected 0 <= eta <= 1, got {self.eta}.")

    def move(self, visit: Visit, before: Visit | None, then: Level, curvature: Tensor, rng: Rng) -> Tensor:
        now = visit.level
        c = self.eta * then.b / now.b * torch.sqrt(now.b**2 - (now.a / then.a) ** 2 * then.b**2)
        moved = then.a * visit.x0_hat + torch.sqrt(then.b**2 - c**2) * visit.eps_hat
        return moved + c * rng.normal(*moved.shape[1:]) if self.eta else moved

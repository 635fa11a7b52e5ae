r"""Ancestral sampling of the reverse Markov chain (DDPM), for any forward process.

From level s to the less noisy t, with ``alpha = a_s / a_t`` and ``beta^2 = b_s^2 - alpha^2 b_t^2``
the law ``q(x_t | x_s, x_0)`` at ``x_0 = x0_hat`` is normal with

    mean = (alpha b_t^2 / b_s^2) x_s + (a_t beta^2 / b_s^2) x0_hat,    variance = beta^2 b_t^2 / b_s^2.

Source: Ho, Jain and Abbeel 2020, equations 6 and 7; for general (a, b) Kingma et al. 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers.base import Level, Visit
from bayes_ir.inference.samplers.gridded import GriddedSampler

__all__ = ["Ancestral"]


@dataclass(frozen=True, kw_only=True)
class Ancestral(GriddedSampler):
    """Ancestral (DDPM) sampler.

    Attributes:
        steps: network evaluations.
        grid: name of the time grid.
    """

    transition: ClassVar[bool] = True
    steps: int = 1000

    def move(self, visit: Visit, before: Visit | None, then: Level, curvature: Tensor, rng: Rng) -> Tensor:
        x_t, x0_hat, now = visit
        alpha = now.a / then.a
        beta_squared = now.b**2 - alpha**2 * then.b**2
        mean = (alpha * then.b**2 / now.b**2) * x_t + (then.a * beta_squared / now.b**2) * x0_hat
        return mean + (beta_squared.sqrt() * then.b / now.b) * rng.normal(*x_t.shape[1:])

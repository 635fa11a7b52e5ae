r"""Renoising: the predicted noise is kept in part and drawn afresh for the rest, a fixed share at every step.

With ``eps_hat = (x_s - a_s x0_hat) / b_s`` and z standard normal,

    x_t = a_t x0_hat + b_t (sqrt(1 - zeta) eps_hat + sqrt(zeta) z).

It is DDIM with ``c = sqrt(zeta) b_t``: zeta = 0 is deterministic DDIM and zeta = 1 forgets the noise altogether.  The
share does not shrink with the steps as DDIM's does.  So a path that moves from the mean ``x0_hat`` loses variance
however many steps it takes: with ``x_0 ~ N(0, s^2)`` and b small, a step leaves of the variance v of x

    v (1 - 2 g b^2 / s^2) + zeta b^2,   g = 1 - sqrt(1 - zeta),

whose fixed point is ``s^2 (1 + sqrt(1 - zeta)) / 2``.  Moving from draws of ``p(x_0 | x_t)`` keeps the marginals after
any number of steps.

The released codes of DDNM and DDS move by this rule, with ``zeta = eta^2``.  The grid ``root`` is DiffPIR's,

    (t_high - t_i)^2 = u_i (t_high - t_low)^2,    u_i = i / (n - 1),

which leaves the high noise in few steps.

Source: Zhu et al. 2023 (DiffPIR, arXiv 2305.08995), algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers.base import Level, Visit
from bayes_ir.inference.samplers.gridded import GriddedSampler
from bayes_ir.models.diffusion import Diffusion
from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.time_grids import GRIDS, uniform_grid

__all__ = ["Renoise", "root_grid"]


def root_grid(diffusion: Diffusion, steps: int, *, noise_range: tuple[float, float] | None = None) -> Tensor:
    """Times ``t_high - u^(1/2) (t_high - t_low)``, u in equal steps; float64, descending, both bounds on it."""
    high, low = uniform_grid(diffusion, 2, noise_range=noise_range)
    grid = high - torch.linspace(0, 1, steps, dtype=torch.float64).sqrt() * (high - low)
    grid[-1] = low
    return grid


_GRIDS = {**GRIDS, "root": root_grid}


@dataclass(frozen=True, kw_only=True)
class Renoise(GriddedSampler):
    """DDIM with a fixed share of fresh noise.

    Attributes:
        steps: network evaluations.
        grid: name of the time grid; besides those of :mod:`bayes_ir.models.time_grids`, ``"root"``.
        zeta: share of the noise's variance that is drawn afresh, from 0 to 1.
    """

    transition: ClassVar[bool] = True
    zeta: float = 0.1

    def __post_init__(self) -> None:
        if self.steps < 2 or self.grid not in _GRIDS or not 0 <= self.zeta <= 1:
            raise ValueError(
                f"Renoise: expected steps >= 2, a grid of {sorted(_GRIDS)} and 0 <= zeta <= 1, got "
                f"steps={self.steps}, grid={self.grid!r}, zeta={self.zeta}."
            )

    def times(self, prior: DiffusionPrior) -> Tensor:
        return _GRIDS[self.grid](prior.diffusion, self.steps, noise_range=prior.noise_range)

    def move(self, visit: Visit, before: Visit | None, then: Level, curvature: Tensor, rng: Rng) -> Tensor:
        kept, fresh = (1 - self.zeta) ** 0.5, self.zeta**0.5
        noise = kept * visit.eps_hat + fresh * rng.normal(*visit.x.shape[1:])
        return then.a * visit.x0_hat + then.b * noise

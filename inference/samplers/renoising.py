r"""Renoising: the predicted noise is kept in part and drawn afresh for the rest, a fixed share at every step.

With ``eps_hat = (x_s - a_s x0_hat) / b_s`` and z standard normal,

    x_t = a_t x0_hat + b_t (sqrt(1 - zeta) eps_hat + sqrt(zeta) z).

It is DDIM with ``c = sqrt(zeta) b_t``: zeta = 0 is deterministic DDIM and zeta = 1 forgets the noise altogether.  The
share does not shrink with the steps as DDIM's does.  So a path that moves from the mean ``x0_hat`` loses variance
however many steps it takes: with ``x_0 ~ N(0, s^2)`` and b small, a step leaves of the variance v of x

    v (1 - 2 g b^2 / s^2) + zeta b^2,   g = 1 - sqrt(1 - zeta),

whose fixed point is ``s^2 (1 + sqrt(1 - zeta)) / 2``.  Moving from draws of ``p(x_0 | x_t)`` keeps the marginals after
any number of steps.

The released codes of DDNM and DDS move by this rule, with ``zeta = eta^2``; DiffPIR walks it on the grid ``root``.

Source: Zhu et al. 2023 (DiffPIR, arXiv 2305.08995), algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers.base import Level, Visit
from bayes_ir.inference.samplers.gridded import GriddedSampler

__all__ = ["Renoise"]


@dataclass(frozen=True, kw_only=True)
class Renoise(GriddedSampler):
    """DDIM with a fixed share of fresh noise.

    Attributes:
        steps: network evaluations.
        grid: name of the time grid.
        zeta: share of the noise's variance that is drawn afresh, from 0 to 1.

    Raises:
        ValueError: for fewer than two steps, an unknown grid or a share out of range.
    """

    transition: ClassVar[bool] = True
    zeta: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.zeta <= 1:
            raise ValueError(f"Renoise: expected 0 <= zeta <= 1, got zeta={self.zeta}.")

    def move(self, visit: Visit, before: Visit | None, then: Level, curvature: Tensor, rng: Rng) -> Tensor:
        kept, fresh = (1 - self.zeta) ** 0.5, self.zeta**0.5
        noise = kept * visit.eps_hat + fresh * rng.normal(*visit.x.shape[1:])
        return then.a * visit.x0_hat + then.b * noise

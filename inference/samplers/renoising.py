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

from bayes_ir.inference.samplers.base import Level
from bayes_ir.inference.samplers.transition import Transition, TransitionSampler

__all__ = ["Renoise"]


@dataclass(frozen=True, kw_only=True)
class Renoise(TransitionSampler):
    """DDIM with a fixed share of fresh noise.

    Attributes:
        steps: network evaluations.
        grid: name of the time grid.
        zeta: share of the noise's variance that is drawn afresh, from 0 to 1.

    Raises:
        ValueError: for fewer than two steps, an unknown grid or a share out of range.
    """

    zeta: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.zeta <= 1:
            raise ValueError(f"Renoise: expected 0 <= zeta <= 1, got zeta={self.zeta}.")

    def transition(self, now: Level, then: Level) -> Transition:
        kept = (1 - self.zeta) ** 0.5 * then.b / now.b  # of eps_hat, which is (x_t - a x_0) / b
        return Transition(kept=kept, clean=then.a - kept * now.a, noise=self.zeta**0.5 * then.b)

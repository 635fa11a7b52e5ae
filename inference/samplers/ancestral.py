r"""Ancestral sampling of the reverse Markov chain (DDPM), for any forward process.

From level s to the less noisy t, with ``alpha = a_s / a_t`` and ``beta^2 = b_s^2 - alpha^2 b_t^2``
the law ``q(x_t | x_s, x_0)`` at ``x_0 = x0_hat`` is normal with

    mean = (alpha b_t^2 / b_s^2) x_s + (a_t beta^2 / b_s^2) x0_hat,    variance = beta^2 b_t^2 / b_s^2.

Source: Ho, Jain and Abbeel 2020, equations 6 and 7; for general (a, b) Kingma et al. 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

from bayes_ir.inference.samplers.base import Level, root
from bayes_ir.inference.samplers.transition import Transition, TransitionSampler

__all__ = ["Ancestral"]


@dataclass(frozen=True, kw_only=True)
class Ancestral(TransitionSampler):
    """Ancestral (DDPM) sampler.

    Attributes:
        steps: network evaluations.
        grid: name of the time grid.
    """

    steps: int = 1000

    def transition(self, now: Level, then: Level) -> Transition:
        alpha = now.a / then.a
        beta_squared = now.b**2 - alpha**2 * then.b**2
        return Transition(
            kept=alpha * then.b**2 / now.b**2,
            clean=then.a * beta_squared / now.b**2,
            noise=root(beta_squared) * then.b / now.b,
        )

r"""DDIM: the implicit sampler, deterministic for eta = 0 and ancestral for eta = 1.

With ``eps_hat = (x_s - a_s x0_hat) / b_s`` and
``c = eta (b_t / b_s) sqrt(b_s^2 - (a_s / a_t)^2 b_t^2)``,

    x_t = a_t x0_hat + sqrt(b_t^2 - c^2) eps_hat + c z.

For rectified flow and eta = 0 this is Euler's rule for ``dx/dt = v``.

Source: Song, Meng and Ermon 2021 (DDIM), equations 12 and 16.
"""

from __future__ import annotations

from dataclasses import dataclass

from bayes_ir.inference.samplers.base import Level, root
from bayes_ir.inference.samplers.transition import Transition, TransitionSampler

__all__ = ["DDIM"]


@dataclass(frozen=True, kw_only=True)
class DDIM(TransitionSampler):
    """DDIM sampler.

    Attributes:
        steps: network evaluations.
        grid: name of the time grid.
        eta: stochasticity, from 0 (deterministic) to 1 (ancestral).
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDIM: expected 0 <= eta <= 1, got {self.eta}.")

    def transition(self, now: Level, then: Level) -> Transition:
        c = self.eta * then.b / now.b * root(now.b**2 - (now.a / then.a) ** 2 * then.b**2)
        kept = root(then.b**2 - c**2) / now.b  # of eps_hat, which is (x_t - a x_0) / b
        return Transition(kept=kept, clean=then.a - kept * now.a, noise=c)

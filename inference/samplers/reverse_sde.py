r"""The reverse-time stochastic differential equation, one Euler-Maruyama step per level.

The forward process ``dx = f x dt + g dw`` with ``f = a'/a`` and ``g^2 = 2 b^2 (b'/b - a'/a)`` has the reverse

    dx = (f x - g^2 s) dt + g dw,    s = (a x0_hat - x) / b^2 the score,    t falling.

From level t to the less noisy s the forward process itself is, exactly, ``x_t = alpha x_s + beta z`` with
``alpha = a_t / a_s`` and ``beta^2 = b_t^2 - alpha^2 b_s^2``.  Its increments ``alpha - 1`` and ``beta^2`` stand for
``f dt`` and ``g^2 dt``, with which they agree to first order,

    x_s = (2 - alpha) x_t + beta^2 s + beta z,

so that the levels say all and no step, however long, takes away more noise than there is: Euler-Maruyama with
``g^2`` at the noisy end does, ``g^2 dt > b^2``, as soon as the noise ratio falls by more than ``e^{1/2}``.  The mean
is that of the ancestral sampler up to ``1 / alpha - (2 - alpha)``, second order; the noise has variance ``beta^2``
where the ancestral one has ``beta^2 b_s^2 / b_t^2``, so that draws come out too wide where steps are long.  The last
step ends in ``x0_hat``.

For DDPM, ``alpha = (1 - beta_i)^{1/2}``, this is the published reverse diffusion sampler.

Source: Song et al. 2021 (arXiv 2011.13456), equation 6 (the reverse SDE) and appendix E (reverse diffusion sampling).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers.base import Level, Visit, root
from bayes_ir.inference.samplers.gridded import GriddedSampler
from bayes_ir.models.diffusion import Scalar, score_from_denoised

__all__ = ["ReverseSDE"]


@dataclass(frozen=True, kw_only=True)
class ReverseSDE(GriddedSampler):
    """Reverse SDE, discretised as the forward process is; weak order 1.

    Attributes:
        steps: network evaluations.
        grid: name of the time grid.

    Raises:
        ValueError: for fewer than two steps or an unknown grid.
    """

    steps: int = 1000

    def move(self, visit: Visit, before: Visit | None, then: Level, curvature: Scalar, rng: Rng) -> Tensor:
        x_t, x0_hat, now = visit
        if then.b == 0:
            return x0_hat
        alpha = now.a / then.a
        beta_squared = now.b**2 - alpha**2 * then.b**2
        mean = (2 - alpha) * x_t + beta_squared * score_from_denoised(x_t, x0_hat, now.a, now.b)
        return mean + root(beta_squared) * rng.normal(*x_t.shape[1:])

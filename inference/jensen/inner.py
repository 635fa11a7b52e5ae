r"""Draws of ``p(x_0 | x_t)``: exact ones of a mixture, else the prior's own reverse process, begun at ``x_t``.

From the ratio ``b / a`` of ``x_t`` down to the prior's least one, in n levels ``s_1 > .. > s_n`` on the Karras grid,

    x = x_t / a,    x_0 ~ N(x0_hat(x, s_i), V(s_i)),    x <- a draw of q(x_{s_{i+1}} | x, x_0),

the ancestral moves, with V the calibrated covariance of the level where the prior carries one and 0 where not; the last
``x_0`` is the draw.  A probability flow would not do: it makes one image of every ``x_t``.

What is wrong with the network shows in the mean of the draws, which ought to be ``x0_hat(x_t)``; what is wrong with n
steps in their spread, which comes out short by a share of the order 1 / n (for the mixture of digits at ``b / a = 0.3``
by 10, 6 and 2 % after 8, 16 and 64 steps).
"""

from __future__ import annotations

from torch import Tensor

from bayes_ir.inference.covariances import SharedCovariance
from bayes_ir.inference.denoising_posterior import Calibrated
from bayes_ir.inference.jensen.exact import denoising_law
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Ancestral, Level
from bayes_ir.models.diffusion import VarianceExploding
from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.priors.gaussian_mixture import GaussianMixture, GaussianMixturePrior
from bayes_ir.models.time_grids import karras_grid

__all__ = ["InnerSampler"]


class InnerSampler:
    """Draws of ``p(x_0 | x_t)`` for one ``x_t``.

    Args:
        prior: the prior.
        x_t: the state, (*event_shape).
        level: its noise level.
        steps: levels of the reverse process, where the law is not known.
    """

    def __init__(self, prior: DiffusionPrior, x_t: Tensor, level: Level, steps: int) -> None:
        self._prior, self._x = prior, x_t / level.a
        self._law: GaussianMixture | None = None
        if isinstance(prior, GaussianMixturePrior):
            self._law = denoising_law(prior, x_t[None], level)
        else:
            self._levels = _levels(prior, level.ratio, steps)
            self._calibrated = "pca" in prior.calibrations

    @property
    def exact(self) -> bool:
        """Whether the draws have exactly the law ``p(x_0 | x_t)``."""
        return self._law is not None

    def draw(self, rng: Rng) -> Tensor:
        """``rng.draws`` images, (n, *event_shape)."""
        shape = self._x.shape
        if self._law is not None:
            uniform, normal = rng.uniform().double(), rng.normal(shape.numel()).double()
            return self._law.transport(uniform[:, None], normal[:, None])[:, 0].to(self._x.dtype)
        x, move = self._x.expand(rng.draws, *shape), Ancestral().transition
        for now, then in zip(self._levels, [*self._levels[1:], Level(0.0, 1.0, 0.0)], strict=True):
            x_0 = self._prior.denoise_at(x, now.a, now.b)
            if self._calibrated:
                x_0 = x_0 + self._covariance(now).root(rng.normal(*shape))
            if then.b == 0:
                return x_0
            q = move(now, then)
            x = q.mean(x, x_0) + q.noise * rng.normal(*shape)
        raise AssertionError("a schedule ends in the clean level")

    def _covariance(self, level: Level) -> SharedCovariance:
        return Calibrated().covariance(self._prior, level)


def _levels(prior: DiffusionPrior, ratio: float, steps: int) -> list[Level]:
    low = prior.noise_range[0]
    if ratio <= 1.01 * low:
        return [Level(0.0, 1.0, ratio)]
    flow = VarianceExploding(low, ratio)
    ratios = flow.ratio(karras_grid(flow, steps)).tolist()
    return [Level(0.0, 1.0, r) for r in ratios]

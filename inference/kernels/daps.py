r"""DAPS: decoupled annealing, a fresh image at every noise level.

    x0_hat    the probability flow from x_t down to the lowest noise, in a few Euler steps
    x_0       a draw of  N(x_0; x0_hat, r^2 I) p(y | x_0)   by unadjusted Langevin steps, started from N(x0_hat, r^2 I),

                  x <- x + alpha (grad log p(y | x) + (x0_hat - x) / r^2) + sqrt(2 alpha) z
    x_s       a' x_0 + b' z,   nothing of the old noise being kept

Any channel and any differentiable operator: what y says is the slope of ``log p(y | z)`` at ``z = A(x)``, pulled back.
For a linear operator and a Gaussian channel the inner law is Gaussian and ``exact=True`` draws it as it is.

The step is ``alpha = step_size / L`` with L the largest curvature, ``1 / r^2`` and that of the likelihood: for a linear
operator the largest eigenvalue of ``A^T D^-2 A`` (a channel is nowhere more curved than its Gaussian noise), otherwise
the largest secant

    |g(x0_hat + r sqrt(N) v) - g(x0_hat)| / (r sqrt(N)),   g = grad log p(y | x),   |v| = 1,

over directions v that follow the change of g, draw by draw: a power iteration at the distance at which draws lie.
Stiff directions come out too wide by ``1 / (1 - step_size / 2)`` in variance.

What it approximates: ``p(x_0 | x_t)`` by ``N(x0_hat, r^2 I)``.  With ``r^2 = s^2 q / (s^2 + q)``, ``q = (b / a)^2``,
and one Euler step, which ends in the denoised mean, that is exact for a white Gaussian prior of variance ``s^2``.
More steps end in an image, not in a mean: its spread over x_t is that of the prior already and r^2 comes on top, so
that the draws of a Gaussian are too wide, up to twice the variance where the data say nothing (1.5 times with 5
steps).  The published ``r^2 = q`` (``variance="published"``) is wider still.

The released code divides the misfit by ``tau^2 = 0.01^2`` without the factor 2 and whatever sigma is, scales alpha by
hand for every task, starts from ``x0_hat``, and ends without Langevin steps at the last level.

Source: Zhang et al. 2024 (arXiv 2407.01521), algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.inference.covariances import ScalarCovariance
from bayes_ir.inference.denoising_posterior import Isotropic
from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.path import PathKernel, PathState
from bayes_ir.inference.predictive import predictive
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Level, Sampler, Visit
from bayes_ir.inference.samplers.renoising import Renoise
from bayes_ir.models.channels import Gaussian
from bayes_ir.models.diffusion import Scalar
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["DAPS"]

_SECANTS = 10  # of a power iteration, which comes from below: step_size is to leave room


@dataclass(frozen=True, kw_only=True)
class DAPS(PathKernel):
    """DAPS for any channel and any differentiable operator.

    Attributes:
        levels: noise levels, on the Karras grid of the prior's ``noise_range``.
        ode_steps: Euler steps to ``x0_hat``, each a network evaluation; 1, the denoised mean, is both cheapest and most
            accurate, the published 5 widen the draws.
        langevin_steps: inner steps at each level.
        step_size: inner step as a fraction of the inverse of the largest curvature, in (0, 2).
        variance: ``r^2``, ``"isotropic"`` or ``"published"``.
        exact: draw the inner law exactly instead.

    Raises:
        ModelError: for an operator without a derivative, or ``exact`` with one that is not linear or a channel other
            than Gaussian.
        ValueError: for settings out of range.
    """

    citation: ClassVar[str] = "Zhang et al. 2024 (arXiv 2407.01521)"
    levels: int = 200
    ode_steps: int = 1
    langevin_steps: int = 100
    step_size: float = 0.5
    variance: str = "isotropic"
    exact: bool = False

    def __post_init__(self) -> None:
        if min(self.levels - 1, self.ode_steps, self.langevin_steps) < 1 or not 0 < self.step_size < 2:
            raise ValueError(
                "DAPS: expected levels >= 2, ode_steps >= 1, langevin_steps >= 1 and 0 < step_size < 2 (2 is the limit "
                f"of stability), got levels={self.levels}, ode_steps={self.ode_steps}, "
                f"langevin_steps={self.langevin_steps}, step_size={self.step_size}."
            )
        if self.variance not in ("isotropic", "published"):
            raise ValueError(f"DAPS: expected variance 'isotropic' or 'published', got {self.variance!r}.")

    @property
    def sampler(self) -> Sampler:
        return Renoise(steps=self.levels, zeta=1.0, grid="karras")

    def check(self, problem: Problem) -> None:
        problem.need_derivative("DAPS")
        if self.exact and not (problem.operator.linear and isinstance(problem.channel, Gaussian)):
            raise ModelError(
                "DAPS(exact=True) needs a linear operator and a Gaussian channel; site "
                f"{problem.observed_site!r} has {type(problem.channel).__name__} on {problem.operator!r}. Leave exact "
                "out: Langevin steps serve every channel and operator."
            )

    def step(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        now, then = state.levels
        prior = self._prior(problem)
        x0_hat = self._flow(prior, state.x, now)
        r2 = now.ratio**2
        if self.variance == "isotropic":
            r2 = Isotropic().covariance(prior, now).variance
        draw = self._exact if self.exact else self._langevin
        visit = Visit(state.x, draw(problem, x0_hat, r2, rng), now)
        x = self.sampler.move(visit, None, then, 0.0, rng)
        return state.moved(x), {"nfe": torch.full((len(x),), self.ode_steps)}

    def _flow(self, prior: DiffusionPrior, x: Tensor, now: Level) -> Tensor:
        """``x0_hat``: Euler steps at noise ratios whose seventh roots fall evenly, the last to no noise."""
        low = min(prior.noise_range[0], now.ratio)
        u = torch.linspace(0, 1, self.ode_steps, dtype=torch.float64)
        ratios = (now.ratio ** (1 / 7) + u * (low ** (1 / 7) - now.ratio ** (1 / 7))) ** 7
        times = prior.diffusion.time_at(ratios)
        a, b = prior.diffusion.coefficients(times)
        levels = [*map(Level, times.tolist(), a.tolist(), b.tolist())]
        for here, there in pairwise(levels):
            visit = Visit(x, prior.denoise_at(x, here.a, here.b), here)
            x = there.a * visit.x0_hat + there.b * visit.eps_hat
        return prior.denoise_at(x, levels[-1].a, levels[-1].b)

    def _exact(self, problem: Problem, x0_hat: Tensor, r2: float, rng: Rng) -> Tensor:
        """A draw of the inner law by Matheron's rule: one of ``N(x0_hat, r^2 I)``, corrected by y less noise."""
        system, v = problem.system, ScalarCovariance(r2)
        x = x0_hat + v.root(rng.normal(*x0_hat.shape[1:]))
        noise = rng.normal(system.measurements).double()
        return x + v(predictive(system, v, x).pulled_solve(system.residual(x) - noise, x.dtype).image)

    def _langevin(self, problem: Problem, x0_hat: Tensor, r2: float, rng: Rng) -> Tensor:
        """Unadjusted Langevin steps towards the inner law."""
        alpha = self.step_size / (1 / r2 + self._curvature(problem, x0_hat, r2, rng))
        x = x0_hat + r2**0.5 * rng.normal(*x0_hat.shape[1:])
        for _ in range(self.langevin_steps):
            drift = likelihood_slope(problem, x) + (x0_hat - x) / r2
            x = x + alpha * drift + (2 * alpha) ** 0.5 * rng.normal(*x.shape[1:])
        return x

    def _curvature(self, problem: Problem, x0_hat: Tensor, r2: float, rng: Rng) -> Scalar:
        """Largest curvature of the likelihood: one number, or one per draw (B, 1, ..., 1)."""
        if problem.operator.linear:
            return problem.system.largest_eigenvalue
        distance = (r2 * x0_hat[0].numel()) ** 0.5
        dims = tuple(range(1, x0_hat.ndim))
        at_mean = likelihood_slope(problem, x0_hat)
        v, largest = rng.normal(*x0_hat.shape[1:]), x0_hat.new_zeros(())
        for _ in range(_SECANTS):
            size = v.square().sum(dims, keepdim=True).sqrt()
            v = torch.where(size > 0, v / size, 0.0)
            v = (likelihood_slope(problem, x0_hat + distance * v) - at_mean) / distance
            largest = torch.maximum(largest, v.square().sum(dims, keepdim=True).sqrt())
        return largest


def likelihood_slope(problem: Problem, x: Tensor) -> Tensor:
    """``grad log p(y | x)``, shaped as x: the slope of the channel at ``A(x)``, pulled back through A."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z = problem.operator.forward(x)
        slope = problem.channel.tilt(problem.y, z.detach(), 0.0).slope
        (pulled,) = torch.autograd.grad(z, x, slope)
    return pulled

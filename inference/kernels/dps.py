r"""DPS: diffusion posterior sampling by the gradient of the misfit of the denoised mean.

DPS puts the denoised mean for the image, ``p(y | x_t) ~ p(y | x_0 = x0_hat(x_t))`` (Jensen), so that

    grad_{x_t} log p(y | x_t) ~ J^T grad log p(y | x0_hat),    J = d x0_hat / d x_t,

one vector-Jacobian product of the network per step, for any differentiable A.  Two weights:

    "published"     x <- x' - zeta grad_{x_t} |y - A(x0_hat)|_W,  x' a step of the sampler without y
    "likelihood"    x0_hat <- x0_hat + (b^2 / a) grad_{x_t} log p(y | x0_hat),  then the step

The first is the paper's step ``zeta / |residual|``, per draw: the noise level does not enter, so that it is no
posterior sampler, whatever zeta.  W is the identity for Gaussian noise and for Poisson counts the inverse of twice the
rate that the counts themselves suggest, the paper's ``1 / (2 y)`` kept away from zero by the background.  The second is
what the approximation says, for every channel; it overstates the data while ``x0_hat`` is uncertain and is stable only
with many steps and noise that is not small.

Source: Chung et al. 2023 (ICLR), algorithm 1 and equations 16 to 19.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.path import PathKernel, PathState
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Ancestral, Sampler, Visit
from bayes_ir.models.channels import Gaussian, Poisson
from bayes_ir.models.diffusion import DDPM, Diffusion
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["DPS"]


@dataclass(frozen=True, kw_only=True)
class DPS(PathKernel):
    """DPS for any differentiable operator, linear or not.

    Attributes:
        steps: network evaluations, each with a vector-Jacobian product.
        zeta: step of the published weight, in units of the image (the published values, 0.3 to 1, are for images in
            [-1, 1]; a data range half as wide wants half of them).
        weight: ``"published"``, for Gaussian and Poisson channels, or ``"likelihood"``, for every channel.
        diffusion: forward process, ``DDPM()`` as published; ``RectifiedFlow()`` follows a flow.

    Raises:
        ModelError: for the published weight and a channel other than Gaussian or Poisson.
        ValueError: for settings out of range.
    """

    citation: ClassVar[str] = "Chung et al. 2023 (arXiv 2209.14687)"
    steps: int = 1000
    zeta: float = 0.5
    weight: str = "published"
    diffusion: Diffusion = field(default_factory=DDPM)

    def __post_init__(self) -> None:
        if self.steps < 2 or not self.zeta > 0 or self.weight not in ("published", "likelihood"):
            raise ValueError(
                "DPS: expected steps >= 2, zeta > 0 and weight 'published' or 'likelihood', got "
                f"steps={self.steps}, zeta={self.zeta}, weight={self.weight!r}."
            )

    @property
    def sampler(self) -> Sampler:
        return Ancestral(steps=self.steps)

    def process(self, prior: DiffusionPrior) -> Diffusion:
        return self.diffusion

    def check(self, problem: Problem) -> None:
        problem.need_derivative("DPS")
        if self.weight == "published" and not isinstance(problem.channel, (Gaussian, Poisson)):
            raise ModelError(
                "DPS with the published weight needs a Gaussian or Poisson channel; site "
                f"{problem.observed_site!r} has {type(problem.channel).__name__}. Use DPS(weight='likelihood'), or "
                "GuidedDiffusion(), which serves every channel of a linear operator."
            )

    def step(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        now, then = state.levels
        with torch.enable_grad():
            x_t = state.x.detach().requires_grad_()
            x0_hat = problem.prior.denoise_at(x_t, now.a, now.b)
            (gradient,) = torch.autograd.grad(self._misfit(problem, x0_hat).sum(), x_t)
        x_t, x0_hat = x_t.detach(), x0_hat.detach()
        if self.weight == "likelihood":
            x0_hat = x0_hat - now.b**2 / now.a * gradient
        visit = Visit(x_t, x0_hat, now)
        x = self.sampler.move(visit, state.before, then, 0.0, rng)
        if self.weight == "published":
            x = x - self.zeta * gradient
        return state.moved(x, visit), {"nfe": torch.ones(len(x), dtype=torch.int64)}

    def _misfit(self, problem: Problem, x0_hat: Tensor) -> Tensor:
        """One number per draw, whose gradient guides the step."""
        channel = problem.channel.with_location(problem.operator(x0_hat))
        if self.weight == "likelihood":
            return -channel.log_prob(problem.y).flatten(1).sum(1)
        if isinstance(channel, Poisson):
            expected = channel.mean
            residual = (problem.y - expected) / torch.maximum(problem.y, channel.background).mul(2).sqrt()
        else:
            residual = problem.y - channel.location
        return torch.linalg.vector_norm(residual.flatten(1), dim=1)

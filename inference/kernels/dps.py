r"""DPS: diffusion posterior sampling by the gradient of the misfit of the denoised mean.

DPS puts the denoised mean for the image, ``p(y | x_t) ~ p(y | x_0 = x0_hat(x_t))`` (Jensen), so that

    grad_{x_t} log p(y | x_t) ~ J^T grad log p(y | x0_hat),    J = d x0_hat / d x_t,

one vector-Jacobian product of the network per step, for any differentiable A.  Two weights:

    "published"     x <- x' - zeta grad_{x_t} |y - A(x0_hat)|_2,  x' an ancestral step without y
    "likelihood"    x0_hat <- x0_hat - (b^2 / a) grad_{x_t} |y - A(x0_hat)|^2 / (2 sigma^2),  then the step

The first is the paper's step ``zeta / |residual|``, per draw: the noise level does not enter, so that it is no
posterior sampler, whatever zeta.  The second is what the approximation says; it overstates the data while ``x0_hat`` is
uncertain and is stable only with many steps and noise that is not small.

Source: Chung et al. 2023 (ICLR), algorithm 1 and equation 16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.path import PathKernel, PathState
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Ancestral, Sampler
from bayes_ir.models.channels import Gaussian
from bayes_ir.models.diffusion import DDPM, Diffusion
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["DPS"]


@dataclass(frozen=True, kw_only=True)
class DPS(PathKernel):
    """DPS for a Gaussian channel and any differentiable operator, linear or not.

    Attributes:
        steps: network evaluations, each with a vector-Jacobian product.
        zeta: step of the published weight, in units of the image (the published values, 0.3 to 1, are for images in
            [-1, 1]; a data range half as wide wants half of them).
        weight: ``"published"`` or ``"likelihood"``.

    Raises:
        ModelError: for a channel other than Gaussian.
        ValueError: for settings out of range.
    """

    citation: ClassVar[str] = "Chung et al. 2023 (arXiv 2209.14687)"
    steps: int = 1000
    zeta: float = 0.5
    weight: str = "published"

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.zeta > 0 or self.weight not in ("published", "likelihood"):
            raise ValueError(
                "DPS: expected steps >= 1, zeta > 0 and weight 'published' or 'likelihood', got "
                f"steps={self.steps}, zeta={self.zeta}, weight={self.weight!r}."
            )

    @property
    def sampler(self) -> Sampler:
        return Ancestral(steps=self.steps)

    def process(self, prior: DiffusionPrior) -> Diffusion:
        return DDPM()

    def check(self, problem: Problem) -> None:
        if not isinstance(problem.channel, Gaussian):
            raise ModelError(
                f"DPS needs a Gaussian channel; site {problem.observed_site!r} has {type(problem.channel).__name__}. "
                "Use QCSSGMPlus(), which serves every channel of a linear operator."
            )

    def step(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        now, then = state.levels
        with torch.enable_grad():
            x_t = state.x.detach().requires_grad_()
            x0_hat = self._prior(problem).denoise(x_t, now.t)
            (gradient,) = torch.autograd.grad(self._misfit(problem, x0_hat).sum(), x_t)
        x_t, x0_hat = x_t.detach(), x0_hat.detach()
        if self.weight == "likelihood":
            x0_hat = x0_hat - (now.b**2 / now.a).to(x_t.dtype) * gradient
        x = self.sampler.move(x_t, x0_hat, now, then, torch.zeros_like(now.b), rng)
        if self.weight == "published":
            x = x - self.zeta * gradient
        return state.moved(x), {"nfe": torch.ones(len(x), dtype=torch.int64)}

    def _misfit(self, problem: Problem, x0_hat: Tensor) -> Tensor:
        """One number per draw, whose gradient guides the step."""
        residual = (problem.y - problem.operator(x0_hat)).flatten(1)
        if self.weight == "published":
            return torch.linalg.vector_norm(residual, dim=1)
        noise = torch.as_tensor(problem.channel.noise_std, dtype=residual.dtype, device=residual.device)
        return 0.5 * (residual / noise.expand(problem.y.shape).flatten()).square().sum(1)

r"""MCG: a gradient towards the data, then the data in place of what they measure.

With ``x'_{t-1}`` an ancestral step without y, ``P = A^+ A`` and the data noised to the level (a, b) that they join,

    x_{t-1} = (I - P) (x'_{t-1} - zeta grad_{x_t} |W (y - A x0_hat(x_t))|_2) + P (a A^+ y + b eps),

one vector-Jacobian product of the network per step.  The gradient moves only what was not measured, and there puts
right what replacement alone gets wrong: that the unmeasured part does not see the data.  The noise of y is part of that
of the level, and a direction whose data are noisier than the level keeps ``P x'`` (see
:mod:`bayes_ir.inference.kernels._replacement`); the level is t-1, where the released code noises the data to t.

The published step of the squared norm is ``alpha = zeta' / |W (y - A x0_hat)|``, which is ``zeta = 2 zeta'`` here; the
released code has ``zeta = 1`` for inpainting of images in [-1, 1] and 0.1 for colourisation and tomography.

What it approximates: the step is a length, the same at every noise level and for every noise of the data, so that the
draws are no posterior sample, whatever zeta.

Source: Chung, Sim, Ryu and Ye 2022 (NeurIPS), section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.inference.kernels._replacement import check_replaceable, known_part
from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.path import PathKernel, PathState
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Ancestral, Sampler, Visit
from bayes_ir.models.diffusion import DDPM, Diffusion
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["MCG"]


@dataclass(frozen=True, kw_only=True)
class MCG(PathKernel):
    """MCG for a Gaussian channel and a linear operator with a decomposition.

    Attributes:
        steps: network evaluations, each with a vector-Jacobian product.
        zeta: step of the gradient, in units of the image (a data range half as wide wants half of it).
        weight: W, ``"identity"`` or ``"pseudo-inverse"`` (``A^+``, the published choice for tomography).

    Raises:
        ModelError: for a channel other than Gaussian, or an operator that is not linear or has no decomposition.
        ValueError: for settings out of range.
    """

    citation: ClassVar[str] = "Chung et al. 2022 (arXiv 2206.00941)"
    steps: int = 1000
    zeta: float = 1.0
    weight: str = "identity"

    def __post_init__(self) -> None:
        if self.steps < 2 or not self.zeta >= 0 or self.weight not in ("identity", "pseudo-inverse"):
            raise ValueError(
                "MCG: expected steps >= 2, zeta >= 0 and weight 'identity' or 'pseudo-inverse', got "
                f"steps={self.steps}, zeta={self.zeta}, weight={self.weight!r}."
            )

    @property
    def sampler(self) -> Sampler:
        return Ancestral(steps=self.steps)

    def process(self, prior: DiffusionPrior) -> Diffusion:
        return DDPM()

    def check(self, problem: Problem) -> None:
        check_replaceable(problem, "MCG")

    def step(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        now, then = state.levels
        with torch.enable_grad():
            x_t = state.x.detach().requires_grad_()
            x0_hat = problem.prior.denoise_at(x_t, now.a, now.b)
            (gradient,) = torch.autograd.grad(self._misfit(problem, x0_hat).sum(), x_t)
        visit = Visit(x_t.detach(), x0_hat.detach(), now)
        x = self.sampler.move(visit, state.before, then, 0.0, rng)
        known = known_part(problem)
        x = known.replace(x - self.zeta * known.unseen(gradient), state.x, now, then, rng)
        return state.moved(x, visit), {"nfe": torch.ones(len(x), dtype=torch.int64)}

    def _misfit(self, problem: Problem, x0_hat: Tensor) -> Tensor:
        """``|W (y - A x0_hat)|_2`` of every draw, (B,)."""
        residual = problem.y - problem.operator(x0_hat)
        if self.weight == "pseudo-inverse":
            residual = problem.operator.pinv(residual)
        return torch.linalg.vector_norm(residual.flatten(1), dim=1)

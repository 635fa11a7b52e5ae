r"""Projected denoising: every denoised mean is brought into a constraint set before the path goes on.

    x0_hat     <- E[x_0 | x_t], or x0_hat(x_t, y) of another kernel
    x0_hat     <- P(x0_hat)
    x_{t-1}    <- sampler(x_t, x0_hat)

P is any map onto the images that are possible: a clamp, the solution set of a linear constraint, a simulator.  Since
each state moves towards an image that satisfies the constraint, the path is led to a place where the prior and the
constraint agree; a projection of the finished image would only cut off what is wrong.  The last step ends in the
projected mean, so that under every sampler whose step to the clean image is ``x0_hat`` the draws satisfy the constraint
as exactly as P does.

With ``kernel`` the data act as well: its conditioned denoised mean is projected (where that kernel knows the law of
``x_0`` given ``x_t`` and y, a draw of it at the steps where the kernel itself would move from a draw).  Without, y is
not used and the constraint alone acts.

What it approximates: ``P(E[x_0 | x_t])`` is taken for the mean of ``x_0`` given ``x_t`` and the constraint.  That is
right for a linear constraint where the prior does not correlate what is constrained with the rest; otherwise the draws
satisfy the constraint and their law is not the conditional one.

Source: Yuan et al. 2023 (PhysDiff, ICCV), algorithm 1, where P is a simulator that imitates a motion; the paper
projects at some of the steps only, because its P is slow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from bayes_ir.inference.kernels.conditioned import ComposedKernel, Conditioned, ConditionedKernel
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import DDIM, Sampler
from bayes_ir.models.diffusion import Diffusion
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["Projected"]


@dataclass(frozen=True, kw_only=True, repr=False)
class Projected(ComposedKernel):
    """A denoiser, conditioned on y or not, whose answers are projected onto a constraint set.

    Attributes:
        projection: P, images (B, *event_shape) to images, each draw by itself; see
            :mod:`bayes_ir.inference.projections`.  A function shows in the ``repr`` by its name.
        kernel: whose conditioned denoised mean is projected; ``None`` for the denoised mean itself.
        sampler: how the denoiser becomes a path: that of ``kernel`` where there is one, else
            ``DDIM(steps=100, eta=1.0)`` unless given.
        steps: network evaluations, instead of those of the sampler.

    Raises:
        ModelError: where ``kernel`` refuses the problem, or P changes the shape or the dtype of images.
        TypeError: for a projection that cannot be called, or a kernel that has no conditioned denoised mean.
        ValueError: for a sampler or steps beside a kernel that has its own.
    """

    citation: ClassVar[str] = "Yuan et al. 2023 (arXiv 2212.02500)"
    projection: Callable[[Tensor], Tensor]
    kernel: ConditionedKernel | None = None
    sampler: Sampler = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if not callable(self.projection):
            raise TypeError(f"Projected: expected a projection to call on images, got {self.projection!r}.")
        if self.kernel is None:
            object.__setattr__(self, "sampler", self.sampler or DDIM(steps=100, eta=1.0))
            super().__post_init__()
            return
        if not isinstance(self.kernel, ConditionedKernel):
            raise TypeError(
                "Projected: expected a kernel that conditions the denoised mean and leaves the path to a sampler, got "
                f"{self.kernel!r}."
            )
        if self.steps is not None or self.sampler not in (None, self.kernel.sampler):
            raise ValueError(
                f"Projected: the path is that of {self.kernel!r}; expected no sampler and no steps beside it, got "
                f"sampler={self.sampler!r}, steps={self.steps}. Set them in the kernel."
            )
        object.__setattr__(self, "sampler", self.kernel.sampler)

    def __repr__(self) -> str:
        projection = getattr(self.projection, "__name__", None) or repr(self.projection)
        return (
            f"Projected(projection={projection}, kernel={self.kernel!r}, sampler={self.sampler!r}, "
            f"steps={self.steps})"
        )

    def process(self, prior: DiffusionPrior) -> Diffusion:
        return (self.kernel or self.sampler).process(prior)

    def check(self, problem: Problem) -> None:
        if self.kernel is not None:
            self.kernel.check(problem)

    def condition(self, problem: Problem, prior: DiffusionPrior, state: PathState, rng: Rng) -> Conditioned:
        if self.kernel is None:
            return Conditioned(x0_hat=self._project(prior.denoise(state.x, state.levels[0].t)))
        found = self.kernel.condition(problem, prior, state, rng)
        x0_hat = found.x0_hat
        if found.spread is not None and (self.kernel.drawn or state.last):
            x0_hat = x0_hat + found.spread(rng)
        return replace(found, x0_hat=self._project(x0_hat), spread=None)

    def _project(self, x0_hat: Tensor) -> Tensor:
        projected = self.projection(x0_hat)
        if projected.shape != x0_hat.shape or projected.dtype != x0_hat.dtype:
            raise ModelError(
                f"{self!r}: the projection made {tuple(projected.shape)}, {projected.dtype} of images "
                f"{tuple(x0_hat.shape)}, {x0_hat.dtype}; expected the same."
            )
        return projected

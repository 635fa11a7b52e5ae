r"""A reverse path, seen step by step: the states ``x_t`` that a kernel goes through, and what is believed at each.

At a level ``x_t = a x_0 + b eps`` a frame holds

    x             x_t, where the kernel evaluates its network
    denoised      x0_hat = E[x_0 | x_t] under the prior alone
    conditioned   x0_hat(x_t, y), the mean that the kernel moves towards, where it has one

The path is the one that ``sample`` walks with the same seed and as many draws in its block: looking takes no random
number from it.  It costs one network evaluation more per frame, and a call of the kernel's own rule for the conditioned
mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bayes_ir.inference.kernels.base import Kernel
from bayes_ir.inference.kernels.conditioned import ConditionedKernel
from bayes_ir.inference.kernels.path import PathKernel, PathState
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Level
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["Trajectory", "frame_numbers", "path_kernel", "trace_trajectory"]


@dataclass(frozen=True)
class Trajectory:
    """Frames of a reverse path, on the processor.

    Attributes:
        steps: number of the step that each frame comes before, (T,); the last frame is the finished draw.
        levels: noise levels of the frames, the last one clean.
        x: states, (T, draws, *event_shape).
        denoised: ``E[x_0 | x_t]``, shaped as x.
        conditioned: ``x0_hat(x_t, y)``, shaped as x, of kernels that have it.
    """

    steps: list[int]
    levels: list[Level]
    x: Tensor
    denoised: Tensor
    conditioned: Tensor | None


def path_kernel(kernel: Kernel) -> PathKernel:
    """The kernel, if it walks draws down noise levels, each by itself.

    Raises:
        ModelError: for any other.
    """
    if not isinstance(kernel, PathKernel):
        raise ModelError(
            f"{type(kernel).__name__} walks no path of noise levels, so that it has no trajectory; use a kernel that "
            "does, such as GuidedDiffusion(), PiGDM() or DPS()."
        )
    if not kernel.one_batch:
        raise ModelError(
            f"{type(kernel).__name__} moves clouds of particles that are resampled on their way, so that no draw has a "
            "path of its own; use a kernel that moves every draw by itself, such as GuidedDiffusion()."
        )
    return kernel


def frame_numbers(steps: int, frames: int | None) -> list[int]:
    """Steps to look at: all, or ``frames`` of them spread evenly, first and last among them.

    Raises:
        ValueError: for fewer than two frames.
    """
    if frames is None:
        return list(range(steps))
    if frames < 2:
        raise ValueError(f"a trajectory has 2 frames at least, its two ends; got frames={frames}.")
    return sorted({round(k) for k in np.linspace(0, steps - 1, min(frames - 1, steps))})


@torch.no_grad()
def trace_trajectory(
    problem: Problem,
    kernel: Kernel,
    *,
    draws: int,
    seed: int,
    frames: int | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Trajectory:
    """Walk the reverse path of a kernel and keep what is believed on the way.

    Args:
        problem: what is measured; one image, no plate.
        kernel: one that moves every draw by itself along noise levels.
        draws: number of paths, made in one batch.
        seed: seed of the run.
        frames: number of frames, the finished draw included; by default all.
        on_step: called after every step.

    Raises:
        ModelError: for a kernel without a path, or a plate of images.
        ValueError: for fewer than two frames.
    """
    kernel = path_kernel(kernel)
    if problem.data_sets:
        raise ModelError(
            f"a trajectory is that of one image, and site {problem.site!r} is a plate of {problem.data_sets.numel()}; "
            "give the model of one of them."
        )
    shown = set(frame_numbers(kernel.length(problem), frames))
    rng = Rng(seed, 0, 0, draws=draws, device=problem.device, dtype=problem.dtype)
    aside = Rng(seed, 0, 0, 1, draws=draws, device=problem.device, dtype=problem.dtype)
    prior = problem.prior.with_diffusion(kernel.process(problem.prior))
    state = kernel.init(problem, rng)
    steps, levels, x, denoised, conditioned = [], [], [], [], []
    step = 0
    while not state.done:
        if step in shown:
            now = state.levels[0]
            steps.append(step)
            levels.append(now)
            x.append(state.x)
            denoised.append(problem.prior.denoise_at(state.x, now.a, now.b))
            conditioned.append(_conditioned_mean(kernel, problem, prior, state, aside))
        state, _ = kernel.step(problem, state, rng)
        step += 1
        on_step()
    # At no noise every mean is the image itself.
    given = [c for c in conditioned if c is not None]
    finished = state.x
    return Trajectory(
        [*steps, step],
        [*levels, state.schedule[-1]],
        torch.stack([*x, finished]).cpu(),
        torch.stack([*denoised, finished]).cpu(),
        torch.stack([*given, finished]).cpu() if len(given) == len(steps) else None,
    )


def _conditioned_mean(
    kernel: PathKernel, problem: Problem, prior: DiffusionPrior, state: PathState, aside: Rng
) -> Tensor | None:
    """``x0_hat(x_t, y)``, with random numbers, if it takes any, that are not the path's."""
    if not isinstance(kernel, ConditionedKernel):
        return None
    return kernel.condition(problem, prior, state, aside).x0_hat

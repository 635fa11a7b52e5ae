"""The states at which the Jensen gap is looked at: on a kernel's path, or images with noise put on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayes_ir.arguments import natural
from bayes_ir.inference import Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Level
from bayes_ir.paths import walk

__all__ = ["jensen_states"]


def jensen_states(
    problem: Problem, kernel: Any, points: Any, levels: Any, draws: int, seed: int, progress: bool
) -> tuple[list[int], list[Level], Sequence[Tensor]]:
    """Numbers of the levels, the levels, and the states at each."""
    counted = isinstance(levels, int) and not isinstance(levels, bool)
    if kernel is not None:
        if points is not None or not counted:
            raise ValueError(
                "jensen_gap: a kernel brings states and noise levels of its own; leave points out and give the number "
                "of levels, or leave the kernel out."
            )
        frames = natural("jensen_gap", "levels", levels, 1) + 1
        found = walk(problem, kernel, "trajectory", draws, seed, frames, progress)
        return found.steps[:-1], found.levels[:-1], list(found.x[:-1])
    x_0 = _images(problem, points, draws, seed)
    ratios = _ratios(problem, levels, counted)
    eps = Rng(seed, 0, 0, 1, draws=len(x_0), device=problem.device, dtype=problem.dtype).normal(
        *x_0.shape[1:]
    )
    ladder = [Level(0.0, 1.0, ratio) for ratio in ratios]
    return list(range(len(ladder))), ladder, [x_0 + level.b * eps for level in ladder]


def _images(problem: Problem, points: Any, draws: int, seed: int) -> Tensor:
    if points is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return problem.prior.sample((draws,)).to(problem.device)
    x_0 = torch.as_tensor(points if isinstance(points, Tensor) else np.asarray(points))
    shape = tuple(problem.prior.event_shape)
    x_0 = x_0[None] if tuple(x_0.shape) == shape else x_0
    if tuple(x_0.shape[1:]) != shape or not len(x_0) or not x_0.isfinite().all():
        raise ValueError(
            f"jensen_gap: points must be finite images of shape {shape}, or (B, *{shape}); got shape {tuple(x_0.shape)}"
            f"{'' if x_0.isfinite().all() else ' with values that are not finite'}."
        )
    return x_0.to(problem.device, problem.dtype)


def _ratios(problem: Problem, levels: Any, counted: bool) -> list[float]:
    if counted:
        count = natural("jensen_gap", "levels", levels, 1)
        low, high = problem.prior.noise_range
        return np.geomspace(high, low, count).tolist()
    ratios = np.atleast_1d(np.asarray(levels, dtype=np.float64))
    if not ratios.size or ratios.ndim != 1 or not (np.isfinite(ratios) & (ratios > 0)).all():
        raise ValueError(
            f"jensen_gap: levels must be a number of levels or positive ratios b / a, got {levels!r}."
        )
    return ratios.tolist()

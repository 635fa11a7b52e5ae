"""A look inside a reverse path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from bayes_ir.arguments import image_dtype, natural, usable_device
from bayes_ir.inference import Kernel, Problem, read_problem
from bayes_ir.inference.trajectory import Trajectory, path_kernel, trace_trajectory
from bayes_ir.kernel_choice import chosen_kernel
from bayes_ir.progress import progress_bar
from bayes_ir.provenance import settings_of, versions

if TYPE_CHECKING:
    import xarray

__all__ = ["trajectory", "walk"]


def trajectory(
    model: Callable,
    kernel: Kernel,
    data: Mapping[str, Any] | None = None,
    *,
    draws: int = 1,
    seed: int = 0,
    frames: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> xarray.DataTree:
    """Walk the reverse path of a kernel and keep what is believed on the way.

    The path is the one that ``sample(model, kernel, chains=1, draws=draws, block_size=draws, seed=seed)`` walks. Every
    frame costs one network evaluation more, and a call of the kernel's rule for the conditioned mean.

    Args:
        model: Pyro model of one image, as for :func:`bayes_ir.sample`.
        kernel: one that moves every draw by itself along noise levels.
        data: values of the observed sites.
        draws: number of paths.
        seed: seed of the run.
        frames: number of frames, first state and finished draw among them; by default all.
        device: torch device, by default that of the prior.
        dtype: floating point type of the images, by default that of the prior.
        progress: show a progress bar.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Returns:
        DataTree with the group ``trajectory``: ``x`` (the states x_t), ``denoised`` (``E[x_0 | x_t]`` under the prior)
        and, of kernels that have it, ``conditioned`` (``x0_hat(x_t, y)``), over ``time``, ``draw`` and the axes of the
        image; coordinates ``a``, ``b`` and ``noise = b / a``.

    Raises:
        ModelError: for a model that cannot be read, or a kernel that walks no path of its own.
        ValueError: for arguments out of range.
    """
    from bayes_ir.analysis.posterior import PosteriorLayout
    from bayes_ir.analysis.trajectory import trajectory_tree

    draws, seed = natural("trajectory", "draws", draws, 1), natural("trajectory", "seed", seed, 0)
    if frames is not None:
        frames = natural("trajectory", "frames", frames, 2)
    problem = read_problem(model, data, model_args, model_kwargs)
    problem = problem.to(device=usable_device(device), dtype=image_dtype(dtype))
    found = walk(problem, kernel, "trajectory", draws, seed, frames, progress)
    layout = PosteriorLayout(problem.site, tuple(problem.prior.event_shape), {}, draws, 1, draws)
    images = {"x": found.x, "denoised": found.denoised}
    if found.conditioned is not None:
        images["conditioned"] = found.conditioned
    attrs = settings_of(problem, kernel) | {"seed": seed, "draws": draws} | versions()
    levels = [(level.a, level.b) for level in found.levels]
    return trajectory_tree(found.steps, levels, images, layout.event_dims, attrs)


def walk(
    problem: Problem, kernel: Any, name: str, draws: int, seed: int, frames: int | None, progress: bool
) -> Trajectory:
    """The trajectory of a kernel that was checked, under a progress bar of that name."""
    walker = path_kernel(chosen_kernel(kernel, problem, progress=False))
    walker.check(problem)
    with progress_bar(name, walker.length(problem), progress) as on_step:
        return trace_trajectory(problem, walker, draws=draws, seed=seed, frames=frames, on_step=on_step)

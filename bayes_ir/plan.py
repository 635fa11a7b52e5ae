"""What one call of ``sample`` will do: the problem, the settings, and the blocks of draws as they are made.

A model whose only unknown is the image is drawn by its kernel, block by block; one with nuisance parameters by blocked
Gibbs sampling, one chain to a block, or by evidence where they are one discrete site and this is asked for.  What
follows (sinks, progress, attributes) need not know which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from bayes_ir.arguments import natural
from bayes_ir.inference import (
    Block,
    BlockedGibbs,
    Enumerated,
    EnumeratedModel,
    JointModel,
    Problem,
    draw_blocks,
    enumerated_block,
    gibbs_chain,
    read_problem,
)
from bayes_ir.inference.run import block_plan
from bayes_ir.kernel_choice import chosen_kernel
from bayes_ir.provenance import settings_of

__all__ = ["Plan", "plan_of"]

Skip = Callable[[int, int], bool]
OnStep = Callable[[], None]


@dataclass(frozen=True)
class Plan:
    """A run that is ready to go.

    Attributes:
        problem: what the layout of the draws is made from.
        settings: everything that the draws depend on.
        steps: number of steps of one block.
        others: shapes of the further sites whose values are kept.
        blocks: makes the blocks that ``skip(chain, index)`` does not pass over, calling ``on_step()``.
    """

    problem: Problem
    settings: dict[str, Any]
    steps: int
    others: dict[str, tuple[int, ...]]
    blocks: Callable[[Skip, OnStep], Iterator[Block]]

    def left(self, done: Skip) -> int:
        """Steps of the blocks that are not done."""
        counts = (self.settings[name] for name in ("draws", "chains", "block_size"))
        return self.steps * sum(not done(chain, index) for chain, index, _, _ in block_plan(*counts))


def plan_of(
    joint: JointModel,
    kernel: Any,
    *,
    draws: int,
    chains: int,
    seed: int,
    block_size: int | None,
    device: torch.device | None,
    dtype: torch.dtype | None,
    progress: bool,
) -> Plan:
    """The plan of a model; arguments as for :func:`bayes_ir.sample`.

    Raises:
        ModelError: when the model cannot be read, or not served by the kernel.
        TypeError: for something that is no kernel.
        ValueError: for a block size that is no number, or beside nuisance parameters.
    """
    prepare = partial(Problem.to, device=device, dtype=dtype)
    counts = {"seed": seed, "draws": draws, "chains": chains}
    if isinstance(kernel, Enumerated):
        return _of_enumerated(joint, kernel, prepare, counts, block_size)
    if joint.site and joint.latents:
        return _of_joint(joint, kernel, prepare, counts, block_size, progress)
    args, kwargs = joint.arguments
    problem = prepare(read_problem(joint.model, joint.data, args, kwargs))
    if isinstance(kernel, BlockedGibbs):
        raise TypeError(
            f"sample: {kernel!r} samples nuisance parameters, and the image {joint.site!r} is all that this model "
            "leaves unknown; pass the kernel of the image itself."
        )
    one = problem.data_set(0) if problem.data_sets else problem
    kernel = chosen_kernel(kernel, one, progress)
    kernel.check(one)
    size = natural("sample", "block_size", kernel.block_size if block_size is None else block_size, 1)

    def blocks(skip: Skip, on_step: OnStep) -> Iterator[Block]:
        for block in draw_blocks(problem, kernel, **counts, block_size=size, skip=skip, on_step=on_step):
            yield _with_derived(joint, problem, block)

    shapes = {name: tuple(value.shape) for name, value in joint.derived(_mean(problem), {}).items()}
    settings = settings_of(problem, kernel) | counts | {"block_size": size}
    return Plan(problem, settings, kernel.length(one), shapes, blocks)


def _of_joint(
    joint: JointModel,
    kernel: Any,
    prepare: Callable[[Problem], Problem],
    counts: dict[str, int],
    block_size: int | None,
    progress: bool,
) -> Plan:
    if block_size is not None:
        raise ValueError(
            f"sample: block_size is {block_size!r}, but a model with nuisance parameters is drawn chain by chain; "
            "leave it out."
        )
    gibbs = kernel if isinstance(kernel, BlockedGibbs) else BlockedGibbs()
    asked = gibbs.image if isinstance(kernel, BlockedGibbs) else kernel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(counts["seed"])
        theta = joint.start()
    problem = prepare(joint.problem(theta))
    one = problem.data_set(0) if problem.data_sets else problem
    image = chosen_kernel(asked, one, progress)
    image.check(one)
    gibbs = replace(gibbs, image=image)
    kept = theta | joint.derived(_mean(problem), theta)
    settings = settings_of(problem, image) | counts | {"block_size": counts["draws"], "kernel": repr(gibbs)}
    settings |= {"nuisances": sorted(joint.latents)}

    def blocks(skip: Skip, on_step: OnStep) -> Iterator[Block]:
        for chain in range(counts["chains"]):
            if not skip(chain, 0):
                yield gibbs_chain(
                    joint, gibbs, prepare, chain, counts["draws"], seed=counts["seed"], on_step=on_step
                )

    shapes = {name: tuple(value.shape) for name, value in kept.items()}
    return Plan(problem, settings, gibbs.sweeps(counts["draws"]), shapes, blocks)


def _of_enumerated(
    joint: JointModel,
    kernel: Enumerated,
    prepare: Callable[[Problem], Problem],
    counts: dict[str, int],
    block_size: int | None,
) -> Plan:
    model = EnumeratedModel.of(joint, prepare)
    for problem in model.problems:
        kernel.image.check(problem)
    first = model.problems[0]
    size = natural("sample", "block_size", kernel.image.block_size if block_size is None else block_size, 1)
    settings = settings_of(first, kernel.image) | counts | {"block_size": size, "kernel": repr(kernel)}
    settings |= {"nuisances": [model.name]}

    def blocks(skip: Skip, on_step: OnStep) -> Iterator[Block]:
        for chain, index, start, count in block_plan(counts["draws"], counts["chains"], size):
            if not skip(chain, index):
                yield enumerated_block(
                    model, kernel, chain, index, start, count, seed=counts["seed"], on_step=on_step
                )

    values = len(model.problems)
    shapes: dict[str, tuple[int, ...]] = {model.name: (), f"{model.name}_probability": (values,)}
    return Plan(first, settings, values * kernel.image.length(first), shapes, blocks)


def _mean(problem: Problem) -> torch.Tensor:
    return problem.prior.mean.expand(problem.data_sets + problem.prior.event_shape)


def _with_derived(joint: JointModel, problem: Problem, block: Block) -> Block:
    """The block with the ``pyro.deterministic`` sites of its draws."""
    if not joint.deterministics:
        return block
    each = [joint.derived(x.to(problem.device), {}) for x in block.draws]
    return replace(block, others={name: torch.stack([d[name].cpu() for d in each]) for name in each[0]})

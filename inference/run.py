"""Running a kernel over blocks of draws.

A block is the unit of work: one generator, one batch of draws, one chunk in a store, one thing to redo
after a crash.  Blocks are independent, so they may be run in any order or left out.

Of a plate of images a block holds draws for every image.  They are made in one batch, the network being called once
for all, where the kernel can and the noise is the same for all; otherwise image by image, each with a generator of its
own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.kernels.base import Kernel
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.models.channels import Channel

__all__ = ["Block", "block_plan", "draw_block", "draw_blocks"]


@dataclass(frozen=True)
class Block:
    """Finished draws of one block, on the processor.

    Attributes:
        chain: number of the chain.
        index: number of the block in its chain.
        start: number of its first draw in the chain.
        draws: images, (n, *event_shape); of a plate of P images (n, P, *event_shape), and so on below.
        log_likelihood: ``log p(y_m | x)`` per observed site, (n, *shape) each; 0 where a measurement is left out.
        stats: one number per draw, (n,) each: ``nfe``, ``diverging``, ``log_lik``, ``log_lik_rep``
            and what the kernel reports (numbers of steps are added, residuals are the largest seen).
        others: values of further sites of the model, by name, (n, *shape) each.
    """

    chain: int
    index: int
    start: int
    draws: Tensor
    log_likelihood: dict[str, Tensor]
    stats: dict[str, Tensor]
    others: dict[str, Tensor] = field(default_factory=dict)


def block_plan(draws: int, chains: int, block_size: int) -> list[tuple[int, int, int, int]]:
    """All blocks as (chain, index, first draw, number of draws)."""
    blocks = math.ceil(draws / block_size)
    return [
        (chain, index, index * block_size, min(block_size, draws - index * block_size))
        for chain in range(chains)
        for index in range(blocks)
    ]


def draw_blocks(
    problem: Problem,
    kernel: Kernel,
    *,
    draws: int,
    chains: int,
    seed: int,
    block_size: int,
    skip: Callable[[int, int], bool] = lambda chain, index: False,
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[Block]:
    """Draw every block that ``skip(chain, index)`` does not pass over, in order."""
    for chain, index, start, count in block_plan(draws, chains, block_size):
        if not skip(chain, index):
            yield draw_block(problem, kernel, chain, index, start, count, seed=seed, on_step=on_step)


@torch.no_grad()
def draw_block(
    problem: Problem,
    kernel: Kernel,
    chain: int,
    index: int,
    start: int,
    count: int,
    *,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
    init: Callable[[Problem, Rng], Any] | None = None,
) -> Block:
    """Draw one block: a function of the problem, the kernel, (seed, chain, index) and the count.

    ``init`` makes the first state of the kernel where it is not to start by itself.
    """
    if problem.data_sets and not (kernel.one_batch and problem.one_batch):
        apart = [
            _draws(problem.data_set(i), kernel, (chain, index, i + 1), count, seed, on_step, init)
            for i in range(problem.data_sets.numel())
        ]
        made = _Draws(*(_stacked(parts) for parts in zip(*apart, strict=True)))
    else:
        made = _draws(problem.rows(count), kernel, (chain, index), count, seed, on_step, init)
        made = _Draws(*(_unflattened(part, count, problem.data_sets) for part in made))
    log_likelihood = problem.by_site(made.log_likelihood, missing=0.0)
    return Block(chain, index, start, made.x, log_likelihood, made.stats)


class _Draws(NamedTuple):
    x: Tensor  # (rows, *event_shape)
    log_likelihood: Tensor  # (rows, *measurement_shape)
    stats: dict[str, Tensor]  # (rows,) each


def _draws(
    problem: Problem,
    kernel: Kernel,
    block: tuple[int, ...],
    count: int,
    seed: int,
    on_step: Callable[[], None],
    init: Callable[[Problem, Rng], Any] | None,
) -> _Draws:
    rows = count if not problem.data_sets else problem.data_sets.numel()
    rng = Rng(seed, *block, draws=rows, device=problem.device, dtype=problem.dtype)
    state = (init or kernel.init)(problem, rng)
    stats: dict[str, Tensor] = {}
    while not state.done:
        state, info = kernel.step(problem, state, rng)
        _accumulate(stats, info)
        on_step()
    x = state.x
    stats["diverging"] = ~x.isfinite().flatten(1).all(dim=1)
    log_likelihood, replicated = _log_likelihoods(problem, x, stats["diverging"], rng)
    stats["log_lik"] = log_likelihood.flatten(1).double().sum(1)
    stats["log_lik_rep"] = replicated.flatten(1).double().sum(1)
    return _Draws(x.cpu(), log_likelihood.cpu(), {k: v.cpu() for k, v in stats.items()})


def _stacked(parts: Sequence[Any]) -> Any:
    """The same part of every image of a plate as one, (n, P, ...)."""
    if isinstance(parts[0], dict):
        return {name: torch.stack([part[name] for part in parts], dim=1) for name in parts[0]}
    return torch.stack(list(parts), dim=1)


def _unflattened(part: Any, count: int, data_sets: torch.Size) -> Any:
    """Rows of draws and images of a plate apart: (n P, ...) to (n, P, ...)."""
    if isinstance(part, dict):
        return {name: _unflattened(value, count, data_sets) for name, value in part.items()}
    return part.reshape(count, *data_sets, *part.shape[1:])


def _accumulate(stats: dict[str, Tensor], info: dict[str, Tensor]) -> None:
    for name, value in info.items():
        if name not in stats:
            stats[name] = value
        elif value.is_floating_point():
            stats[name] = torch.maximum(stats[name], value)
        else:
            stats[name] = stats[name] + value


def _log_likelihoods(problem: Problem, x: Tensor, diverging: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
    """``log p(y_m | x)`` and ``log p(y_rep,m | x)``, NaN for draws that diverged."""
    rows = diverging.reshape(-1, *(1,) * len(problem.prior.event_shape))
    channel = problem.channel_at(torch.where(rows, problem.prior.mean, x))
    replicated = _replicate(channel, rng)
    rows = diverging.reshape(-1, *(1,) * len(problem.operator.measurement_shape))
    data, again = (channel.log_prob(y).masked_fill(rows, torch.nan) for y in (problem.y, replicated))
    return data, again


def _replicate(channel: Channel, rng: Rng) -> Tensor:
    """Measurements ``y_rep ~ p(. | x)``, one set per draw."""
    # Pyro's distributions draw from the global generator: seed it from the block's, and leave it as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.seed())
        return channel.with_location(channel.location.cpu()).sample().to(channel.location.device)

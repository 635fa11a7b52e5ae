"""Running a kernel over blocks of draws.

A block is the unit of work: one generator, one batch of draws, one chunk in a store, one thing to redo
after a crash.  Blocks are independent, so they may be run in any order or left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
        draws: images, (n, *event_shape).
        log_likelihood: ``log p(y_m | x)``, (n, *measurement_shape).
        stats: one number per draw, (n,) each: ``nfe``, ``diverging``, ``log_lik``, ``log_lik_rep``
            and what the kernel reports (numbers of steps are added, residuals are the largest seen).
    """

    chain: int
    index: int
    start: int
    draws: Tensor
    log_likelihood: Tensor
    stats: dict[str, Tensor]


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
) -> Block:
    """Draw one block: a function of the problem, the kernel, (seed, chain, index) and the count."""
    rng = Rng(seed, chain, index, draws=count, device=problem.device, dtype=problem.dtype)
    state = kernel.init(problem, rng)
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
    return Block(chain, index, start, x.cpu(), log_likelihood.cpu(), {k: v.cpu() for k, v in stats.items()})


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
    rows = diverging.reshape(-1, *(1,) * problem.y.ndim)
    data, again = (channel.log_prob(y).masked_fill(rows, torch.nan) for y in (problem.y, replicated))
    return data, again


def _replicate(channel: Channel, rng: Rng) -> Tensor:
    """Measurements ``y_rep ~ p(. | x)``, one set per draw."""
    # Pyro's distributions draw from the global generator: seed it from the block's, and leave it as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.seed())
        return channel.with_location(channel.location.cpu()).sample().to(channel.location.device)

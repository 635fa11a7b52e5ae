r"""Time travel: a path of noise levels that goes back up now and then, so that the image can settle.

From levels ``L_0 > L_1 > ... > L_{n-1}`` (noisiest first) and the clean one after them, the path descends one level at
a time.  Let p count the levels that are left above the clean one, so that ``L_{n-1}`` is at p = 0.  When the descent
first arrives at a p that is a multiple of ``length`` and below ``n - length``, it rises ``length`` single moves by the
forward process,

    x_s = (a_s / a_t) x_t + sqrt(b_s^2 - (a_s / a_t)^2 b_t^2) z,      b_s / a_s > b_t / a_t,

and descends again, ``repeats - 1`` times over.  Every descending move costs one network evaluation, a rising one none.

With 250 levels, length 10 and 10 repeats these are 2,410 descending and 2,160 rising moves.

Source: Lugmayr et al. 2022 (RePaint, arXiv 2201.09865), algorithm 1 and appendix B (resampling schedule).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.kernels.base import Info
from bayes_ir.inference.kernels.path import PathKernel, PathState
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Level, root

__all__ = ["Move", "TravellingKernel", "renoised", "time_travel", "visits"]


class Move(NamedTuple):
    """One move of a path."""

    now: Level
    then: Level
    forward: bool  # whether it rises to more noise, by the forward process


def time_travel(levels: Sequence[Level], length: int = 1, repeats: int = 1) -> list[Move]:
    """The moves of a path that takes every stretch of ``length`` levels ``repeats`` times.

    Args:
        levels: levels of falling noise, the clean one last, as :meth:`Sampler.schedule` gives them.
        length: levels that a jump rises, at least 1.
        repeats: times a stretch is descended, at least 1; 1 is the plain path.

    Raises:
        ValueError: for a length or repeats below 1, or, where the path rises, for levels that do not fall strictly.
    """
    if length < 1 or repeats < 1:
        raise ValueError(f"time travel: expected length >= 1 and repeats >= 1, got {length} and {repeats}.")
    if repeats > 1 and not all(above.ratio > below.ratio for above, below in pairwise(levels)):
        raise ValueError(
            "time travel: expected levels whose noise falls strictly, got one that repeats or rises; "
            "use a sampler that visits every level once, such as DDIM or Ancestral."
        )
    last = len(levels) - 2  # index of the least noisy level
    jumps = {last - p: repeats - 1 for p in range(0, last + 1 - length, length)}
    moves, k = [], 0
    while k <= last:
        if jumps.get(k, 0) > 0:
            jumps[k] -= 1
            for above in range(k - 1, k - length - 1, -1):
                moves.append(Move(levels[above + 1], levels[above], True))
            k -= length
        moves.append(Move(levels[k], levels[k + 1], False))
        k += 1
    return moves


def visits(levels: Sequence[Level], length: int, repeats: int) -> list[Level]:
    """The levels of :func:`time_travel` in the order in which they are visited, the clean one last."""
    return [levels[0], *(move.then for move in time_travel(levels, length, repeats))]


def renoised(x: Tensor, now: Level, then: Level, rng: Rng) -> Tensor:
    """A draw of ``q(x_s | x_t)``, from level ``now`` up to the noisier ``then``, for x (B, *event_shape)."""
    scale = then.a / now.a
    added = root(then.b**2 - scale**2 * now.b**2)
    return scale * x + added * rng.normal(*x.shape[1:])


class TravellingKernel(PathKernel):
    """Kernel whose path may rise by ``q(x_s | x_t)``; mixed into one that says how to descend.

    Attributes:
        travel_length: levels that a jump rises.
        travel_repeats: times a stretch of ``travel_length`` levels is descended.
    """

    travel_length: int
    travel_repeats: int

    def length(self, problem: Problem) -> int:
        levels = self.sampler.schedule(self._prior(problem))
        return len(visits(levels, self.travel_length, self.travel_repeats)) - 1

    def init(self, problem: Problem, rng: Rng) -> PathState:
        state = super().init(problem, rng)
        return replace(state, schedule=visits(state.schedule, self.travel_length, self.travel_repeats))

    def step(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        now, then = state.levels
        if then.ratio <= now.ratio:
            return self.descend(problem, state, rng)
        x = renoised(state.x, now, then, rng)
        return state.moved(x), {"nfe": torch.zeros(len(x), dtype=torch.int64)}

    @abstractmethod
    def descend(self, problem: Problem, state: PathState, rng: Rng) -> tuple[PathState, Info]:
        """A step to less noise with one network evaluation."""

    def _check_travel(self) -> None:
        if self.travel_length < 1 or self.travel_repeats < 1:
            raise ValueError(
                f"{type(self).__name__}: expected travel_length >= 1 and travel_repeats >= 1, got "
                f"travel_length={self.travel_length}, travel_repeats={self.travel_repeats}."
            )

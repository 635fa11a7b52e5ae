"""The contract of a kernel: ``init`` once, ``step`` until done, read off the draws.

    state = kernel.init(problem, rng)
    while not state.done:
        state, info = kernel.step(problem, state, rng)
    draws = state.x

A kernel is a frozen dataclass of settings, so its ``repr`` can be typed back; everything that changes
is in the state, which is the minimum the next step needs.  ``info`` maps names to one number per
draw: what the user may want to see afterwards in ``sample_stats``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

from torch import Tensor

from bayes_ir.inference.problem import Problem
from bayes_ir.inference.rng import Rng

__all__ = ["Info", "Kernel", "State"]

Info = dict[str, Tensor]


class State(Protocol):
    """What every kernel state shows."""

    @property
    def x(self) -> Tensor:
        """Current images, (B, *event_shape); the draws once ``done``."""
        ...

    @property
    def done(self) -> bool:
        """Whether the draws are finished."""
        ...


S = TypeVar("S", bound=State)


@dataclass(frozen=True, kw_only=True)
class Kernel(ABC, Generic[S]):
    """A way of drawing images from ``p(x | y)``, one batch of independent draws at a time."""

    citation: ClassVar[str]
    #: Whether rows of a batch may belong to different data sets; they do not for kernels whose draws share particles.
    one_batch: ClassVar[bool] = True

    @property
    def block_size(self) -> int:
        """Draws of a block, where the user does not say."""
        return 64

    def check(self, problem: Problem) -> None:
        """Refuse, before the first step and in words, a problem this kernel cannot serve.

        Raises:
            ModelError: saying what was found, what the kernel needs and what to use instead.
        """

    @abstractmethod
    def length(self, problem: Problem) -> int:
        """Number of calls of :meth:`step` a block takes."""

    @abstractmethod
    def init(self, problem: Problem, rng: Rng) -> S:
        """The starting state of ``rng.draws`` draws."""

    @abstractmethod
    def step(self, problem: Problem, state: S, rng: Rng) -> tuple[S, Info]:
        """One step of all draws."""

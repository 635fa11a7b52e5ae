"""What a suite is: cells of settings, problems whose exact posterior can be drawn from, rows that belong to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import pyro
from numpy.typing import NDArray

from bayes_ir.api import simulate
from bayes_ir.bench.metrics import METRICS, sphere
from bayes_ir.bench.rows import PriorDraws
from bayes_ir.inference import Exact, Kernel, Problem, read_problem
from bayes_ir.models import Channel, DiffusionPrior, LinearOperator
from bayes_ir.words import look_up

__all__ = ["Case", "Cell", "Suite", "case_of", "cell_name", "select"]

Cell = dict[str, Any]
_SEED_STRIDE = 1_000_000  # seeds of the problems of two runs do not meet


@dataclass(frozen=True, eq=False)
class Case:
    """One problem of a cell.

    Attributes:
        problem: what the kernels are given.
        seed: seed the problem was made from.
        directions: slices of unit length on which draws are compared, (P, N).
    """

    problem: Problem
    seed: int
    directions: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Suite(ABC):
    """Problems with exact posteriors, in cells.

    Attributes:
        metric: the distance that the table shows; records hold all three.

    Raises:
        ValueError: for an unknown metric.
    """

    name: ClassVar[str]
    defaults: ClassVar[tuple[str, ...]]
    metric: str = "mean-W1"

    def __post_init__(self) -> None:
        look_up("metric", str(self.metric), dict.fromkeys(METRICS))

    @property
    def switches(self) -> dict[str, Any]:
        """The settings that change the figures, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "metric"}

    @abstractmethod
    def cells(self) -> tuple[Cell, ...]:
        """All cells."""

    @abstractmethod
    def case(self, cell: Cell, number: int, seed: int) -> Case:
        """Problem ``number`` of a cell: a function of the suite, the cell, the number and the seed of the run."""

    def rows(self, cell: Cell) -> dict[str, Kernel]:
        """Rows that have a name of their own."""
        return {"iid": Exact(), "prior": PriorDraws()}

    @staticmethod
    def problem_seed(base: int, number: int, seed: int) -> int:
        """Seed of a problem."""
        return base + number + _SEED_STRIDE * seed


def case_of(
    prior: DiffusionPrior, operator: LinearOperator, channel: Callable[..., Channel], seed: int
) -> Case:
    """A truth from the prior and its measurements, with slices uniform on the sphere."""

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior))))

    problem = read_problem(model, {"y": simulate(model, seed=seed)["y"]})
    return Case(problem, seed, sphere(prior.event_shape.numel(), seed))


def cell_name(cell: Cell) -> str:
    """``"d=8,dy=1"``."""
    return ",".join(f"{key}={value}" for key, value in cell.items())


def select(cells: Sequence[Cell], wanted: Iterable[str]) -> tuple[Cell, ...]:
    """The cells that one of the descriptions fits, all of them without a description.

    Args:
        cells: the cells there are.
        wanted: descriptions ``"d=8,dy=1"``, each leaving out what it does not restrict.

    Raises:
        ValueError: for a description that fits no cell.
    """
    wanted = list(wanted)
    chosen = [i for text in wanted for i in _fitting(cells, text)]
    return tuple(c for i, c in enumerate(cells) if i in chosen or not wanted)


def _fitting(cells: Sequence[Cell], text: str) -> list[int]:
    parts = [part.partition("=")[::2] for part in text.split(",")]
    found = [
        i for i, cell in enumerate(cells) if all(_same(cell.get(k.strip()), v.strip()) for k, v in parts)
    ]
    if not found:
        there = "; ".join(cell_name(cell) for cell in cells)
        raise ValueError(f"no cell of the suite is {text!r}. There are: {there}.")
    return found


def _same(value: Any, text: str) -> bool:
    return value is not None and text in (str(value), f"{value:g}" if isinstance(value, float) else "")

"""Running a suite: every problem under every kernel, one record each, kept so that a run that was stopped goes on."""

from __future__ import annotations

import copy
import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayes_ir.bench.kernel_text import parse_kernel
from bayes_ir.bench.metrics import distances, figures
from bayes_ir.bench.suites import Case, Cell, Suite, cell_name, select
from bayes_ir.bench.table import markdown
from bayes_ir.inference import Exact, Kernel, Problem
from bayes_ir.inference.run import draw_block
from bayes_ir.words import look_up

__all__ = ["Accuracy", "Record"]

Record = dict[str, Any]
_DRAWN, _EXACT, _AGAIN = range(3)  # streams of random numbers of one problem
_FAILURES = (ValueError, ArithmeticError, torch.linalg.LinAlgError)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Kernels against the exact posteriors of a suite.

    Attributes:
        suite: the problems.
        kernels: rows by the names of the suite or as kernels are written; by default those of the suite.
        cells: descriptions of cells such as ``"d=8,dy=1"``; by default all.
        problems: problems of a cell.
        draws: draws of every kernel and of the exact posterior.
        seed: seed of everything.

    Raises:
        ValueError: for an unknown cell or kernel, or numbers out of range.
    """

    suite: Suite
    kernels: Sequence[str] = ()
    cells: Sequence[str] = ()
    problems: int = 20
    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.problems < 1 or self.draws < 2 or self.seed < 0:
            raise ValueError(
                "accuracy: expected problems >= 1, draws >= 2 and seed >= 0, got "
                f"problems={self.problems}, draws={self.draws}, seed={self.seed}."
            )
        for cell in self._cells:
            self._rows(cell)

    def missing(self, out: Path) -> int:
        """How many records a run into ``out`` would add.

        Raises:
            ValueError: when ``out`` holds figures made with other settings.
        """
        done = {_key(r) for r in self._kept(out)}
        return sum(key not in done for key in self._plan())

    def run(self, out: Path, on_record: Callable[[Record], None] = lambda record: None) -> list[Record]:
        """Make the records that are missing and write ``accuracy.json`` and ``accuracy.md`` into ``out``.

        Both are written whole after every record, in one step that is done or not.

        Args:
            out: folder; made if need be.
            on_record: called with every new record.

        Raises:
            ValueError: when ``out`` holds figures made with other settings.
            OSError: when ``out`` cannot be written.
        """
        records = self._kept(out)
        out.mkdir(parents=True, exist_ok=True)
        done = {_key(r) for r in records}
        for cell in self._cells:
            for number in range(self.problems):
                rows = self._rows(cell)
                left = {n: k for n, k in rows.items() if (cell_name(cell), number, n) not in done}
                for record in self._records(cell, number, left) if left else ():
                    records.append(record)
                    self._write(out, records)
                    on_record(record)
                _return_memory()
        self._write(out, records)
        return records

    @property
    def settings(self) -> dict[str, Any]:
        """What two runs must share for their records to stand in one file."""
        return {
            "suite": self.suite.name,
            "switches": self.suite.switches,
            "draws": self.draws,
            "seed": self.seed,
        }

    @property
    def _cells(self) -> tuple[Cell, ...]:
        return select(self.suite.cells(), self.cells)

    def _rows(self, cell: Cell) -> dict[str, Kernel]:
        """The kernels by the names of their rows."""
        own = self.suite.rows(cell)
        found: dict[str, Kernel] = {}
        for text in self.kernels or self.suite.defaults:
            if text in own:
                found[text] = own[text]
            elif text[:1].islower():
                look_up(f"row of {self.suite.name}", text, own)
            else:
                kernel = parse_kernel(text)
                found[repr(kernel)] = kernel
        return found

    def _plan(self) -> Iterator[tuple[str, int, str]]:
        for cell in self._cells:
            for number in range(self.problems):
                for name in self._rows(cell):
                    yield cell_name(cell), number, name

    def _records(self, cell: Cell, number: int, rows: dict[str, Kernel]) -> Iterator[Record]:
        case = self.suite.case(cell, number, self.seed)
        problem, count = _counted(case.problem)
        case = replace(case, problem=problem)
        first: Record = {"cell": cell_name(cell), "problem": number, "problem seed": case.seed}
        for name, kernel in rows.items():
            record = {**first, "kernel": name, "settings": repr(kernel), "bayes_ir": version("bayes-ir")}
            try:
                record |= self._measure(case, number, kernel, count)
            except _FAILURES as error:
                record["failed"] = str(error)
            yield record

    def _measure(self, case: Case, number: int, kernel: Kernel, count: _Count) -> Record:
        kernel.check(case.problem)
        exact, again = _exact_sets(case.problem, number, self.draws, self.seed)
        count.forward = count.backward = 0
        block = draw_block(case.problem, kernel, number, _DRAWN, 0, self.draws, seed=self.seed)
        calls = count.forward / self.draws or float(block.stats["nfe"].double().mean())
        found: Record = {"NFE": calls + 2 * count.backward / self.draws}
        diverging = int(block.stats["diverging"].sum())
        if diverging:
            return found | {"failed": f"{diverging} of {self.draws} draws are not finite"}
        floor = {f"floor {k}": v for k, v in distances(exact, again, case.directions).items()}
        return found | figures(block.draws, exact, again, case.directions, case.problem.prior) | floor

    def _kept(self, out: Path) -> list[Record]:
        path = out / "accuracy.json"
        if not path.exists():
            return []
        held = json.loads(path.read_text())
        if held["settings"] != json.loads(json.dumps(self.settings)):
            raise ValueError(
                f"{path} holds figures made with {held['settings']}, not {self.settings}; give another --out."
            )
        return held["records"]

    def _write(self, out: Path, records: list[Record]) -> None:
        lines = ",\n".join("  " + json.dumps(record) for record in records)
        text = f'{{"settings": {json.dumps(self.settings)},\n "records": [\n{lines}\n]}}\n'
        _replace(out / "accuracy.json", text)
        _replace(out / "accuracy.md", markdown(records, self.settings, self.suite.metric))


@dataclass
class _Count:
    """Images that a denoiser was given, and those it was differentiated at."""

    forward: int = 0
    backward: int = 0


def _counted(problem: Problem) -> tuple[Problem, _Count]:
    """The problem with a prior that counts its evaluations, vector-Jacobian products apart."""
    count, prior = _Count(), copy.copy(problem.prior)
    denoised_mean = problem.prior._denoised_mean

    def counting(x_t: Tensor, a: Tensor, b: Tensor) -> Tensor:
        count.forward += len(x_t)
        found = denoised_mean(x_t, a, b)
        if found.requires_grad:
            found.register_hook(lambda gradient: _add(count, len(gradient)))
        return found

    prior._denoised_mean = counting  # type: ignore[method-assign]
    return replace(problem, prior=prior), count


def _add(count: _Count, images: int) -> None:
    count.backward += images


@lru_cache(maxsize=1)
def _exact_sets(problem: Problem, number: int, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    one, two = (
        draw_block(problem, Exact(), number, stream, 0, draws, seed=seed).draws for stream in (_EXACT, _AGAIN)
    )
    return one, two


def _key(record: Record) -> tuple[str, int, str]:
    return record["cell"], record["problem"], record["kernel"]


def _replace(path: Path, text: str) -> None:
    """Write a file in one step."""
    beside = path.with_name(path.name + ".part")
    with beside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def _return_memory() -> None:
    """Give freed memory back to the system: glibc keeps it in pieces, which over hundreds of problems are gigabytes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)

"""Markdown tables of figures, and kernels as they are told in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bayes_ir.bench.kernel_text import brief, parse_kernel

__all__ = ["RESULTS", "markdown", "short"]

RESULTS = Path(__file__).parent / "results"


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        if value != value:
            return ""
        return f"{value:.1e}" if value >= 1e4 else f"{value:,.3g}"
    return str(value)


def short(kernel: str) -> str:
    """A kernel's repr with only the settings that are not its default; what is no kernel as it is."""
    is_kernel = kernel[:1].isupper() and kernel.endswith(")")
    return f"`{brief(parse_kernel(kernel))}`" if is_kernel else kernel

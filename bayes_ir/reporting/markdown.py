"""A page as Markdown (CommonMark with tables), its pictures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bayes_ir.reporting.lights import Light
from bayes_ir.reporting.page import Block, Code, Facts, Lights, Page, Paragraph, Picture, Table

__all__ = ["as_markdown"]

_SIGNS = {Light.GREEN: "🟢", Light.AMBER: "🟡", Light.RED: "🔴", Light.UNKNOWN: "⚪", Light.TOLD: ""}


def as_markdown(page: Page, folder: str) -> tuple[str, dict[str, bytes]]:
    """The text, and the pictures by the names of their files in `folder`."""
    files: dict[str, bytes] = {}
    parts = [f"# {_text(page.title)}", _text(page.lead)]
    if page.warning:
        parts.append(f"> **{_text(page.warning)}**")
    for section in page.sections:
        parts.append(f"## {_text(section.title)}")
        for block in section.blocks:
            if isinstance(block, Picture):
                name = f"{block.name}.{block.suffix}"
                files[name] = block.data
                target = f"{folder}/{name}"
                parts.append(f"![{_text(block.caption)}](<{target}>)\n\n*{_text(block.caption)}*")
            else:
                parts.append(_written(block))
    return "\n\n".join(parts) + "\n", files


def _written(block: Block) -> str:
    match block:
        case Paragraph(text):
            return _text(text)
        case Code(text):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            return f"{fence}text\n{text}\n{fence}"
        case Facts(rows):
            return _table(["", ""], rows)
        case Table(header, rows, caption):
            return (f"{_text(caption)}\n\n" if caption else "") + _table(header, rows)
        case Lights(diagnostics):
            rows = [(f"{_SIGNS[d.light]} {d.light.value}", d.name, d.value, d.reason) for d in diagnostics]
            return _table(["light", "what", "found", "why"], rows)
    raise TypeError(f"no Markdown for a block of {type(block).__name__}")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(c if i == 1 else _text(c) for c in line)} |" for i, line in enumerate(lines)
    )


def _text(text: str) -> str:
    """Text of which Markdown reads nothing but text, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#&~])", r"\\\1", " ".join(text.split()))

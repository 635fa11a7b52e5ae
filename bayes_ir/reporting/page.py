"""A page before it has a form: sections of paragraphs, facts, tables, lights and pictures.

What is said is put together once; `html.py` and `markdown.py` each write it down in their own way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bayes_ir.reporting.lights import Diagnostic

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Block", "Code", "Facts", "Lights", "Page", "Paragraph", "Picture", "Section", "Table", "number"]


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str
    kind: str = "paragraph"


@dataclass(frozen=True)
class Code:
    """Lines to be shown as they are: a command, the sites of a model."""

    text: str
    kind: str = "code"


@dataclass(frozen=True)
class Facts:
    """Names with their values."""

    rows: Sequence[tuple[str, str]]
    kind: str = "facts"


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first cell of a row names it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    kind: str = "table"

    @classmethod
    def of(cls, frame: pd.DataFrame, caption: str = "") -> Table:
        """A data frame, its numbers to four digits."""
        rows = [
            [str(name), *(number(value) for value in row)]
            for name, row in zip(frame.index, frame.itertuples(index=False), strict=True)
        ]
        return cls([str(frame.index.name or ""), *map(str, frame.columns)], rows, caption)


@dataclass(frozen=True)
class Lights:
    """Diagnostics with their traffic lights."""

    diagnostics: Sequence[Diagnostic]
    kind: str = "lights"


@dataclass(frozen=True)
class Picture:
    """A picture, PNG or SVG.

    Attributes:
        name: of its file, without the suffix.
        data: its bytes.
        caption: what it shows, under it and for those who do not see it.
        suffix: "png" or "svg".
    """

    name: str
    data: bytes
    caption: str
    suffix: str = "png"
    kind: str = "picture"


Block = Paragraph | Code | Facts | Table | Lights | Picture


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes:
        title: its heading.
        lead: the sentence under it.
        sections: what follows.
        warning: what a reader has to know first, such as that the run is unfinished.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    warning: str = ""


def number(value: Any) -> str:
    """A number to four digits, whole ones and those of thousands without decimals; anything else as text."""
    if value is None or isinstance(value, (str, bool)):
        return "" if value is None else str(value)
    try:
        x = float(value)
    except (TypeError, ValueError):
        return str(value)
    if not math.isfinite(x):
        return "not known" if math.isnan(x) else str(x)
    return f"{x:.0f}" if abs(x) >= 1000 or x == int(x) else f"{x:.4g}"

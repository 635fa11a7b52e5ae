"""Finding a thing by the name a person typed."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

__all__ = ["look_up"]

T = TypeVar("T")


def look_up(kind: str, name: str, table: Mapping[str, T]) -> T:
    """``table[name]``; an unknown name is refused with the nearest one and the whole list.

    Raises:
        ValueError: for a name the table does not have.
    """
    if name in table:
        return table[name]
    by_lower = {known.lower(): known for known in table}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    raise ValueError(f"unknown {kind} {name!r}.{hint} There are: {', '.join(sorted(table))}.")

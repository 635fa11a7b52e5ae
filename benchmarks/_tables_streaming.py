"""Memory and time of statistics over a stored posterior, as RESULTS.md shows them."""

from __future__ import annotations

from typing import Any

from _markdown import markdown
from _results import kept_results

__all__ = ["streaming_memory"]


def streaming_memory() -> str:
    """Peak resident memory of a process for each statistic, Python and its libraries included."""
    found: Any = kept_results("streaming_memory")
    shape = " x ".join(str(n) for n in found["image"][1:])
    rows = [
        [
            row["statistic"] if row["statistic"] == "nothing" else f"`{row['statistic']}`",
            row["peak_mib"],
            row["seconds"],
        ]
        for row in found["statistics"]
    ]
    about = f"{found['draws']:,} draws of {shape}, {found['store_mib']:,} MiB on disk"
    return f"{about}\n\n{markdown(['statistic', 'peak memory, MiB', 'seconds'], rows)}"

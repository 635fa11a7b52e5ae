r"""Records as Markdown: one table for a cell, the floor beside every figure.

Over the n problems of a cell that did not fail, ``mean +- 1.96 sd / sqrt(n)``, the median and the largest distance; the
median beside the mean because one missed mode is enough to carry the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

from bayes_ir.bench.kernel_text import brief, parse_kernel

__all__ = ["markdown"]

_HEADER = (
    "kernel",
    "mean ± 95 %",
    "median",
    "max",
    "floor",
    "oracle",
    "mode TV",
    "mean error / sd",
    "sd ratio",
    "NFE",
    "n",
)


def markdown(records: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], metric: str) -> str:
    """One table for every cell, in the order of the records.

    Args:
        records: as ``accuracy.json`` holds them.
        settings: of the run.
        metric: the distance to show.
    """
    parts = [f"# {settings['suite']}: {metric}", _about(settings)]
    for cell in dict.fromkeys(record["cell"] for record in records):
        here = [record for record in records if record["cell"] == cell]
        parts += [f"## {cell}", _table(here, metric)]
        failed = [
            f"- {_code(r['kernel'])}, problem {r['problem']}: {r['failed']}" for r in here if "failed" in r
        ]
        if failed:
            parts.append("Failed:\n\n" + "\n".join(failed))
    return "\n\n".join(parts) + "\n"


def _about(settings: Mapping[str, Any]) -> str:
    switches = ", ".join(f"{key} = {value}" for key, value in settings["switches"].items())
    return (
        f"{settings['draws']:,} draws, seed {settings['seed']}{', ' if switches else ''}{switches}. "
        "floor: between two exact sets of as many draws; oracle: exact conditional score; "
        "NFE: network evaluations per draw, a backward pass counted as two."
    )


def _table(here: Sequence[Mapping[str, Any]], metric: str) -> str:
    good = [r for r in here if "failed" not in r]
    oracle = [r[metric] for r in good if r["kernel"] == "oracle"]
    lines = [_line(_HEADER), "|" + "---|" * len(_HEADER)]
    for kernel in dict.fromkeys(r["kernel"] for r in here):
        rows = [r for r in good if r["kernel"] == kernel]
        tried = sum(r["kernel"] == kernel for r in here)
        count = str(tried) if len(rows) == tried else f"{len(rows)} of {tried}"
        if not rows:
            lines.append(_line([_code(kernel), *("failed", *[""] * 8), count]))
            continue
        found = [r[metric] for r in rows]
        half = f" ± {_number(1.96 * stdev(found) / len(found) ** 0.5)}" if len(found) > 1 else ""
        lines.append(
            _line(
                [
                    _code(kernel),
                    _number(fmean(found)) + half,
                    _number(median(found)),
                    _number(max(found)),
                    _mean([r[f"floor {metric}"] for r in rows]),
                    _mean(oracle),
                    _mean([r["mode TV"] for r in rows if "mode TV" in r]),
                    _mean([r["mean error / sd"] for r in rows]),
                    _mean([r["sd ratio"] for r in rows]),
                    f"{fmean(r['NFE'] for r in rows):,.4g}",
                    count,
                ]
            )
        )
    return "\n".join(lines)


def _line(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def _mean(values: Sequence[float]) -> str:
    return _number(fmean(values)) if values else ""


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _code(kernel: str) -> str:
    return f"`{brief(parse_kernel(kernel))}`" if "(" in kernel else kernel

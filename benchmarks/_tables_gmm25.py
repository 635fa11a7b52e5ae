r"""Tables of the mixture of 25 modes: our distances, and those of the published methods in two implementations.

The anchors are means over 20 problems with their 95 % half-widths, from an independent implementation of the published
methods with the published settings (DPS: zeta = 0.1; MCGDiff: 1,000 particles, kappa = 0.01; other problems and random
numbers than here).  Two means agree where

    z = (m - m') / sqrt(s^2 / n + s'^2 / n')

is a few at most; of the 81 comparisons one beyond 3.4 is expected every twentieth time.
"""

from __future__ import annotations

import json
import math
from statistics import mean, median, stdev
from typing import Any

from _markdown import RESULTS, markdown, short

__all__ = ["gmm25"]

_METRIC = "mean-W1"
_PUBLISHED = ("oracle", "anchor-dps", "anchor-pigdm", "anchor-cov", "anchor-mcgdiff")
_HALF = 1.96
#: Steps -> d/dy -> mean and half-width of each of _PUBLISHED.
_ANCHORS = {
    100: {
        "8/1": ((0.22, 0.06), (3.01, 0.82), (4.91, 1.52), (3.17, 0.84), (1.62, 0.69)),
        "8/2": ((0.12, 0.04), (3.34, 1.71), (4.42, 1.56), (1.88, 0.83), (1.24, 1.01)),
        "8/4": ((0.06, 0.01), (0.68, 0.41), (3.74, 1.43), (0.26, 0.17), (0.25, 0.04)),
        "80/1": ((0.49, 0.20), (2.88, 0.75), (5.28, 1.70), (3.20, 0.82), (1.65, 0.72)),
        "80/2": ((0.21, 0.14), (2.07, 0.68), (5.92, 1.78), (1.21, 0.62), (0.58, 0.41)),
        "80/4": ((0.13, 0.08), (1.18, 0.56), (6.57, 1.73), (0.68, 0.43), (0.56, 0.55)),
        "800/1": ((2.00, 0.71), (2.72, 0.69), (2.65, 0.92), (3.61, 1.18), (2.70, 1.60)),
        "800/2": ((1.18, 0.79), (2.13, 1.20), (2.56, 1.11), (1.94, 0.94), (0.99, 0.64)),
        "800/4": ((0.47, 0.51), (0.81, 0.56), (3.24, 1.51), (0.95, 0.64), (1.19, 1.08)),
    },
    20: {
        "8/1": ((0.56, 0.17), (4.91, 1.15), None, (3.29, 0.93), (1.16, 0.37)),
        "8/2": ((0.28, 0.11), (5.51, 1.57), None, (1.82, 0.78), (1.31, 1.12)),
        "8/4": ((0.10, 0.02), (3.76, 1.28), None, (0.32, 0.20), (0.41, 0.20)),
        "80/1": ((0.72, 0.23), (5.23, 1.35), None, (3.30, 0.83), (1.67, 0.76)),
        "80/2": ((0.33, 0.19), (5.53, 1.02), None, (1.27, 0.69), (0.81, 0.61)),
        "80/4": ((0.23, 0.12), (3.79, 0.91), None, (0.68, 0.44), (0.43, 0.38)),
        "800/1": ((2.13, 0.65), (6.05, 1.18), None, (3.77, 1.13), (2.44, 1.28)),
        "800/2": ((1.35, 0.79), (6.44, 1.43), None, (2.32, 1.10), (1.83, 1.38)),
        "800/4": ((0.59, 0.56), (5.93, 1.15), None, (1.17, 0.67), (1.00, 0.89)),
    },
}


def gmm25() -> str:
    """The 25-component mixture of MCGDiff: distances by kernel, then the published methods beside their anchors."""
    records = json.loads((RESULTS / "gmm25" / "accuracy.json").read_text())["records"]
    parts = ["Mean (median) sliced Wasserstein distance and number of problems, by d/dy."]
    parts += [f"{steps} steps\n\n{_distances(records, steps)}" for steps in _ANCHORS]
    parts += [
        "The published methods here against an independent implementation: difference in standard errors, z."
    ]
    parts += [f"{steps} steps\n\n{_agreement(records, steps)}" for steps in _ANCHORS]
    return "\n\n".join(parts)


def _cell(problem: str, steps: int) -> str:
    d, dy = problem.split("/")
    return f"d={d},dy={dy},steps={steps}"


def _values(records: list[dict[str, Any]], kernel: str, cell: str, name: str = _METRIC) -> list[float]:
    return [r[name] for r in records if (r["kernel"], r["cell"]) == (kernel, cell) and name in r]


def _distances(records: list[dict[str, Any]], steps: int) -> str:
    here = [r for r in records if r["cell"].endswith(f",steps={steps}")]
    calls = {r["kernel"]: round(r["NFE"]) for r in here if "NFE" in r}

    def told(kernel: str, problem: str, name: str = _METRIC) -> str:
        values = _values(here, kernel, _cell(problem, steps), name)
        return f"{mean(values):.2f} ({median(values):.2f}) {len(values)}" if values else ""

    problems = _ANCHORS[steps]
    rows = [["exact, floor", 0, *(told("iid", p, f"floor {_METRIC}") for p in problems)]]
    rows += [[short(k), n, *(told(k, p) for p in problems)] for k, n in calls.items()]
    return markdown(["kernel", "calls", *problems], rows)


def _agreement(records: list[dict[str, Any]], steps: int) -> str:
    def z(number: int, problem: str) -> str:
        anchor = _ANCHORS[steps][problem][number]
        values = _values(records, _PUBLISHED[number], _cell(problem, steps))
        if anchor is None or len(values) < 2:
            return ""
        error = math.hypot(stdev(values) / math.sqrt(len(values)), anchor[1] / _HALF)
        return f"{(mean(values) - anchor[0]) / error:+.1f}"

    rows = [[kernel, *(z(i, p) for p in _ANCHORS[steps])] for i, kernel in enumerate(_PUBLISHED)]
    return markdown(["method", *_ANCHORS[steps]], (row for row in rows if any(row[1:])))

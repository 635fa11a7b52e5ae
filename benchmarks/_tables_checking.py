"""Tables of model checking, as RESULTS.md shows them."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean
from typing import Any

from _markdown import markdown
from _results import kept_results

__all__ = ["loo_experiment"]


def _ahead(behind: Iterable[float]) -> str:
    values = list(behind)
    return f"{sum(b > 0 for b in values)} of {len(values)}"


def loo_experiment() -> str:
    """How far models are behind the right one in log predictive probability, and how often they are not."""
    rows: Any = kept_results("loo_experiment")
    lines = []
    for prior, data, model in dict.fromkeys((r["prior"], r["data"], r["model"]) for r in rows):
        here = [r for r in rows if (r["prior"], r["data"], r["model"]) == (prior, data, model)]
        right = model == "right"
        rivals = [r for r in rows if (r["prior"], r["data"]) == (prior, data) and r["model"] != "right"]
        worst = {r["seed"]: min(s["behind"] for s in rivals if s["seed"] == r["seed"]) for r in here}
        ahead = [worst[r["seed"]] if right else r["behind"] for r in here]
        lines.append(
            [
                f"{prior}, {data}",
                model,
                _ahead(ahead),
                "" if right else mean(r["behind"] for r in here),
                "" if right else mean(r["se"] for r in here),
                "" if right or "behind, folds" not in here[0] else mean(r["behind, folds"] for r in here),
                "" if right or "behind, folds" not in here[0] else _ahead(r["behind, folds"] for r in here),
                "" if right else mean(r["behind, new signs"] for r in here),
                mean(r["p_loo"] for r in here),
                f"{100 * mean(r['share of high k'] for r in here):.0f} %",
                max(r["largest finite k"] for r in here),
            ]
        )
    header = [
        "prior, data",
        "model",
        "right one ahead (of all, of this)",
        "behind by (LOO)",
        "its se",
        "behind by (10 folds)",
        "right one ahead (10 folds)",
        "behind by (new signs)",
        "p_loo",
        "k above limit",
        "largest k",
    ]
    return markdown(header, lines)

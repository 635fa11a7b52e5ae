"""Markdown tables of the committed results, as the README shows them.

python benchmarks/tables.py exact_posterior
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from _results import kept_results

__all__ = ["markdown"]


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


def short(kernel: str, budget: int | None = None) -> str:
    """A kernel's repr without what is the default or the budget of the table."""
    found = (
        kernel.replace(", drawn=True", "")
        if kernel.startswith(("Guided", "Moment"))
        else kernel.replace(", drawn=False", "")
    )
    for default in (
        ", scale=1.0",
        ", per_site=None",
        ", steps=None",
        ", diffusion=DDPM(steps=1000, beta_start=0.0001, beta_end=0.02)",
        ", with_jacobian=False",
        "basis='pca', ",
        "basis='pca'",
        ", spread=None",
        "spread=None",
        ", decode=False",
        ", step_size=1.5",
        ", inflated=False",
        ", tolerance=0.001, max_iterations=50",
        ", travel_length=1, travel_repeats=1",
        ", predicted_noise='network'",
        ", weight='identity'",
        ", free_fraction=0.0",
        ", as_published=False",
        ", prior_weight=1.0",
        ", steps_per_level=1",
        ", langevin_steps=100, step_size=0.5, variance='isotropic'",
        ", grid='karras'",
        ", eta=0.0",
        ", grid='uniform'",
        ", grid='ddim'",
        ", grid='root'",
        ", eta_b=1.0",
        ", method='heun'",
        ", cg_iterations=5",
        ", diagonal=False",
        ", corrector_steps=1, signal_to_noise=0.16, corrector='curvature'",
        ", diffuse_data=True",
        ", weight='published'",
        ", zeta=0.5",
    ):
        found = found.replace(default, "")
    if budget is not None:
        found = re.sub(rf"(steps|levels)={budget}(, )?", "", found)
    found = re.sub(r"sampler=\w+\(\)(, )?", lambda m: "" if "Ancestral" in m[0] else m[0], found)
    return f"`{found.replace('(, ', '(').replace(', )', ')')}`"


def exact_posterior() -> str:
    """One table per problem and budget."""
    rows = kept_results("exact_posterior")
    columns = (
        "mean error / sd",
        "sd ratio, measured",
        "sd ratio, others",
        "distance / floor",
        "coverage",
        "NFE",
    )
    parts = []
    for problem, budget in dict.fromkeys((row["problem"], row["budget"]) for row in rows):
        here = [row for row in rows if (row["problem"], row["budget"]) == (problem, budget)]
        table = markdown(
            ["kernel", *columns, "beyond / denoiser"],
            (
                [short(row["kernel"], budget)]
                + [row.get(c, "diverged") for c in (*columns, "beyond / denoiser")]
                for row in here
            ),
        )
        parts.append(f"{problem}, {budget:,} evaluations\n\n{table}")
    return "\n\n".join(parts)


def quantized_cells() -> str:
    """Distance over floor against network evaluations, one table per problem."""
    rows = kept_results("quantized_cells")
    parts = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        here = [row for row in rows if row["problem"] == problem]
        budgets = sorted({row["nfe"] for row in here})
        table = markdown(
            ["kernel", *(f"{n:,}" for n in budgets)],
            (
                [kernel]
                + [
                    next((r["distance / floor"] for r in here if (r["kernel"], r["nfe"]) == (kernel, n)), "")
                    for n in budgets
                ]
                for kernel in dict.fromkeys(row["kernel"] for row in here)
            ),
        )
        parts.append(f"{problem} (floor {here[0]['floor']:.3g})\n\n{table}")
    return "\n\n".join(parts)


def sampler_accuracy() -> str:
    """Distance over floor."""
    rows = kept_results("sampler_accuracy")
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    kernels = dict.fromkeys(row["kernel"] for row in rows)

    def cell(kernel: str, problem: str) -> Any:
        found = [row for row in rows if (row["kernel"], row["problem"]) == (kernel, problem)]
        return (found[0].get("ratio", "diverged")) if found else ""

    calls = {row["kernel"]: row["nfe"] for row in rows}
    return markdown(
        ["kernel", "calls", *problems],
        ([short(k), f"{calls[k]:,}", *(cell(k, p) for p in problems)] for k in kernels),
    )


TABLES = {f.__name__: f for f in (sampler_accuracy, exact_posterior, quantized_cells)}

if __name__ == "__main__":
    print("# Measured figures\n")
    print("Made by `python benchmarks/tables.py` from `benchmarks/results/`. What a study is, its file says.")
    for name, table in TABLES.items():
        print(f"\n## {name}\n\n`python benchmarks/{name}.py`\n\n{table()}")

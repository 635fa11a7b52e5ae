"""Tables that are made when the site is built: the grid with its measured cells, the kernels, parts of longer tables.

Figures of kernels are sliced Wasserstein distances to exact draws over that between two exact sets: 1 is perfect.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from _markdown import markdown, short
from _results import kept_results
from _tables_calibration import quantized
from _tables_jensen import jensen_digits, jensen_learned, jensen_nested, jensen_posteriors

from bayes_ir.bench.kernel_text import brief, parse_kernel
from bayes_ir.inference import Calibrated, Flat, GuidedDiffusion, Isotropic, Kernel, Point, Tweedie, kernels
from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.measurement_score import (
    DiagonalMarginal,
    GaussianMarginal,
    InflatedNoise,
    PropagatedMarginal,
    RowSumMarginal,
)

__all__ = [
    "MADE",
    "few_bits",
    "grid_gaussian",
    "grid_one_bit",
    "grid_three_bits",
    "kernel_list",
    "separate_modes",
]

POSTERIORS = (Flat, Point, Isotropic, Calibrated, Tweedie)
RULES = {
    GaussianMarginal: "solve",
    PropagatedMarginal: "solve",
    DiagonalMarginal: "diagonal",
    InflatedNoise: "inflated noise",
    RowSumMarginal: "row sums",
}
ANALYTIC = {"inpainting": "inpainting", "blur": "blur", "d16": "16 dimensions", "mixture": "mixture"}
CELL = ("denoising posterior", "K", "r by", "sampler", "known as")


def grid_gaussian() -> str:
    """Cells under a Gaussian channel: kernels with the budget of each problem's first table."""
    rows = kept_results("exact_posterior")
    budgets = {name: min(r["budget"] for r in rows if r["problem"] == name) for name in ANALYTIC}
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        if row["budget"] != budgets.get(row["problem"]):
            continue
        if (cell := _cell(row["kernel"])) is not None:
            found.setdefault(cell, {})[row["problem"]] = row.get("distance / floor", "diverged")
    exact = {r["problem"]: r["distance / floor"] for r in rows if r["kernel"] == "Exact()"}
    header = [*CELL, *(f"{told}<br>{budgets[name]} calls" for name, told in ANALYTIC.items())]
    lines = [["exact draws", "", "", "", "`Exact`", *(exact[name] for name in ANALYTIC)]]
    lines += [
        [*cell, *(found[cell].get(name, "") for name in ANALYTIC)]
        for cell in sorted(found, key=lambda cell: _order(cell[0]))
    ]
    return markdown(header, lines)


def _cell(text: str) -> tuple[str, ...] | None:
    """Denoising posterior, gain, rule, sampler and name of a kernel; None for what is no cell of the grid."""
    if not text.endswith(")"):
        return None
    kernel = parse_kernel(text)
    if not isinstance(kernel, GuidedKernel) or not isinstance(kernel.denoising_posterior, POSTERIORS):
        return None
    posterior, drawn = kernel.denoising_posterior, getattr(kernel, "drawn", False)
    name = f"`{type(kernel).__name__}`"
    if isinstance(kernel, GuidedDiffusion):
        name = "`GuidedDiffusion()`" if (posterior, drawn) == (Calibrated(with_jacobian=True), True) else ""
    if getattr(kernel, "diffusion", None) is not None:
        name += f", {type(kernel.diffusion).__name__}"
    with_jacobian = posterior.jacobian and not isinstance(posterior, Tweedie)
    told = brief(posterior).replace("with_jacobian=True", "").replace("()", "")
    sampler = f"{type(kernel.sampler).__name__}{', from draws' if drawn else ''}"
    return f"`{told}`", _gain(with_jacobian), RULES[type(kernel.measurement_score)], sampler, name


def _gain(with_jacobian: bool) -> str:
    return "b²/a Jᵀ Aᵀ" if with_jacobian else "V Aᵀ"


def grid_one_bit() -> str:
    """Cells under signs: 32 calls, and 1,000 of the published kernels."""
    return _grid_quantized("1 bit")


def grid_three_bits() -> str:
    """The same under three bits."""
    return _grid_quantized("3 bit")


def _grid_quantized(bits: str) -> str:
    rows = [r for r in kept_results("quantized_cells") if r["nfe"] in (31, 32, 1000) and bits in r["problem"]]
    problems = sorted({r["problem"].split(", ")[0] for r in rows}, key=lambda name: (name == "digits", name))
    lines = []
    for kernel in dict.fromkeys(r["kernel"] for r in rows):
        here = [r for r in rows if r["kernel"] == kernel]
        figures = [
            _figure([r.get("distance / floor") for r in here if r["problem"].startswith(f"{name},")])
            for name in problems
        ]
        lines.append([*_quantized_cell(kernel), f"{max(r['nfe'] for r in here):,}", *figures])
    lines.sort(key=lambda line: _order(line[0]))
    told = [name.replace("-", " ").replace("gaussian", "Gaussian") for name in problems]
    return markdown([*CELL, "calls", *told], lines)


def _order(posterior: str) -> int:
    return [kind.__name__ for kind in POSTERIORS].index(posterior.strip("`").split("(")[0])


def _figure(values: Sequence[float | None]) -> Any:
    """The mean of distances over the floor; beyond a thousand it only matters that it is."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "diverged"
    return "" if not known else "> 1,000" if mean(known) > 1000 else mean(known)


def _quantized_cell(label: str) -> tuple[str, ...]:
    """The parts of a row's name in ``benchmarks/quantized_cells.py``."""
    if label.startswith("QCS"):
        rule = "diagonal" if label == "QCSSGM" else "EP"
        return "`Flat`", _gain(False), rule, "Langevin", f"`{label}`"
    belief, moves = label.split(", ")
    posterior = belief.removesuffix(" and Jacobian")
    with_jacobian = posterior != belief or posterior == "Point"
    samplers = {"moved from draws": "Ancestral, from draws", "moved from means": "Ancestral"}
    name = (
        "`GuidedDiffusion()`"
        if (posterior, moves) == ("Calibrated(pca)", "moved from draws") and with_jacobian
        else ""
    )
    return f"`{posterior}`", _gain(with_jacobian), "EP", samplers.get(moves, moves), name


def kernel_list() -> str:
    """What each kernel serves and costs, and its figures at its defaults."""
    rows = kept_results("sampler_accuracy")
    problems = list(dict.fromkeys(r["problem"] for r in rows))
    lines = []
    for name, entry in kernels().items():
        told, here = _measured(entry.kernel, rows)
        figures = {r["problem"]: r.get("ratio", "diverged") for r in here}
        needs = "; ".join(f"{' / '.join(channels)}: A {kind}" for channels, kind in entry.needs)
        path = f"{entry.kernel.__module__}.{name}"
        lines.append(
            [
                f"[`{name}`][{path}]{told}",
                entry.kernel.citation,
                entry.family,
                needs,
                f"{entry.cost}{'; Jacobian of the network' if entry.jacobian else ''}",
                f"{max(r['nfe'] for r in here):,}" if here else "",
                *(figures.get(problem, "") for problem in problems),
            ]
        )
    header = [
        "kernel",
        "source",
        "family",
        "serves: channel and operator",
        "a step costs beside the network",
        "calls",
    ]
    return markdown([*header, *problems], lines)


def _measured(kind: type[Kernel], rows: Sequence[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Rows of a kernel at its defaults, or else at the first other settings, which are told."""
    by_settings: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["kernel"].startswith(f"{kind.__name__}("):
            by_settings.setdefault(brief(parse_kernel(row["kernel"])), []).append(row)
    if not by_settings:
        return "", []
    chosen = f"{kind.__name__}()" if f"{kind.__name__}()" in by_settings else next(iter(by_settings))
    settings = chosen.removeprefix(f"{kind.__name__}(").removesuffix(")")
    return f"<br>`{settings}`" if settings else "", by_settings[chosen]


def separate_modes() -> str:
    """Distances under a mixture of well separated components, the best first."""
    rows = [r for r in kept_results("sampler_accuracy") if r["problem"] == "separate mixture"]
    rows.sort(key=lambda r: r.get("ratio", float("inf")))
    chosen: Sequence[dict[str, Any]] = [*rows[:4], *rows[-4:]]
    return markdown(
        ["kernel", "calls", "distance / floor"],
        ([short(r["kernel"]), f"{r['nfe']:,}", r.get("ratio", "diverged")] for r in chosen),
    )


def few_bits() -> str:
    """Kernels that are near the exact posterior under few bits and not rejected: the first table of ``quantized``."""
    return next(block for block in quantized().split("\n\n") if block.startswith("|"))


MADE = {
    f.__name__: f
    for f in (
        *(few_bits, grid_gaussian, grid_one_bit, grid_three_bits, kernel_list, separate_modes),
        *(jensen_digits, jensen_learned, jensen_nested, jensen_posteriors),
    )
}

"""Markdown tables of the committed results, as the README shows them.

python benchmarks/tables.py exact_posterior
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from _results import kept_results

from bayes_ir.bench.kernel_text import brief, parse_kernel

__all__ = ["markdown"]

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
                [short(row["kernel"])] + [row.get(c, "diverged") for c in (*columns, "beyond / denoiser")]
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
        found = {(row["kernel"], row["nfe"]): row.get("distance / floor", "diverged") for row in here}
        table = markdown(
            ["kernel", *(f"{n:,}" for n in budgets)],
            (
                [kernel, *(found.get((kernel, n), "") for n in budgets)]
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


def kernel_cost() -> str:
    """Microseconds per step beyond the network."""
    rows = kept_results("kernel_cost")
    batches = [name for name in rows[0] if name != "kernel"]
    table = markdown(
        ["kernel", *batches], ([short(row["kernel"]), *(f"{row[b]:,.0f}" for b in batches)] for row in rows)
    )
    return f"Microseconds of one thread per step, beyond the network.\n\n{table}"


def restoration_kernels() -> str:
    """PSNR by kernel and task; then SSIM, consistency and cost, averaged over the tasks a kernel serves."""
    found: Any = kept_results("restoration_kernels")
    rows, told = (
        found["rows"],
        f"{found['digits']} digits, {found['draws']} draws each, PSNR in dB of the mean.",
    )
    tasks, kernels = (list(dict.fromkeys(row[name] for row in rows)) for name in ("task", "kernel"))
    by = {(row["kernel"], row["task"]): row for row in rows}

    def over_tasks(kernel: str, name: str) -> Any:
        values = [by[kernel, task][name] for task in tasks if name in by.get((kernel, task), {})]
        return mean(values) if values else ""

    psnr = markdown(
        ["kernel", *tasks],
        ([short(k), *(by.get((k, t), {}).get("psnr", "") for t in tasks)] for k in kernels),
    )
    columns = ("ssim", "consistency", "nfe", "time / fastest")
    rest = markdown(["kernel", *columns], ([short(k), *(over_tasks(k, c) for c in columns)] for k in kernels))
    return f"{told}\n\n{psnr}\n\nMeans over the tasks that a kernel serves.\n\n{rest}"


def joint_calibration() -> str:
    """Smallest adjusted p-value of the ranks, and the largest z-score of Geweke's test."""
    rows: Any = kept_results("joint_calibration")
    found = {(row["model"], row["sampler"], row["test"]): row for row in rows}
    lines = []
    for model, sampler in dict.fromkeys((row["model"], row["sampler"]) for row in rows):
        ranks, moves = (found.get((model, sampler, test), {}) for test in ("SBC", "Geweke"))
        figures = [
            ranks.get("replications", ""),
            ranks.get("smallest p, Holm", ""),
            moves.get("largest |z|", ""),
        ]
        lines.append([model, sampler, *figures])
    return markdown(
        ["model", "sampler", "replications", "smallest p, Holm", "Geweke, largest of 10 z"], lines
    )


def noise_level() -> str:
    """An unknown noise level: error and coverage of its 90 % interval."""
    rows: Any = kept_results("noise_level")
    lines = []
    for name in dict.fromkeys(row["problem"] for row in rows):
        here = [row for row in rows if row["problem"] == name]
        columns = ("error / sd", "sd of log sigma", "covered", "effective size")
        lines.append([name, len(here), *(mean(float(row[c]) for row in here) for c in columns)])
    header = [
        "problem",
        "problems",
        "mean error / sd",
        "sd of log sigma",
        "covered by 90 %",
        "effective size",
    ]
    return markdown(header, lines)


def digit_label() -> str:
    """Posterior probabilities of the label of a digit from signs, and how well they are calibrated."""
    rows: Any = kept_results("digit_label")
    columns = ("accuracy", "confidence", "log p of the truth", "calibration error")
    table = markdown(
        ["truths", "measurements", "digits", *columns],
        ([row["truths"], row["measurements"], row["digits"], *(row[c] for c in columns)] for row in rows),
    )
    curves = markdown(
        ["truths", "measurements", "probability: share of labels that were true (number)"],
        (
            [
                row["truths"],
                row["measurements"],
                ", ".join(f"{c['probability']:.2f}: {c['true']:.2f} ({c['labels']})" for c in row["curve"]),
            ]
            for row in rows
        ),
    )
    return f"{table}\n\n{curves}"


def plate_cost() -> str:
    """Processor time of a plate over that of as many draws of one image."""
    found: Any = kept_results("plate_cost")
    return markdown(["case", "plate / one image"], (list(row.values()) for row in found["rows"]))


def calibration_gates() -> str:
    """Rejection rates at the 5 % level; size and power of the uniformity test."""
    found: Any = kept_results("calibration_gates")
    settings, rates = found["settings"], found["rates"]
    samplers = list(next(iter(rates.values())))
    table = markdown(
        [
            "diagnostic",
            *(f"{name} ({settings['null' if name == 'exact' else 'alarm']})" for name in samplers),
        ],
        ([name, *(row[sampler] for sampler in samplers)] for name, row in rates.items()),
    )
    power = found["power of POT-C"]
    lengths = list(next(iter(power.values())))
    second = markdown(
        ["POT-C, one Gaussian quantity", *(f"L = {n}" for n in lengths)],
        ([name, *(row[n] for n in lengths)] for name, row in power.items()),
    )
    size = ", ".join(f"{rate:.3f} (L = {n})" for n, rate in found["size of POT-C"].items())
    told = (
        "Rejection rates at the 5 % level over the repetitions in brackets, "
        f"{settings['replications']} replications of {settings['draws']} draws."
    )
    return f"{told}\n\n{table}\n\n{second}\n\nSize of POT-C over 4,000 uniform sets: {size}."


def bits_per_dimension() -> str:
    """Log density of noised test digits, with the errors of its estimate."""

    def pair(row: dict[str, Any], name: str, error: str, digits: int) -> str:
        return f"{row[name]:.{digits}f} ± {row[error]:.{digits}f}" if name in row else ""

    def line(row: dict[str, Any]) -> list[Any]:
        return [
            f"{row['prior']}, s = {row['noise']:.2g}",
            f"{row['digits']} x {row['pixels']}",
            row["method"],
            row.get("steps", ""),
            row.get("probes", ""),
            pair(row, "bits per pixel", "error", 3),
            pair(row, "beyond the noise", "beyond, error", 0),
            row.get("probe error, nats", ""),
            f"{row['refined']:.4f}" if "refined" in row else "",
            pair(row, "off", "off, error", 4),
            row.get("off / stated", ""),
            row.get("off, largest, nats", ""),
        ]

    header = ["prior and noise", "digits x pixels", "method", "steps", "probes", "bits per pixel"]
    header += ["bits per digit beyond the noise", "probe error of a digit, nats", "refined, bits per pixel"]
    header += ["flow less exact, bits per pixel", "the same over the stated error, rms", "largest, nats"]
    return markdown(header, (line(row) for row in kept_results("bits_per_dimension")))


def bench(suite: str, digits: int = 2) -> str:
    """Mean and, in brackets, median distance of a run of ``bayes-ir bench accuracy``: kernels by cells."""
    found = json.loads((RESULTS / suite / "accuracy.json").read_text())
    metric, records = found["settings"]["switches"].get("metric", "mean-W1"), found["records"]
    cells = list(dict.fromkeys(r["cell"] for r in records))
    calls = {r["kernel"]: r["NFE"] for r in records if "NFE" in r}

    def told(row: str, cell: str, name: str) -> str:
        values = [r[name] for r in records if (r["kernel"], r["cell"]) == (row, cell) and name in r]
        if not values:
            return ""
        return f"{mean(values):.{digits}f} ({median(values):.{digits}f}) {len(values)}"

    rows = [["exact, floor", 0, *(told("iid", cell, f"floor {metric}") for cell in cells)]]
    rows += [[short(k), round(n), *(told(k, cell, metric) for cell in cells)] for k, n in calls.items()]
    return markdown(["kernel", "calls", *cells], rows)


def gmm25() -> str:
    """The 25-component mixture of MCGDiff."""
    return f"Mean (median) sliced Wasserstein distance and number of problems.\n\n{bench('gmm25')}"


def digits() -> str:
    """One-bit digits under the mixture prior."""
    return f"Mean (median) sliced Wasserstein distance and number of problems.\n\n{bench('digits', 4)}"


def quantized() -> str:
    """Accuracy and calibration under few bits, joined: a table for every cell and one that sums up."""
    found = json.loads((RESULTS / "quantized" / "accuracy.json").read_text())
    rows = kept_results("quantized_calibration")
    records = [r | {"kernel": plain(r["kernel"])} for r in found["records"]]
    tests = {(r["cell"], plain(r["kernel"])): r for r in rows}
    both, parts = [r["kernel"] for r in records] + [plain(r["kernel"]) for r in rows], []
    within: dict[str, list[str]] = {}
    for cell in dict.fromkeys([r["cell"] for r in records] + [r["cell"] for r in rows]):
        lines = [
            (kernel, few_bits([r for r in records if (r["cell"], r["kernel"]) == (cell, kernel)]))
            for kernel in dict.fromkeys(both)
        ]
        table = []
        for kernel, (ratio, *others) in sorted(lines, key=lambda line: not line[0].startswith(GATES)):
            test = tests.get((cell, kernel))
            if ratio == "" and test is None:
                continue
            table.append([kernel, ratio, *others, *calibration(test)])
            if isinstance(ratio, float) and ratio <= 1.5 and test and test.get("p", 0) >= 0.05:
                within.setdefault(cell, []).append(f"{kernel} {ratio:.2f}, p = {test['p']:.2g}")
        within.setdefault(cell, [])
        parts.append(f"{cell}\n\n{markdown(FEW_BITS, table)}")
    good = markdown(["cell", "within 1.5 x the floor and not rejected"], _passed(within))
    return "\n\n".join([FEW_BITS_TOLD, good, *parts])


FEW_BITS = (
    "kernel",
    "distance / floor",
    "largest",
    "sd ratio",
    "error of mode weights",
    "calls",
    "problems",
    "SBC p",
    "deviates most",
    "sd ratio of its ranks",
    "L x S",
)
FEW_BITS_TOLD = """Distances are mean sliced W1 of 500 draws over the floor, both averaged over the problems. SBC p is
the smallest of Holm's p-values over 11 quantities, of L replications with S draws each, at the matrix of
problem 0; the null gate `Exact()` may fall below 0.05 in one cell of twenty. SBC averages over y: a kernel that errs
in opposite ways at different y passes it. What one cloud of TwistedSMC draws is not independent and has no SBC."""
GATES = ("`Exact()`", "iid", "prior", "exact, sd x 0.8")


def plain(kernel: str) -> str:
    """One name for a kernel, however it was written."""
    return "`Exact()`" if kernel in ("iid", "Exact()") else short(kernel)


def few_bits(records: Sequence[dict[str, Any]]) -> list[Any]:
    """Mean distance over mean floor, the largest ratio, and what else is told of a kernel in a cell."""
    good = [r for r in records if "failed" not in r]
    if not good:
        return ["failed" if records else "", "", "", "", "", len(records) or ""]
    floors = [r["floor mean-W1"] for r in good]
    ratios = [r["mean-W1"] / floor for r, floor in zip(good, floors, strict=True)]
    modes = [r["mode TV"] for r in good if "mode TV" in r]
    return [
        mean(r["mean-W1"] for r in good) / mean(floors),
        max(ratios),
        mean(r["sd ratio"] for r in good),
        mean(modes) if modes else "",
        f"{mean(r['NFE'] for r in good):,.0f}",
        str(len(good)) if len(good) == len(records) else f"{len(good)} of {len(records)}",
    ]


def calibration(row: dict[str, Any] | None) -> list[Any]:
    """The smallest p-value of Holm, whose it is, and how many replications and draws."""
    if row is None:
        return ["", "", "", ""]
    size = f"{row['replications']} x {row['draws']}"
    if "failed" in row:
        return ["diverged", "", "", size]
    return [row["p"] or "< 1e-15", row["worst"], row["sd ratio of its ranks"], size]


def _passed(within: dict[str, list[str]]) -> Iterable[list[str]]:
    for cell, names in within.items():
        yield [cell, "; ".join(n for n in names if not n.startswith(GATES)) or "none"]


def learned_prior_calibration() -> str:
    """SBC and TARP under the learned prior, with the alarms on the same replications."""
    columns = (
        "TARP y-free, visible",
        "TARP y-dependent, visible",
        "TARP y-free, all",
        "TARP y-dependent, all",
    )
    header = ["case", "draws of", "L x S", "SBC p", "deviating", *columns]

    def line(row: dict[str, Any]) -> list[Any]:
        told = f"{row['draws of']}" if row["draws of"] != row["kernel"] else "the kernel"
        verdict = (
            row["verdict"].removeprefix("not calibrated: ") if "not calibrated" in row["verdict"] else ""
        )
        own = [f"{row['case']}, {short(row['kernel'])}", told, f"{row['replications']} x {row['draws']}"]
        return [*own, row["SBC p"], verdict, *(row[c] for c in columns)]

    return markdown(header, (line(row) for row in kept_results("learned_prior_calibration")))


TABLES = {
    f.__name__: f
    for f in (
        sampler_accuracy,
        exact_posterior,
        quantized_cells,
        restoration_kernels,
        joint_calibration,
        noise_level,
        digit_label,
        plate_cost,
        kernel_cost,
        calibration_gates,
        bits_per_dimension,
        gmm25,
        digits,
        quantized,
        learned_prior_calibration,
    )
}
COMMANDS = {
    "bits_per_dimension": "python benchmarks/bits_per_dimension.py --data FOLDER",
    "gmm25": "bayes-ir bench accuracy --suite gmm25",
    "digits": "bayes-ir bench accuracy --suite digits",
    "quantized": "bayes-ir bench accuracy --suite quantized; python benchmarks/quantized_calibration.py",
}

if __name__ == "__main__":
    print("# Measured figures\n")
    print("Made by `python benchmarks/tables.py` from `benchmarks/results/`. What a study is, its file says.")
    for name, table in TABLES.items():
        command = COMMANDS.get(name, f"python benchmarks/{name}.py")
        print(f"\n## {name}\n\n`{command}`\n\n{table()}")

"""Tables of calibration, as RESULTS.md shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any

from _markdown import RESULTS, markdown, short
from _results import kept_results

__all__ = [
    "calibration_gates",
    "data_fit",
    "digit_label",
    "digit_label_network",
    "joint_calibration",
    "learned_prior_calibration",
    "noise_level",
    "quantized",
]


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


def data_fit() -> str:
    """Squared residuals over their expectation under the noise, of draws and of truths."""
    rows: Any = kept_results("data_fit")
    columns = ("of draws", "of truths", "standard error of the difference", "psnr")
    return markdown(
        ["truths", "kernel", *columns],
        ([row["truths"], short(row["kernel"]), *(row[c] for c in columns)] for row in rows),
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
    return _labels("digit_label", ("measurements", "digits"), ())


def digit_label_network() -> str:
    """The same under the learned prior that is told the label."""
    beside = ("calibration error if calibrated, 95 %", "z of log p", "Monte Carlo error of p")
    return _labels("digit_label_network", ("measurements", "noise", "digits"), beside)


def _labels(name: str, settings: Sequence[str], beside: Sequence[str]) -> str:
    rows: Any = kept_results(name)
    columns = (*settings, "accuracy", "confidence", "log p of the truth", "calibration error", *beside)
    table = markdown(["truths", *columns], ([row["truths"], *(row[c] for c in columns)] for row in rows))
    curves = markdown(
        [
            "truths",
            "measurements",
            "probability: share of labels that were true ± standard error if calibrated (number)",
        ],
        (
            [
                row["truths"],
                row["measurements"],
                ", ".join(
                    f"{c['probability']:.2f}: {c['true']:.2f} ± "
                    f"{(c['probability'] * (1 - c['probability']) / c['labels']) ** 0.5:.2f} ({c['labels']})"
                    for c in row["curve"]
                ),
            ]
            for row in rows
        ),
    )
    return f"{table}\n\n{curves}"


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

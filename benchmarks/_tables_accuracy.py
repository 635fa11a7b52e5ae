"""Tables of distances, restorations and costs, as RESULTS.md shows them."""

from __future__ import annotations

import json
from statistics import mean, median
from typing import Any

from _markdown import RESULTS, markdown, short
from _results import kept_results

__all__ = [
    "bits_per_dimension",
    "digits",
    "digits_cost",
    "digits_weights",
    "exact_posterior",
    "kernel_cost",
    "network_time",
    "plate_cost",
    "quantized_cells",
    "restoration_kernels",
    "sampler_accuracy",
]


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


def plate_cost() -> str:
    """Processor time of a plate over that of as many draws of one image."""
    found: Any = kept_results("plate_cost")
    return markdown(["case", "plate / one image"], (list(row.values()) for row in found["rows"]))


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


def digits(folder: str = "digits") -> str:
    """One-bit digits under the mixture prior."""
    found = json.loads((RESULTS / folder / "accuracy.json").read_text())["records"]
    here = [r for r in found if r["kernel"].startswith("TwistedSMC")]
    exact = [r for r in found if r["kernel"] == "iid"]

    def line(cell: str) -> list[Any]:
        rows = [r for r in here if cell in ("", r["cell"])]
        over = [r["mean-W1"] / r["floor mean-W1"] for r in rows]
        modes = [median(r["mode TV"] for r in of if cell in ("", r["cell"])) for of in (here, exact)]
        sd = mean(r["sd ratio"] for r in rows)
        return [
            cell or "all",
            len(rows),
            mean(over),
            max(over),
            f"{sd:.3f}",
            "{:.3f} ({:.3f})".format(*modes),
        ]

    header = ["cell", "problems", "distance / floor", "largest", "sd ratio"]
    header += ["error of mode weights, median (of exact draws)"]
    cells = dict.fromkeys(r["cell"] for r in here)
    return markdown(header, [*map(line, cells), line("")])


def digits_weights() -> str:
    """The same with four clouds of particles, for the weights of the modes."""
    return digits("digits_weights")


def digits_cost() -> str:
    """What particles and calls buy: mean and largest distance over floor on one-bit digits."""
    found = json.loads((RESULTS / "digits_cost" / "accuracy.json").read_text())["records"]
    kernels = list(dict.fromkeys(r["kernel"] for r in found if r["kernel"] != "iid"))

    def line(kernel: str) -> list[Any]:
        rows = [r for r in found if r["kernel"] == kernel]
        over = [r["mean-W1"] / r["floor mean-W1"] for r in rows]
        return [
            short(kernel),
            round(rows[0]["NFE"]),
            len(rows),
            mean(over),
            max(over),
            f"{mean(r['sd ratio'] for r in rows):.3f}",
            f"{median(r['mode TV'] for r in rows):.3f}",
        ]

    header = ["kernel", "calls per draw", "problems", "distance / floor", "largest", "sd ratio"]
    return markdown([*header, "error of mode weights"], (line(k) for k in kernels))


def network_time() -> str:
    """Cost of a draw under the learned prior."""
    columns = ("calls per draw", "of the time of the first", "share of the network", "PSNR of the mean")
    rows = kept_results("network_time")
    return markdown(["kernel", *columns], ([short(r["kernel"]), *(r[c] for c in columns)] for r in rows))

"""One-bit digits: how well kernels restore, and whether their intervals hold the truth.

    python benchmarks/restoration.py
    python benchmarks/restoration.py --family guided

Twenty test digits, M = 400, noise 0.1, ill-conditioned and correlated matrices (as published): PSNR and cosine
similarity of the posterior mean, and the share of pixels whose truth lies in the central 90 % interval.
"""

from __future__ import annotations

import argparse

import numpy as np
from _results import write_results

from bayes_ir import sample
from bayes_ir.analysis import interval_coverage, restoration_metrics
from bayes_ir.inference import QCSSGM, GuidedDiffusion, Kernel, QCSSGMPlus
from bayes_ir.problems import build_problem

PROBLEMS = {"ill-conditioned": "one-bit-digit", "correlated": "one-bit-correlated-digit"}


def kernels(family: str, levels: int) -> dict[str, Kernel]:
    if family == "guided":
        return {f"GuidedDiffusion, {steps} steps": GuidedDiffusion(steps=steps) for steps in (32, 64)}
    return {
        "QCSSGM": QCSSGM(levels=levels, steps_per_level=1),
        "QCSSGMPlus": QCSSGMPlus(levels=levels, steps_per_level=1, tolerance=1e-2),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--digits", type=int, default=20)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--levels", type=int, default=300)
    parser.add_argument("--family", choices=["langevin", "guided"], default="langevin")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    rows = []
    for matrix, name in PROBLEMS.items():
        for kernel_name, kernel in kernels(given.family, given.levels).items():
            figures = []
            for image in range(given.digits):
                problem = build_problem(name, image=image, seed=0)
                posterior = sample(
                    problem.model,
                    kernel,
                    problem.data,
                    draws=given.draws,
                    chains=1,
                    device=given.device,
                    progress=False,
                )
                truth = problem.truth.numpy()
                metrics = restoration_metrics(posterior, truth, data_range=(0.0, 1.0))
                coverage = interval_coverage(posterior, truth, prob=0.9)
                figures.append((metrics["psnr"], metrics["cosine_similarity"], float(coverage)))
            values = np.array(figures)
            means, errors = values.mean(0), values.std(0, ddof=1) / len(values) ** 0.5
            row = {"matrix": matrix, "kernel": repr(kernel), "digits": given.digits, "draws": given.draws}
            for k, metric in enumerate(("psnr", "cosine", "coverage of 90 %")):
                row |= {
                    metric: round(float(means[k]), 4),
                    f"{metric}, standard error": round(float(errors[k]), 4),
                }
            rows.append(row)
            print(matrix, kernel_name, row, flush=True)
    write_results("restoration" if given.family == "langevin" else "restoration_guided", rows)


if __name__ == "__main__":
    main()

r"""Simulation-based calibration under 1, 2 and 4 bits, on the cells of ``bayes-ir bench accuracy --suite quantized``.

    python benchmarks/quantized_calibration.py --cells d=8 --replications 500 --draws 19
    python benchmarks/quantized_calibration.py --cells prior=mixture,d=32 --draws 5 --kernel "SplitGibbs()"

Kernels differ a thousandfold in cost, so replications L and draws S differ by row; each row says its own, and the
command with these numbers makes it again (seed 0, 50 replications in one batch).

A cell keeps prior, quantizer and the matrix A of problem 0 of the suite; every replication has a truth, its noise and y
of its own.  Ranks are of linear and low-frequency functionals, energy, log likelihood, residual norm, the product
y^T A x and log joint density; POT-C on each, Holm over all.

Rows that no method is, on the same replications:

* ``Exact()``, the null gate: it may be rejected in one cell of twenty;
* ``prior``, draws of the prior whatever y: only quantities that depend on y can see it;
* ``exact, sd x 0.8``: exact draws pulled towards the mean of their replication.

Draws of one particle cloud are not independent, and ranks among them are not uniform: ``TwistedSMC`` is calibrated with
a cloud of its own for every draw, of which one particle is kept.  Rows that the results already hold are kept.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyro
import torch
from _results import kept_results, write_results

import bayes_ir as bir
from bayes_ir.analysis import FewReplicationsWarning
from bayes_ir.bench.kernel_text import parse_kernel
from bayes_ir.bench.rows import PriorDraws
from bayes_ir.bench.suites import Cell, cell_name, select
from bayes_ir.bench.suites.quantized import QuantizedCells
from bayes_ir.inference import Exact, Kernel, Problem

KERNELS = (
    "QCSSGM(levels=200, steps_per_level=1)",
    "QCSSGMPlus(levels=200, steps_per_level=1)",
    "QCSSGMPlus(levels=200, steps_per_level=1, per_site=True)",
    "GuidedDiffusion()",
    "GuidedDiffusion(denoising_posterior=Calibrated())",
    "GuidedDiffusion(denoising_posterior=Tweedie())",
    "GuidedDiffusion(denoising_posterior=Isotropic(), drawn=False)",
    "GuidedDiffusion(denoising_posterior=Flat(), drawn=False)",
    "TwistedSMC(particles=64, kept=0.015625)",
    "SplitGibbs()",
)


@dataclass(frozen=True, kw_only=True)
class Narrowed(Exact):
    """Exact draws, their deviations from the mean of the block too small by a factor."""

    factor: float = 0.8

    def step(self, problem: Problem, state: Any, rng: Any) -> Any:
        state, info = super().step(problem, state, rng)
        mean = state.x.mean(0)
        return replace(state, x=mean + self.factor * (state.x - mean)), info


GATES: dict[str, Kernel] = {"Exact()": Exact(), "prior": PriorDraws(), "exact, sd x 0.8": Narrowed()}


def calibrated(cell: Cell, kernel: Kernel, replications: int, draws: int, together: int) -> dict[str, Any]:
    """P-values of one kernel in one cell."""
    problem = QuantizedCells().case(cell, 0, 0).problem

    def model() -> None:
        z = problem.operator(pyro.sample("x", problem.prior))
        pyro.sample("y", problem.channel.with_location(z))

    started = time.perf_counter()
    try:
        tree = bir.simulation_based_calibration(
            model, kernel, replications=replications, draws=draws, together=together, progress=False
        )
    except ValueError as error:
        return {"failed": str(error)}
    test = tree["sbc_test"].to_dataset()
    worst = test.isel(quantity=int(np.argmin(test["p_holm"].values)))
    return {
        "p": tree.attrs["smallest_p_holm"],
        "verdict": tree.attrs["verdict"],
        "worst": str(worst["quantity"].values),
        "sd ratio of its ranks": float(worst["sd_ratio"]),
        "mean of its ranks": float(worst["mean_rank"]),
        "p-values": {
            str(q): float(p) for q, p in zip(test["quantity"].values, test["p_value"].values, strict=True)
        },
        "power": tree.attrs["power"],
        "seconds": time.perf_counter() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cells", action="append", help="cells such as d=8; by default all; may be repeated")
    parser.add_argument(
        "--kernel", action="append", help="kernels as Python prints them, or the names above; may be repeated"
    )
    parser.add_argument("--replications", type=int, default=200)
    parser.add_argument("--draws", type=int, default=19)
    parser.add_argument("--together", type=int, default=50, help="replications in one batch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FewReplicationsWarning)
    kernels = {text: GATES.get(text) or parse_kernel(text) for text in options.kernel or (*GATES, *KERNELS)}
    rows = kept_results("quantized_calibration")
    done = {(row["cell"], row["kernel"]) for row in rows}
    for cell in select(QuantizedCells().cells(), options.cells or ()):
        for name, kernel in kernels.items():
            if (cell_name(cell), name) in done:
                continue
            row = {
                "cell": cell_name(cell),
                "kernel": name,
                "replications": options.replications,
                "draws": options.draws,
                "seed": 0,
            }
            row |= calibrated(cell, kernel, options.replications, options.draws, options.together)
            rows.append(row)
            print(
                *(row.get(k, "") for k in ("cell", "kernel", "p", "worst", "seconds", "failed")), flush=True
            )
            write_results("quantized_calibration", rows)


if __name__ == "__main__":
    main()

"""What a draw costs under the learned prior: twisted SMC beside QCS-SGM+, in network calls and in processor time.

    python benchmarks/network_time.py

The shipped problem one-bit-digit (400 signs, 28 x 28, prior "mnist"), 64 draws of each kernel in one run with one
thread, seed 0.  Seconds are of the processor, in all and within the network; rows tell shares and ratios, which travel
between machines.  ``GuidedDiffusion()`` calls the network 32 times and goes back through it as often.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from _results import write_results

from bayes_ir.inference import Calibrated, GuidedDiffusion, Kernel, QCSSGMPlus, TwistedSMC, read_problem
from bayes_ir.inference.run import draw_block
from bayes_ir.problems import build_problem

DRAWS = 64
KERNELS: tuple[Kernel, ...] = (
    QCSSGMPlus(),
    TwistedSMC(particles=2 * DRAWS),
    GuidedDiffusion(),
    GuidedDiffusion(denoising_posterior=Calibrated()),
)


def cost(kernel: Kernel) -> dict[str, Any]:
    """Calls and seconds of one block of draws."""
    shipped = build_problem("one-bit-digit")
    problem = read_problem(shipped.model, shipped.data)
    denoised_mean, spent = problem.prior._denoised_mean, [0.0]

    def timed(*arguments: Any) -> torch.Tensor:
        started = time.process_time()
        found = denoised_mean(*arguments)
        spent[0] += time.process_time() - started
        return found

    problem.prior._denoised_mean = timed  # type: ignore[method-assign]
    started = time.process_time()
    block = draw_block(problem, kernel, 0, 0, 0, DRAWS, seed=0)
    seconds = time.process_time() - started
    problem.prior._denoised_mean = denoised_mean  # type: ignore[method-assign]
    error = block.draws.mean(0) - shipped.truth
    return {
        "kernel": repr(kernel),
        "calls per draw": float(block.stats["nfe"].double().mean()),
        "seconds": seconds,
        "seconds in the network": spent[0],
        "PSNR of the mean": float(-10 * torch.log10(error.square().mean())),
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = [cost(kernel) for kernel in KERNELS]
    for row in rows:
        row["of the time of the first"] = row["seconds"] / rows[0]["seconds"]
        row["share of the network"] = row["seconds in the network"] / row["seconds"]
        print(row, flush=True)
    write_results("network_time", rows)


if __name__ == "__main__":
    main()

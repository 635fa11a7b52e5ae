"""What a step costs beyond the network: EP, the rest of the step, and memory.

    python benchmarks/speed.py

M = 400, N = 784, 64 draws, the shipped "mnist" prior on the one-bit-digit problem, every part timed in one run with
two threads.  Figures are shares of the network call, which is what travels between machines.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable

import torch
from _results import write_results

from bayes_ir.inference import QCSSGMPlus, read_problem
from bayes_ir.inference.rng import Rng
from bayes_ir.problems import build_problem

DRAWS, WARM_UP = 64, 5


def clock(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(2)
    shipped = build_problem("one-bit-digit")
    kernel = QCSSGMPlus(levels=60, steps_per_level=1, tolerance=1e-2)
    problem = read_problem(shipped.model, shipped.data)
    prior = problem.prior.with_diffusion(kernel.process(problem.prior))
    rng = Rng(0, draws=DRAWS, dtype=problem.dtype)
    state = kernel.init(problem, rng)
    rule = kernel.measurement_score
    network, measurement, whole, sweeps = [], [], [], []
    for _ in range(len(state.schedule) - 1):
        now, x = state.schedule[state.k], state.x
        network.append(clock(lambda x=x, now=now: prior.denoise(x, now.t)))
        belief, memory = kernel.denoising_posterior.at(prior, x, now), state.memory
        measurement.append(clock(lambda belief=belief, memory=memory: rule(problem.system, belief, memory)))
        started = time.perf_counter()
        state, info = kernel.step(problem, state, rng)
        whole.append(time.perf_counter() - started)
        sweeps.append(float(info["ep_sweeps"].double().mean()))
    kept = slice(WARM_UP, None)
    call = statistics.median(network[kept])
    figures = {
        "draws": DRAWS,
        "EP per step / network call, median": statistics.median(measurement[kept]) / call,
        "EP per step / network call, mean": statistics.mean(measurement[kept])
        / statistics.mean(network[kept]),
        "step / network call, median": statistics.median(whole[kept]) / call,
        "beyond the network per draw and NFE / network call per draw": statistics.median(whole[kept]) / call
        - 1,
        "EP sweeps per step, mean": statistics.mean(sweeps[kept]),
        "peak memory of the process, MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    for name, value in figures.items():
        print(f"{name}: {value:.3g}")
    write_results("speed", figures)


if __name__ == "__main__":
    main()

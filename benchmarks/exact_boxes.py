"""The exact posterior of one-bit data: time, agreement of two samplers, calibration.

    python benchmarks/exact_boxes.py

One-bit data, ``A ~ N(0, 1 / N)``, noise 0.1, prior ``N(0, I)``.  Measured are

* the time of 2,000 independent draws by minimax tilting for three sizes (N, M), and the share of proposals kept;
* the sliced Wasserstein distance between 500 draws of linear elliptical slices and 500 by tilting, over the distance
  between two sets by tilting, with the R-hat and the effective size of the chains;
* simulation-based calibration of tilting, N = M = 3: ranks of every x_i and of the log likelihood among 99 draws in
  400 replications, p-values of Kolmogorov-Smirnov.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from _results import write_results
from scipy.stats import kstest

from bayes_ir import simulate
from bayes_ir.analysis import sliced_wasserstein
from bayes_ir.inference import Exact, Problem, read_problem
from bayes_ir.inference.exact import component_weights, log_evidence
from bayes_ir.inference.run import draw_block
from bayes_ir.models import DenseOperator, GaussianMixturePrior, GaussianPrior, OneBit

F64 = torch.float64
NOISE = 0.1
REPLICATIONS, RANKED = 400, 99


def one_bit_problem(n: int, m: int, seed: int) -> tuple[Problem, torch.Tensor]:
    """A problem and the image it was made from."""
    rng = torch.Generator().manual_seed(seed)
    operator = DenseOperator(torch.randn(m, n, generator=rng, dtype=F64) / n**0.5, dtype=F64)
    prior = GaussianPrior(torch.zeros(n, dtype=F64), torch.eye(n, dtype=F64))
    return _made(prior, operator, seed)


def mixture_problem() -> tuple[Problem, torch.Tensor]:
    """Three components in eight dimensions, sixteen measurements."""
    rng = torch.Generator().manual_seed(0)
    roots = torch.randn(3, 8, 8, generator=rng, dtype=F64)
    prior = GaussianMixturePrior(
        torch.tensor([0.2, 0.3, 0.5], dtype=F64),
        0.3 * torch.randn(3, 8, generator=rng, dtype=F64),
        0.3 * roots @ roots.mT / 8 + 0.1 * torch.eye(8, dtype=F64),
    )
    operator = DenseOperator(torch.randn(16, 8, generator=rng, dtype=F64) / 8**0.5, dtype=F64)
    return _made(prior, operator, 3)


def _made(prior: GaussianMixturePrior, operator: DenseOperator, seed: int) -> tuple[Problem, torch.Tensor]:
    def model() -> None:
        pyro.sample("y", OneBit(operator(pyro.sample("x", prior)), NOISE))

    made = simulate(model, seed=seed)
    return read_problem(model, {"y": made["y"]}), made["x"]


def timings() -> Iterator[dict[str, Any]]:
    for n, m in ((32, 32), (64, 64), (64, 80)):
        p, _ = one_bit_problem(n, m, seed=0)
        started = time.perf_counter(), time.process_time()
        block = draw_block(p, Exact(), 0, 0, 0, 2000, seed=1)
        yield {
            "figure": "2,000 draws by tilting",
            "N": n,
            "M": m,
            "seconds": time.perf_counter() - started[0],
            "seconds of processor": time.process_time() - started[1],
            "share kept": float(block.stats["acceptance_rate"][0]),
            "log evidence": list(log_evidence(p)),
        }


def agreement(name: str, p: Problem, burn_in: int, draws: int = 500) -> dict[str, Any]:
    one, two = draw_block(p, Exact(), 0, 0, 0, 2 * draws, seed=1).draws.split(draws)
    floor = sliced_wasserstein(one, two)
    started = time.perf_counter()
    block = draw_block(p, Exact(method="slice", burn_in=burn_in), 0, 0, 0, draws, seed=2)
    seconds = time.perf_counter() - started
    distance = (sliced_wasserstein(block.draws, one) + sliced_wasserstein(block.draws, two)) / 2
    return {
        "figure": "slice beside tilting",
        "problem": name,
        "moves": burn_in,
        "seconds": seconds,
        "distance / floor": distance / floor,
        "rhat": float(block.stats["rhat"][0]),
        "ess per chain": float(block.stats["ess"][0]) / draws,
    }


def calibration() -> dict[str, Any]:
    ranks, rng = [], torch.Generator().manual_seed(1)
    for seed in range(REPLICATIONS):
        p, truth = one_bit_problem(3, 3, seed)
        draws = torch.cat([truth[None], draw_block(p, Exact(), 0, 0, 0, RANKED, seed=seed).draws])
        quantities = torch.cat([draws, p.log_likelihood(draws).sum(1, keepdim=True)], 1)
        below = (quantities[1:] < quantities[0]).sum(0)
        ranks.append((below + torch.rand(4, generator=rng)) / (RANKED + 1))
    names = ("x_0", "x_1", "x_2", "log likelihood")
    p_values = [float(kstest(r.numpy(), "uniform").pvalue) for r in torch.stack(ranks, 1)]
    return {"figure": "calibration of tilting, Kolmogorov-Smirnov"} | dict(zip(names, p_values, strict=True))


def main() -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        print("  ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)
        write_results("exact_boxes", rows)

    keep(calibration())
    gaussian, mixture = one_bit_problem(32, 32, seed=0)[0], mixture_problem()[0]
    steps: list[Callable[[], dict[str, Any]]] = [
        lambda: agreement("Gaussian, N = M = 32", gaussian, 3200),
        lambda: agreement("mixture of three, N = 8, M = 16", mixture, 1600),
    ]
    for step in steps:
        keep(step())
    weights = component_weights(mixture)
    keep(
        {
            "figure": "weights of the mixture",
            "weights": weights.value.tolist(),
            "standard errors": weights.standard_error.tolist(),
        }
    )
    for row in timings():
        keep(row)


if __name__ == "__main__":
    main()

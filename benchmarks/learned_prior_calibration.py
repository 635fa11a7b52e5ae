r"""Is guided diffusion calibrated under the learned prior?  SBC and TARP, truths from the network prior itself.

    python benchmarks/learned_prior_calibration.py --case one-bit --kernel "GuidedDiffusion()" --minutes 15

Truths are draws of ``load_prior("mnist").sample`` (28 x 28 pixels; Heun's method on 48 noise levels, churn 19, 95
network calls), the law that the shipped prior calls its own; data are

* one-bit: signs of 400 Gaussian measurements, noise 0.1;
* inpainting: half of the pixels, noise 0.1.

Operator and mask are fixed, truth and y are drawn anew in every replication (seed 0).  Ranks are of linear and
low-frequency functionals, means of quadrants, energy, log likelihood, residual norm and y^T A x: POT-C, Holm over all.
TARP has references made without y, and with y: the back projection A^T y, brought pixel by pixel to mean and sd of the
draws, with noise of half a sd.  It is done over all pixels, and over those in which the draws have an sd of at least
0.1, because every pixel counts alike and a digit leaves most of the margin black.

On the same replications three rows that no method is: ``prior``, truths of other replications as draws;
``sd x 0.9`` and ``sd x 0.8``, the kernel's draws pulled towards the mean of their replication.

A run ends when there are as many replications as asked for or the minutes are over; the same command with the same
``--store`` goes on with what is there.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from _results import kept_results, write_results

from bayes_ir.analysis import FewReplicationsWarning, default_quantities, sbc_ranks, tarp
from bayes_ir.analysis.replication_store import ReplicationStore
from bayes_ir.bench.kernel_text import parse_kernel
from bayes_ir.inference import Problem
from bayes_ir.models import Gaussian, GaussianSensing, Mask, OneBit, load_prior, random_mask
from bayes_ir.replication import Replicator

NOISE, SEED, VISIBLE_SD = 0.1, 0, 0.1


def one_bit() -> Callable[[], None]:
    prior = load_prior("mnist")
    a = GaussianSensing(measurements=400, event_shape=prior.event_shape, seed=SEED)
    return lambda: pyro.sample("y", OneBit(a(pyro.sample("x", prior)), NOISE))


def inpainting() -> Callable[[], None]:
    prior = load_prior("mnist")
    a = Mask(random_mask(prior.event_shape, observed=0.5, seed=SEED))
    return lambda: pyro.sample("y", Gaussian(a(pyro.sample("x", prior)), NOISE))


CASES = {"one-bit": one_bit, "inpainting": inpainting}


def quantities(problem: Problem) -> dict[str, Any]:
    def of(function: Any) -> Any:
        def quantity(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            data = torch.as_tensor(y, dtype=problem.dtype)
            return (
                function(problem.with_data(data), torch.as_tensor(x, dtype=problem.dtype), data)
                .double()
                .numpy()
            )

        return quantity

    return {
        **default_quantities(problem.prior.event_shape),
        "log_likelihood": of(lambda p, x, y: p.log_likelihood(x).flatten(1).sum(1)),
        "residual_norm": of(lambda p, x, y: (y - p.operator(x)).flatten(1).norm(dim=1)),
        "data_product": of(lambda p, x, y: (y * p.operator(x)).flatten(1).sum(1)),
    }


def tested(problem: Problem, x: np.ndarray, s: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """P-values of truths x (L, *event), draws s (L, S, *event) and data y."""
    tree = sbc_ranks(x, s, quantities(problem), data=y, seed=SEED)
    test = tree["sbc_test"].to_dataset()
    columns = ("p_value", "mean_rank", "sd_ratio")
    found: dict[str, Any] = {
        "SBC p": tree.attrs["smallest_p_holm"],
        "verdict": tree.attrs["verdict"],
        "power": tree.attrs["power"],
        "quantities": {
            str(q): [float(test[c].sel(quantity=q)) for c in columns] for q in test["quantity"].values
        },
    }
    back = problem.operator.adjoint(torch.as_tensor(y, dtype=problem.dtype)).double().numpy()
    noise = np.random.default_rng((SEED, 1)).normal(size=back.shape)
    spread = back.std(0)
    z = (back - back.mean(0)) / np.where(spread > 0, spread, 1)
    mean, sd = s.mean((0, 1)), s.std((0, 1))
    points = mean + sd * (z + 0.5 * noise)
    seen = sd >= VISIBLE_SD
    for name, chosen in (("all", np.ones_like(seen)), ("visible", seen)):
        balls = tarp(x[:, chosen], s[:, :, chosen], data_references=points[:, chosen], seed=SEED)
        for reference, p in zip(balls["reference"].values, balls["p_value"].values, strict=True):
            found[f"TARP {reference}, {name}"] = float(p)
    return found | {"visible pixels": int(seen.sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=list(CASES), required=True)
    parser.add_argument("--kernel", default="GuidedDiffusion()", help="as Python prints it")
    parser.add_argument("--replications", type=int, default=500)
    parser.add_argument("--draws", type=int, default=19)
    parser.add_argument("--together", type=int, default=8, help="replications in one batch")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--store", type=Path, help="folder of finished replications")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FewReplicationsWarning)
    kernel = parse_kernel(options.kernel)
    run = Replicator.of(CASES[options.case](), kernel, options.draws, SEED, together=options.together)
    kept = ReplicationStore(options.store, run.settings | {"case": options.case})
    started, numbers = time.monotonic(), range(options.replications)
    for group in sorted({i // run.together for i in numbers if not kept.done(i)}):
        if time.monotonic() - started > 60 * options.minutes:
            break
        for i, made in enumerate(run(group), start=group * run.together):
            x, s = made.x[0].numpy(), made.draws.numpy()
            kept.write(i, {"x": x, "draws": s, "y": made.problem.y.numpy()})
        print(f"{i + 1} replications, {time.monotonic() - started:.0f} s", flush=True)
    made = [kept.read(i) for i in numbers if kept.done(i)]
    x, s, y = (np.stack([m[name] for m in made]).astype(np.float64) for name in ("x", "draws", "y"))
    others = np.stack([np.roll(x, -1 - k, axis=0) for k in range(options.draws)], axis=1)
    mean = s.mean(1, keepdims=True)
    samplers = {
        options.kernel: s,
        "prior": others,
        "sd x 0.9": mean + 0.9 * (s - mean),
        "sd x 0.8": mean + 0.8 * (s - mean),
    }
    case = {"case": options.case, "kernel": options.kernel, "replications": len(x), "draws": options.draws}
    rows = [
        r
        for r in kept_results("learned_prior_calibration")
        if (r["case"], r["kernel"]) != (case["case"], case["kernel"])
    ]
    for name, draws in samplers.items():
        row = case | {"draws of": name} | tested(run.problem, x, draws, y)
        rows.append(row)
        print({k: v for k, v in row.items() if k != "quantities"}, flush=True)
    write_results("learned_prior_calibration", rows)


if __name__ == "__main__":
    main()

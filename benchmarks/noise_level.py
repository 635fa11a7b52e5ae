"""An unknown noise level under the learned prior: is it found, and does its interval cover it?

    python benchmarks/noise_level.py

The operators of the problems ``one-bit-digit`` and ``linear-digit``, test digits in turn, noise levels drawn from
their prior, sigma ~ LogNormal(log 0.1, 0.5).  Blocked Gibbs sampling, the image by ``GuidedDiffusion()`` renoised to
the ratio 1, one chain of 20 + 40 sweeps.  A row per problem: truth, posterior mean and sd of log sigma, whether the
central 90 % interval covers the truth, and its rank; the share covered has a standard error of about 4 % over 50
problems.  The chains are short: their effective size stands beside.  Problems that the results already hold are kept.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import arviz_stats
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from _results import kept_results, write_results

import bayes_ir as bir
from bayes_ir.inference import BlockedGibbs, GuidedDiffusion
from bayes_ir.models import Channel, Gaussian, OneBit, load_prior
from bayes_ir.problems import PROBLEMS, test_digits

CHANNELS: dict[str, type[Channel]] = {"one-bit-digit": OneBit, "linear-digit": Gaussian}
GIBBS = BlockedGibbs(image=GuidedDiffusion(), warmup=20, renoise=1.0)
SIGMA = dist.LogNormal(torch.tensor(math.log(0.1)), 0.5)


def measure(name: str, number: int, draws: int) -> dict[str, Any]:
    problem, channel, prior = PROBLEMS[name](seed=0), CHANNELS[name], load_prior("mnist")
    digits = test_digits()[0]

    def model() -> None:
        x = pyro.sample("x", prior)
        sigma = pyro.sample("sigma", SIGMA)
        pyro.sample("y", channel(problem.operator(x), noise_std=sigma))

    given = pyro.condition(model, data={"x": digits[number % len(digits)]})
    truth = bir.simulate(given, seed=number)
    tree = bir.sample(model, GIBBS, {"y": truth["y"]}, draws=draws, chains=1, seed=number, progress=False)
    found, sigma = np.log(tree["posterior"]["sigma"].values[0]), math.log(float(truth["sigma"]))
    low, high = np.quantile(found, [0.05, 0.95])
    return {
        "sigma": math.exp(sigma),
        "mean of log sigma": float(found.mean()),
        "sd of log sigma": float(found.std()),
        "error / sd": float((found.mean() - sigma) / found.std()),
        "covered": bool(low <= sigma <= high),
        "rank": float((found < sigma).mean()),
        "effective size": float(arviz_stats.ess(np.log(tree["posterior"]["sigma"]))),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--draws", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = kept_results("noise_level") or []
    done = {(row["problem"], row["number"]) for row in rows}
    for number in range(options.problems):
        for name in CHANNELS:
            if (name, number) in done:
                continue
            rows.append({"problem": name, "number": number} | measure(name, number, options.draws))
            print(rows[-1], flush=True)
            write_results("noise_level", rows)


if __name__ == "__main__":
    main()

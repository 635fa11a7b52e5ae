"""Does leave-one-out find the right noise level and the right channel?

    python benchmarks/loo_experiment.py --problems 8 --learned 3

Data: signs of 400 Gaussian measurements, noise 0.1; in half of the cases compared with known random thresholds (a
dither of sd 0.1).  The models differ from the right one in the noise (0.03, 0.3), or in the comparator: a threshold of
0.1 that is not there, a dither that is ignored.  Told are the models' elpd by PSIS-LOO behind the right one, and the
same for 4,000 further signs of the same image, which no approximation of leave-one-out touches.

The oracle is a smooth Gaussian prior on 6 x 6 pixels, drawn by the calibrated guidance, which is at the Monte Carlo
floor on Gaussian priors (quantized_cells); the learned prior is "mnist", with test digits as truths.

Under the oracle 400 signs tell 0.1 from 0.03 and from 0.3, though a quarter of the measurements has a Pareto k above
its limit: on average the differences agree with those of new signs.  Under "mnist", with 784 pixels to learn from 400
signs, k is above its limit for most of the measurements, and the ranking is wrong: leave-one-out from draws of
one posterior cannot be used there.  Ten folds, each predicted by draws that were made without it, stand beside.
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

import numpy as np
import pyro
import torch
from _results import write_results
from arviz_stats.utils import ELPDData
from torch import Tensor

import bayes_ir as bir
from bayes_ir.analysis import HighParetoKWarning, measurement_loo
from bayes_ir.inference import Calibrated, GuidedDiffusion
from bayes_ir.models import GaussianPrior, GaussianSensing, OneBit, load_prior
from bayes_ir.problems import test_digits

NOISE, MEASUREMENTS, FRESH, DITHER = 0.1, 400, 4000, 0.1
RIGHT = "right"
#: dithered? -> name -> noise, known part of the threshold, offset of the threshold
MODELS: dict[bool, dict[str, tuple[float, float, float]]] = {
    False: {
        RIGHT: (NOISE, 0.0, 0.0),
        "noise 0.03": (0.03, 0.0, 0.0),
        "noise 0.3": (0.3, 0.0, 0.0),
        "threshold 0.1": (NOISE, 0.0, 0.1),
    },
    True: {RIGHT: (NOISE, 1.0, 0.0), "dither ignored": (NOISE, 0.0, 0.0)},
}


def smooth_prior(side: int = 6) -> GaussianPrior:
    """Zero mean, correlation exp(-distance / 3)."""
    row, column = torch.meshgrid(*(torch.arange(side, dtype=torch.float64),) * 2, indexing="ij")
    points = torch.stack([row.flatten(), column.flatten()], dim=1)
    covariance = torch.exp(-torch.cdist(points, points) / 3).float()
    return GaussianPrior(torch.zeros(side * side), covariance, event_shape=(1, side, side))


def compared(
    prior: Any, truth: Tensor, dithered: bool, seed: int, draws: int, steps: int, folds: int
) -> list[dict]:
    """Every model of one data set, by leave-one-out and, if there are folds, by these."""
    operator = GaussianSensing(MEASUREMENTS, prior.event_shape, seed=seed)
    # Rows of another matrix of this size: those of one with 4,000 rows have another scale.
    others = [
        GaussianSensing(MEASUREMENTS, prior.event_shape, seed=1000 + 10 * seed + i)
        for i in range(FRESH // MEASUREMENTS)
    ]
    rng = torch.Generator().manual_seed(seed)
    dither = DITHER * torch.randn(MEASUREMENTS, generator=rng)
    later = DITHER * torch.randn(FRESH, generator=rng)

    def measured(z: Tensor, tau: Tensor) -> Tensor:
        return torch.where(z + NOISE * torch.randn(z.shape, generator=rng) >= tau * dithered, 1.0, -1.0)

    y = measured(operator(truth), dither)
    new = measured(torch.cat([a(truth) for a in others], dim=-1), later)
    kernel = GuidedDiffusion(denoising_posterior=Calibrated(), steps=steps)
    found: dict[str, tuple[ELPDData, ELPDData | None, float]] = {}
    for name, (noise, share, offset) in MODELS[dithered].items():

        def model(noise: float = noise, share: float = share, offset: float = offset) -> None:
            x = pyro.sample("x", prior)
            pyro.sample("y", OneBit(operator(x), noise, share * dither + offset))

        how = {"draws": draws, "chains": 1, "block_size": draws, "seed": seed, "progress": False}
        posterior = bir.sample(model, kernel, {"y": y}, **how)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HighParetoKWarning)
            loo = measurement_loo(posterior)
        x = torch.as_tensor(posterior["posterior"]["x"].values[0])
        z = torch.cat([a(x) for a in others], dim=-1)
        log_p = OneBit(z, noise, share * later + offset).log_prob(new).double()
        fresh = float((torch.logsumexp(log_p, dim=0) - np.log(draws)).sum())
        crossed = bir.measurement_kfold(model, kernel, {"y": y}, folds=folds, **how) if folds else None
        found[name] = loo, crossed, fresh * MEASUREMENTS / FRESH
    right, right_crossed, fresh_right = found[RIGHT]
    rows = []
    for name, (loo, crossed, fresh) in found.items():
        behind = right.elpd_i.values - loo.elpd_i.values
        extra = {}
        if crossed is not None and right_crossed is not None:
            by_folds = right_crossed.elpd_i.values - crossed.elpd_i.values
            extra = {
                "behind, folds": float(by_folds.sum()),
                "se, folds": float(np.sqrt(by_folds.size * by_folds.var())),
            }
        rows.append(
            {
                "data": "dithered signs" if dithered else "signs",
                "model": name,
                "seed": seed,
                "elpd": float(loo.elpd),
                "behind": float(behind.sum()),
                "se": float(np.sqrt(behind.size * behind.var())),
                "behind, new signs": fresh_right - fresh,
                "p_loo": float(loo.p),
                "share of high k": float((loo.pareto_k > loo.good_k).mean()),
                "largest finite k": float(loo.pareto_k.where(np.isfinite(loo.pareto_k)).max()),
                **extra,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=8, help="data sets under the Gaussian prior")
    parser.add_argument("--learned", type=int, default=3, help="data sets under the learned prior")
    parser.add_argument("--folds", type=int, default=10, help="of the data sets under the learned prior")
    parser.add_argument("--draws", type=int, default=250)
    parser.add_argument("--steps", type=int, default=16)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    oracle, digits = smooth_prior(), test_digits()[0]
    for name, count in (("Gaussian, 6 x 6", settings.problems), ("mnist", settings.learned)):
        prior = oracle if name != "mnist" else load_prior("mnist")
        for seed in range(count):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                truth = digits[seed] if name == "mnist" else prior.sample()
            for dithered in MODELS:
                folds = settings.folds if name == "mnist" else 0
                new = compared(prior, truth, dithered, seed, settings.draws, settings.steps, folds)
                rows += [{"prior": name, "draws": settings.draws} | row for row in new]
                for row in new:
                    print(
                        "  ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()),
                        flush=True,
                    )
            write_results("loo_experiment", rows)


if __name__ == "__main__":
    main()

r"""Do the diagnostics alarm when they should, and only then?  Rejection rates at the 5 % level.

    python benchmarks/calibration_gates.py

The problem: x in R^8 of a mixture of two Gaussians, weights 0.7 and 0.3, means +-0.8 in every coordinate, covariance
0.36 I; y = A x + 0.5 n, A Gaussian, 3 x 8. The posterior of every y is a mixture that can be sampled exactly. Samplers:

* exact: the null gate, whose rate is the size of the diagnostic;
* sd x 0.9: the deviation from the mean of the component is a tenth too small;
* lost mode: only the component that is more probable given y;
* prior: draws of p(x), whatever y.

Calibrations (ranks, random points, coverage) see 500 replications of 99 draws; the two-sample comparisons 500 draws
against 500 exact ones at one y (whose lighter mode has probability 0.34). Beside it: the size of POT-C on independent
uniform numbers and its power on one Gaussian quantity.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
from _results import write_results
from scipy.special import softmax

from bayes_ir.analysis import (
    FewReplicationsWarning,
    classifier_two_sample_test,
    default_quantities,
    expected_coverage,
    holm_adjusted,
    sbc_power,
    sbc_ranks,
    sliced_wasserstein,
    sliced_wasserstein_floor,
    tarp,
    uniformity_p_value,
)

N, M, NOISE, TAU = 8, 3, 0.5, 0.6
WEIGHTS, MEANS = np.array([0.7, 0.3]), 0.8 * np.array([[1.0], [-1.0]]) * np.ones(N)
A = np.random.default_rng(123).normal(size=(M, N)) / np.sqrt(M)
GAIN = TAU**2 * A.T @ np.linalg.inv(TAU**2 * A @ A.T + NOISE**2 * np.eye(M))
ROOT = np.linalg.cholesky(TAU**2 * (np.eye(N) - GAIN @ A))
SAMPLERS = ("exact", "sd x 0.9", "lost mode", "prior")
LEVEL = 0.05


def simulate(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    x = MEANS[rng.choice(2, size=n, p=WEIGHTS)] + TAU * rng.normal(size=(n, N))
    return x, x @ A.T + NOISE * rng.normal(size=(n, M))


def log_prior(x: np.ndarray) -> np.ndarray:
    squares = ((x[..., None, :] - MEANS) ** 2).sum(-1) / TAU**2
    return np.logaddexp.reduce(np.log(WEIGHTS) - squares / 2, axis=-1)


def responsibilities(y: np.ndarray) -> np.ndarray:
    gap = y[:, None] - MEANS @ A.T
    squares = np.einsum("lki,ij,lkj->lk", gap, np.linalg.inv(TAU**2 * A @ A.T + NOISE**2 * np.eye(M)), gap)
    return softmax(np.log(WEIGHTS) - squares / 2, axis=1)


def draw(rng: np.random.Generator, sampler: str, y: np.ndarray, draws: int) -> np.ndarray:
    """Draws for every row of y, (L, draws, N)."""
    if sampler == "prior":
        return simulate(rng, len(y) * draws)[0].reshape(len(y), draws, N)
    weights = responsibilities(y)
    if sampler == "lost mode":
        weights = np.eye(2)[weights.argmax(axis=1)]
    k = (rng.uniform(size=(len(y), draws)) > weights[:, :1]).astype(int)
    means = MEANS + (y[:, None] - MEANS @ A.T) @ GAIN.T
    width = 0.9 if sampler == "sd x 0.9" else 1.0
    return np.take_along_axis(means, k[..., None], 1) + width * rng.normal(size=(len(y), draws, N)) @ ROOT.T


def log_likelihood(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -((y - x @ A.T) ** 2).sum(-1) / (2 * NOISE**2)


QUANTITIES: dict[str, Callable] = {
    **default_quantities((N,)),
    "log_likelihood": log_likelihood,
    "residual_norm": lambda x, y: np.linalg.norm(y - x @ A.T, axis=-1),
    "data_product": lambda x, y: (x @ A.T) @ y,
    "log_joint": lambda x, y: log_likelihood(x, y) + log_prior(x),
}


def calibrations(sampler: str, seed: int, replications: int, draws: int) -> dict[str, bool]:
    rng = np.random.default_rng((seed, 10))
    x, y = simulate(rng, replications)
    s = draw(rng, sampler, y, draws)
    test = sbc_ranks(x, s, QUANTITIES, data=y, seed=seed)["sbc_test"]
    p_values = dict(zip(test["quantity"].values, test["p_value"].values, strict=True))
    found = {f"SBC {name}": bool(p < LEVEL) for name, p in p_values.items()}
    found["SBC, Holm over all"] = bool(test["deviates"].any())
    free = holm_adjusted([p_values[name] for name in default_quantities((N,))])
    found["SBC, Holm over those without y"] = bool((free < LEVEL).any())
    # from y alone: its back projection with noise
    points = y @ np.linalg.pinv(A).T + rng.normal(size=x.shape)
    balls = tarp(x, s, data_references=points, seed=seed)
    for name, p in zip(balls["reference"].values, balls["p_value"].values, strict=True):
        found[f"TARP {name}"] = bool(p < LEVEL)
    density = log_likelihood(x, y) + log_prior(x), log_likelihood(s, y[:, None]) + log_prior(s)
    sets = expected_coverage(x, s, ["linear_0", "energy"], log_density=density, seed=seed)
    for name, p in zip(sets["quantity"].values, sets["p_value"].values, strict=True):
        found[f"coverage {name}"] = bool(p < LEVEL)
    return found


def comparisons(sampler: str, seed: int, y: np.ndarray, exact: np.ndarray, draws: int, floor: float) -> dict:
    rng = np.random.default_rng((seed, 11))
    s, e = draw(rng, sampler, y, draws)[0], exact[rng.permutation(len(exact))[:draws]]
    return {
        "C2ST": classifier_two_sample_test(s, e, permutations=199, seed=seed).p_value < LEVEL,
        "sliced Wasserstein > floor + 1.64 sd": sliced_wasserstein(s, e) > floor,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--null", type=int, default=200, help="repetitions of the exact sampler")
    parser.add_argument("--alarm", type=int, default=30, help="repetitions of each wrong sampler")
    parser.add_argument("--replications", type=int, default=500)
    parser.add_argument("--draws", type=int, default=99)
    settings = parser.parse_args()
    warnings.simplefilter("ignore", FewReplicationsWarning)
    started = time.perf_counter()
    ys = simulate(np.random.default_rng(5), 200)[1]
    y = ys[[np.abs(responsibilities(ys).min(axis=1) - 0.34).argmin()]]
    exact = draw(np.random.default_rng(6), "exact", y, 4000)[0]
    floor = sliced_wasserstein_floor(exact, sizes=(500, 500), splits=100)
    rates: dict[str, dict[str, float]] = {}
    for sampler in SAMPLERS:
        repeats = settings.null if sampler == "exact" else settings.alarm
        rows = [
            calibrations(sampler, i, settings.replications, settings.draws)
            | comparisons(sampler, i, y, exact, 500, floor.mean + 1.64 * floor.sd)
            for i in range(repeats)
        ]
        for name in rows[0]:
            rates.setdefault(name, {})[sampler] = float(np.mean([row[name] for row in rows]))
        print(sampler, repeats, f"{time.perf_counter() - started:.0f} s", flush=True)
    rng = np.random.default_rng(7)
    size = {
        str(n): float((uniformity_p_value(rng.uniform(size=(4000, n))) < LEVEL).mean())
        for n in (100, 500, 1000)
    }
    power = {
        f"sd x {factor:g}": {str(n): sbc_power(n, settings.draws, sd_factor=factor) for n in (200, 500, 1000)}
        for factor in (0.8, 0.9, 1.1)
    }
    figures = {
        "settings": vars(settings) | {"level": LEVEL},
        "seconds": time.perf_counter() - started,
        "lighter mode": float(responsibilities(y).min()),
        "rates": rates,
        "size of POT-C": size,
        "power of POT-C": power,
    }
    write_results("calibration_gates", figures)


if __name__ == "__main__":
    main()

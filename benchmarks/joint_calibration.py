r"""Blocked Gibbs sampling of image and nuisance parameters: calibration over the joint posterior, and Geweke's test.

    python benchmarks/joint_calibration.py

Two models in four dimensions, a correlated Gaussian prior and ``sigma^2 ~ InverseGamma(3, 0.3)``:

* full precision: ``y = A x + sigma n``, A Gaussian, 12 x 4;
* signs: ``y = sign(A x + sigma n)``.

Simulation-based calibration: 300 replications (100 for the alarm); of each chain 19 draws, six sweeps apart after 40 of
warm-up, are ranked in x (three random directions, energy), sigma, and two quantities of both (log likelihood, log
joint).  Rows are the Gibbs sampler and, for an alarm that has to ring, the same with the image step's likelihood
counted half (``GuidedDiffusion(scale=0.5)``).

Geweke's test: moments of (x, log sigma) in draws of the model (marginal-conditional) and along a chain that alternates
a Gibbs sweep with new data given x and sigma (successive-conditional); z-scores with the chain's effective size.

Source: Talts et al. 2018; Geweke 2004 (JASA 99, 799).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from _results import kept_results, write_results
from arviz_stats.base import array_stats

from bayes_ir import simulate
from bayes_ir.analysis import sbc_ranks
from bayes_ir.inference import BlockedGibbs, Exact, GibbsSweeps, GuidedDiffusion, read_joint
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit

F64 = torch.float64
N, M, DRAWS, APART, WARMUP = 4, 12, 19, 6, 40


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


ROOT = _normal(N, N, seed=1)
PRIOR = GaussianPrior(_normal(N, seed=2), ROOT @ ROOT.T / N + 0.2 * torch.eye(N, dtype=F64))
A = DenseOperator(_normal(M, N, seed=3) / 2, dtype=F64)
VARIANCE = dist.InverseGamma(torch.tensor(3.0, dtype=F64), torch.tensor(0.3, dtype=F64))


def full_precision() -> None:
    x, variance = pyro.sample("x", PRIOR), pyro.sample("variance", VARIANCE)
    pyro.sample("y", Gaussian(A(x), variance.sqrt()))


def signs() -> None:
    x, variance = pyro.sample("x", PRIOR), pyro.sample("variance", VARIANCE)
    pyro.sample("y", OneBit(A(x), variance.sqrt()))


MODELS: dict[str, Callable[[], None]] = {"full precision": full_precision, "signs": signs}
ROWS = {
    "Gibbs": BlockedGibbs(image=Exact(), warmup=WARMUP),
    "Gibbs, likelihood of the image step to the power 1/2": BlockedGibbs(
        image=GuidedDiffusion(steps=8, scale=0.5), warmup=WARMUP
    ),
}


def flat(x: torch.Tensor, theta: dict[str, torch.Tensor]) -> np.ndarray:
    """(x, log sigma)."""
    return torch.cat([x.double(), 0.5 * theta["variance"].log().reshape(1)]).numpy()


def chain(model: Callable[[], None], y: torch.Tensor, settings: BlockedGibbs, seed: int) -> np.ndarray:
    """Draws (DRAWS, N + 1) of one posterior."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sweeps = GibbsSweeps(read_joint(model, {"y": y}), settings, lambda p: p, 0, seed)
        made = []
        for number in range(1, WARMUP + DRAWS * APART + 1):
            found = sweeps()
            if number > WARMUP and (number - WARMUP) % APART == 0:
                made.append(flat(sweeps.image, found.theta))
    return np.stack(made)


def log_likelihood(model: Callable[[], None], v: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, sigma = torch.from_numpy(v[:, :N]), torch.from_numpy(v[:, N:]).exp()
    channel = Gaussian(A(x), sigma) if model is full_precision else OneBit(A(x), sigma)
    return channel.log_prob(torch.from_numpy(y)).sum(1).numpy()


def calibration(name: str, settings: BlockedGibbs, replications: int) -> dict[str, Any]:
    model = MODELS[name]
    truths, draws, data = [], [], []
    for i in range(replications):
        made = simulate(model, seed=i)
        truths.append(flat(made["x"], made))
        data.append(made["y"].numpy())
        draws.append(chain(model, made["y"], settings, seed=10_000 + i))
    directions = np.random.default_rng(0).normal(size=(3, N))

    def log_prior(v: np.ndarray) -> np.ndarray:
        x, variance = torch.from_numpy(v[:, :N]), torch.from_numpy(2 * v[:, N]).exp()
        return (PRIOR.log_prob(x) + VARIANCE.log_prob(variance) + variance.log()).numpy()

    quantities: dict[str, Any] = {
        f"linear_{k}": lambda v, y, d=d: v[:, :N] @ d for k, d in enumerate(directions)
    } | {
        "energy": lambda v, y: (v[:, :N] ** 2).sum(1),
        "sigma": lambda v, y: v[:, N],
        "log_likelihood": lambda v, y: log_likelihood(model, v, y),
        "log_joint": lambda v, y: log_likelihood(model, v, y) + log_prior(v),
    }
    tree = sbc_ranks(np.stack(truths), np.stack(draws), quantities, data=data)
    test = tree["sbc_test"].to_dataset()
    p = dict(zip(test["quantity"].values.tolist(), test["p_value"].values.tolist(), strict=True))
    return {"p": p, "smallest p, Holm": tree.attrs["smallest_p_holm"], "verdict": tree.attrs["verdict"]}


def moments(v: np.ndarray) -> np.ndarray:
    """First and second moments of (x, log sigma), (n, 2 (N + 1))."""
    return np.concatenate([v, v**2], axis=1)


def geweke(name: str, settings: BlockedGibbs, steps: int) -> dict[str, Any]:
    model = MODELS[name]
    independent = moments(
        np.stack([flat(s["x"], s) for s in (simulate(model, seed=i) for i in range(steps))])
    )
    joint = read_joint(model, {"y": simulate(model, seed=1)["y"]})
    made = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sweeps = GibbsSweeps(joint, settings, lambda p: p, 0, 0)
        for _ in range(WARMUP + steps):
            found = sweeps()
            made.append(flat(sweeps.image, found.theta))
            with torch.no_grad():
                again = pyro.condition(model, data=found.theta | {"x": sweeps.image})
                joint.data["y"] = pyro.poutine.trace(again).get_trace().nodes["y"]["value"]
    along = moments(np.stack(made[WARMUP:]))
    size = np.array([array_stats.ess(column[None]) for column in along.T])
    error = np.sqrt(along.var(0) / size + independent.var(0) / steps)
    z = (along.mean(0) - independent.mean(0)) / error
    return {"z": z.tolist(), "largest |z|": float(np.abs(z).max()), "least effective size": float(size.min())}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--replications", type=int, default=300)
    parser.add_argument("--alarms", type=int, default=100, help="replications of the row that has to fail")
    parser.add_argument("--steps", type=int, default=6000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = kept_results("joint_calibration") or []
    done = {(row["model"], row["sampler"], row["test"]) for row in kept}
    for name in MODELS:
        for label, settings in ROWS.items():
            for test in ("SBC", "Geweke"):
                if (name, label, test) in done:
                    continue
                row: dict[str, Any] = {"model": name, "sampler": label, "test": test}
                if test == "SBC":
                    replications = options.replications if label == "Gibbs" else options.alarms
                    row |= {"replications": replications} | calibration(name, settings, replications)
                else:
                    row |= {"steps": options.steps} | geweke(name, settings, options.steps)
                kept.append(row)
                print(row, flush=True)
                write_results("joint_calibration", kept)


if __name__ == "__main__":
    main()

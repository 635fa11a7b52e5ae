"""Which digit is it, under a *learned* prior?  Posterior probabilities of the label from signs: are they calibrated?

    python benchmarks/digit_label_network.py --data FOLDER     # the test files of MNIST, idx .gz

The model: a label, uniform over ten; the image given the label from ``load_prior("mnist-labelled").given(label)``,
28 x 28; M signs of Gaussian measurements, one operator for all digits.  The label is summed out by
``Enumerated(image=TwistedSMC(...))``.  The noise is large because probabilities are no better than the evidence they
are made of: clouds of 32 particles know the log evidence of 25 signs at noise 0.1 to 1.7 nats, that of 100 signs at
noise 2 to 0.4.  Truths are draws of the prior itself, for which the probabilities have to be calibrated as far as the
evidence is known, and test digits of MNIST (the first ones; the prior was calibrated on the last ones).

Beside the figures of ``digit_label.py``, per number of measurements: the calibration error that calibrated
probabilities would show in so few digits (mean and 95 % quantile over 1,000 sets of labels drawn from the
probabilities), by how many of its standard deviations the log probability of the truths lies off what the
probabilities promise, and how far the probability of the truth moves between two runs of the sampler (root mean
square over the first digits, divided by 2^(1/2)): the Monte Carlo error of the evidence.  Every digit is kept as it is
found, and the study goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from _results import kept_results, write_results
from digit_label import figures
from torch import Tensor

import bayes_ir as bir
from bayes_ir.inference import Enumerated, TwistedSMC
from bayes_ir.models import GaussianSensing, LabelledPrior, OneBit, load_prior
from bayes_ir.models.datasets import load_images, load_labels

NAME, REPEATED = "digit_label_network", 8
SHOWN = ("accuracy", "confidence", "calibration error", "calibration error if calibrated, 95 %", "z of log p")


def probabilities(
    prior: LabelledPrior,
    measure: Callable[[Tensor], OneBit],
    x: Tensor,
    label: int,
    kernel: Enumerated,
    seed: int,
    run: int,
) -> np.ndarray:
    """``p(label | y)``, (10,), of the signs of an image; another ``run`` has the same signs."""

    def model() -> None:
        which = pyro.sample("label", dist.Categorical(torch.full((10,), 0.1)))
        pyro.sample("y", measure(pyro.sample("x", prior.given(which))))

    known = pyro.condition(model, data={"x": x, "label": torch.tensor(label)})
    y = bir.simulate(known, seed=seed)["y"]
    draws = kernel.image.block_size  # one cloud per label
    tree = bir.sample(model, kernel, {"y": y}, draws=draws, chains=1, seed=2 * seed + run, progress=False)
    return tree["posterior"]["label_probability"].values[0, 0]


def judged(found: np.ndarray, again: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """How calibrated the probabilities (n, 10) of n digits look, beside what calibrated ones would show."""
    said = figures(found, labels)
    rng = np.random.default_rng(0)
    below = found.cumsum(1) / found.sum(1, keepdims=True)
    promised = [figures(found, (below > rng.random((len(found), 1))).argmax(1)) for _ in range(1000)]
    errors = np.array([p["calibration error"] for p in promised])
    logs = np.array([p["log p of the truth"] for p in promised])
    moved = (found[: len(again)] - again)[np.arange(len(again)), labels[: len(again)]]
    return said | {
        "digits": len(labels),
        "calibration error if calibrated": float(errors.mean()),
        "calibration error if calibrated, 95 %": float(np.quantile(errors, 0.95)),
        "log p promised": float(logs.mean()),
        "z of log p": float((said["log p of the truth"] - logs.mean()) / logs.std()),
        "Monte Carlo error of p": float(np.sqrt((moved**2).mean() / 2)),
    }


def truths_of(prior: LabelledPrior, folder: Path) -> dict[str, Callable[[int], tuple[Tensor, int]]]:
    """Image and label of a number, of draws and of test digits."""
    test = load_images(folder / "t10k-images-idx3-ubyte.gz")
    test_labels = load_labels(folder / "t10k-labels-idx1-ubyte.gz").tolist()

    def drawn(i: int) -> tuple[Tensor, int]:
        with torch.random.fork_rng():
            torch.manual_seed(i)
            return prior.given(i % 10).sample(), i % 10

    return {"draws of the prior": drawn, "test digits": lambda i: (test[i], test_labels[i])}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder with the test files of MNIST")
    parser.add_argument("--digits", type=int, default=100)
    parser.add_argument("--measurements", type=int, nargs="+", default=[100])
    parser.add_argument("--noise", type=float, default=2.0)
    parser.add_argument("--particles", type=int, default=20)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    prior = load_prior("mnist-labelled")
    assert isinstance(prior, LabelledPrior)
    kernel = Enumerated(image=TwistedSMC(particles=options.particles, steps=options.steps))
    rows: list[dict[str, Any]] = kept_results(NAME) or []
    truths, shape = truths_of(prior, options.data), prior.event_shape
    cells = {}
    for m in options.measurements:
        operator = GaussianSensing(measurements=m, event_shape=shape, seed=0)
        for name in truths:
            key = {"truths": name, "measurements": m, "noise": options.noise, "kernel": repr(kernel)}
            row = next((r for r in rows if all(r.get(k) == v for k, v in key.items())), None)
            if row is None:
                rows.append(row := key | {"labels": [], "probabilities": [], "again": []})
            cells[name, m] = row, lambda x, operator=operator: OneBit(operator(x), options.noise)
    for i in range(options.digits):
        for (name, _), (row, measure) in cells.items():
            if len(row["labels"]) > i:
                continue
            x, label = truths[name](i)
            for run, kept in enumerate(("probabilities", "again")):
                if run == 0 or i < REPEATED:
                    p = probabilities(prior, measure, x, label, kernel, i, run)
                    row[kept].append([float(f"{v:.4g}") for v in p])
            row["labels"].append(label)
            if i % 10 == 9 or i + 1 == options.digits:
                row |= judged(*(np.array(row[k]) for k in ("probabilities", "again", "labels")))
                print({k: row[k] for k in ("truths", "measurements", "digits", *SHOWN)}, flush=True)
        write_results(NAME, rows)


if __name__ == "__main__":
    main()

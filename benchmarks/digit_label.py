"""Which digit is it?  Posterior probabilities of the label from one-bit measurements: are they calibrated?

    python benchmarks/digit_label.py --data FOLDER     # the four files of MNIST, idx .gz

The model: a label, uniform over ten; the image given the label from a mixture of two probabilistic PCA models of rank
30, fitted here to the training images of that digit averaged to 14 x 14; M signs of Gaussian measurements, noise 0.1.
``Enumerated(image=TwistedSMC(particles=64, steps=16))`` sums the label out.  Truths are

* digits of the model, for which the probabilities have to be calibrated, and
* test digits of MNIST, for which they are as good as the mixtures are models of digits.

Per number of measurements: share of digits whose most probable label is the true one, mean probability of that label,
mean log probability of the true one (nats), expected calibration error over ten bins of the probabilities of all
labels, and the calibration curve: per bin the mean probability, the share of labels that were true, and how many there
were.  Cells that the results already hold are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from _results import kept_results, write_results
from fit_mnist_gmm import fit, small_digits
from torch import Tensor

import bayes_ir as bir
from bayes_ir.inference import Enumerated, TwistedSMC
from bayes_ir.models import GaussianMixturePrior, GaussianSensing, OneBit
from bayes_ir.models.datasets import read_idx

SHAPE, NOISE = (1, 14, 14), 0.1
TRUTHS = ("digits of the model", "test digits")
KERNEL = Enumerated(image=TwistedSMC(particles=64, steps=16))


def class_priors(folder: Path) -> list[GaussianMixturePrior]:
    """One mixture per digit."""
    images = small_digits(str(folder / "train-images-idx3-ubyte.gz"))
    labels = torch.from_numpy(read_idx(folder / "train-labels-idx1-ubyte.gz").astype("int64"))
    priors = []
    for digit in range(10):
        m = fit(images[labels == digit], 2, rank=30, floor=1e-4, seed=0, sweeps=60, tolerance=0.05)
        priors.append(GaussianMixturePrior(m.weights, m.means, m.covariances(), event_shape=SHAPE))
    return [prior.to(dtype=torch.float32) for prior in priors]


def probabilities(priors: list[GaussianMixturePrior], x: Tensor, label: int, m: int, seed: int) -> np.ndarray:
    """``p(label | y)``, (10,), of the signs of an image."""
    operator = GaussianSensing(measurements=m, event_shape=SHAPE, seed=seed)

    def model() -> None:
        which = pyro.sample("label", dist.Categorical(torch.full((10,), 0.1)))
        image = pyro.sample("x", priors[int(which)])
        pyro.sample("y", OneBit(operator(image), NOISE))

    known = pyro.condition(model, data={"x": x, "label": torch.tensor(label)})
    y = bir.simulate(known, seed=seed)["y"]
    tree = bir.sample(model, KERNEL, {"y": y}, draws=32, chains=1, seed=seed, progress=False)
    return tree["posterior"]["label_probability"].values[0, 0]


def figures(found: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    true = np.eye(10)[labels]
    bins = np.minimum((found * 10).astype(int), 9)
    curve = [
        {
            "probability": float(found[bins == b].mean()),
            "true": float(true[bins == b].mean()),
            "labels": int((bins == b).sum()),
        }
        for b in range(10)
        if (bins == b).any()
    ]
    error = sum(c["labels"] * abs(c["probability"] - c["true"]) for c in curve) / found.size
    at_truth = np.maximum(found[np.arange(len(labels)), labels], 1e-12)
    return {
        "accuracy": float((found.argmax(1) == labels).mean()),
        "confidence": float(found.max(1).mean()),
        "log p of the truth": float(np.log(at_truth).mean()),
        "calibration error": float(error),
        "curve": curve,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder with the four files of MNIST")
    parser.add_argument("--digits", type=int, default=200)
    parser.add_argument("--measurements", type=int, nargs="+", default=[25, 100, 200, 400])
    parser.add_argument("--truths", nargs="+", choices=TRUTHS, default=TRUTHS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    priors = class_priors(options.data)
    test = small_digits(str(options.data / "t10k-images-idx3-ubyte.gz")).float().reshape(-1, *SHAPE)
    test_labels = read_idx(options.data / "t10k-labels-idx1-ubyte.gz").astype(int)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn_labels = torch.arange(options.digits).remainder(10).numpy()
        drawn = torch.stack([priors[k].sample() for k in drawn_labels])
    truths = dict(zip(TRUTHS, ((drawn, drawn_labels), (test, test_labels)), strict=True))
    rows: list[dict[str, Any]] = kept_results("digit_label") or []
    done = {(row["truths"], row["measurements"]) for row in rows}
    for m in options.measurements:
        for name in options.truths:
            images, labels = truths[name]
            if (name, m) in done:
                continue
            found = np.stack(
                [probabilities(priors, images[i], int(labels[i]), m, seed=i) for i in range(options.digits)]
            )
            row = {"truths": name, "measurements": m, "digits": options.digits}
            rows.append(row | figures(found, labels[: options.digits]))
            print({k: v for k, v in rows[-1].items() if k != "curve"}, flush=True)
            write_results("digit_label", rows)


if __name__ == "__main__":
    main()

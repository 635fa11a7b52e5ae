r"""Bits per dimension of held-out digits: the log density of the shipped priors by their probability flow.

    python benchmarks/bits_per_dimension.py --data FOLDER

FOLDER holds the four MNIST idx .gz files.  What is measured is the density ``p`` of *noised* digits,
``x = x_0 + s eps`` with ``s = prior.noise_range[0]``, at test digits to which that noise was added:

    bits per pixel            = -log2 p(x) / N + 8            (pixels in [0, 1] are 256 grey levels of an 8-bit image)
    bits beyond the noise     = -log2 p(x) - N/2 log2(2 pi e s^2).

The second is what is left when the entropy of the noise is taken away.  Its mean is at least the information
between a digit and its noised version, and equal to it for a prior that is the law of the digits; the excess is the
Kullback-Leibler divergence of the two noised laws.

It is a density of real numbers, not the length of a code for grey levels: published bits per dimension are those of
digits to which uniform noise of one grey level (sd 0.29 of a level) was added; with s = 0.01 the noise here has an
sd of 2.56 levels, so that the grey levels are blurred away and no other dequantisation is wanted, and these figures
are not to be put beside those.  They compare priors on the same digits at the same s.

Digits are taken in groups of four, each with its own noise and its own probes, so that groups are independent; the
error is that of the mean over the groups, digits and probes together.  "refined" is the change of the mean by
further steps, with the same noise and probes.  The best linear prior, the Gaussian with mean and covariance of the
training digits, and the mixture "mnist-gmm" on 14 x 14 digits have an exact density.  For the mixture the difference
of the two is the null check: its mean, its root mean square in units of the stated standard error of each digit
(1.18 for 8 normal probes), and for four digits with the exact trace, in 196 products, the largest.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from _results import write_results
from torch import Tensor
from torch.nn import functional

from bayes_ir.models import (
    DiffusionPrior,
    GaussianMixturePrior,
    GaussianPrior,
    VarianceExploding,
    flow_log_density,
    load_prior,
)
from bayes_ir.models.datasets import load_images

GROUP = 4
F64 = torch.float64


def noised(images: Tensor, level: float) -> list[Tensor]:
    """Groups of images with noise, each from a seed of its own."""
    groups = []
    for i, group in enumerate(images.split(GROUP)):
        rng = torch.Generator().manual_seed(i)
        groups.append(group + level * torch.randn(group.shape, generator=rng, dtype=F64))
    return groups


def told(log_prob: Tensor, level: float, pixels: int) -> dict[str, float]:
    """Figures of log densities (groups, GROUP), nats, with the error over the groups."""
    bits = -log_prob.mean(1) / math.log(2)
    entropy = pixels / 2 * math.log2(2 * math.pi * math.e * level**2)
    error = float(bits.std()) / math.sqrt(len(bits))
    return {
        "bits per pixel": float(bits.mean()) / pixels + 8,
        "error": error / pixels,
        "beyond the noise": float(bits.mean()) - entropy,
        "beyond, error": error,
    }


def exact(prior: GaussianMixturePrior, groups: list[Tensor], level: float) -> Tensor:
    """Exact log densities of the noised law, (groups, GROUP)."""
    flow = prior.with_diffusion(VarianceExploding(level, 2 * level))
    return torch.stack([flow.noised_log_prob(group, 0.0) for group in groups])


def measure(
    name: str, prior: DiffusionPrior, images: Tensor, steps: list[int], probes: int
) -> list[dict[str, Any]]:
    """One row per number of steps."""
    level, pixels = prior.noise_range[0], prior.event_shape.numel()
    groups = noised(images, level)
    about = {"prior": name, "noise": level, "pixels": pixels, "digits": len(images)}
    truth = exact(prior, groups, level) if isinstance(prior, GaussianMixturePrior) else None
    rows = [] if truth is None else [{**about, "method": "exact", **told(truth, level, pixels)}]
    last = None
    for n in steps:
        start = time.monotonic()
        found = [
            flow_log_density(prior, group, steps=n, probes=probes, seed=seed)
            for seed, group in enumerate(groups)
        ]
        log_prob = torch.stack([f.log_prob for f in found])
        stated = torch.stack([f.standard_error for f in found])
        row = {**about, "method": "flow", "steps": n, "probes": probes, **told(log_prob, level, pixels)}
        row["probe error, nats"] = float(stated.square().mean().sqrt())
        row["seconds"] = time.monotonic() - start
        nats = pixels * math.log(2)
        if last is not None:
            row["refined"] = float((last - log_prob).mean()) / nats
            row["refined, largest, nats"] = float((last - log_prob).abs().max())
        if truth is not None:
            off = (truth - log_prob).mean(1)
            row["off"] = float(off.mean()) / nats
            row["off, error"] = float(off.std()) / math.sqrt(len(off)) / nats
            row["off / stated"] = float(((truth - log_prob) / stated).square().mean().sqrt())
        last = log_prob
        rows.append(row)
        print(row, flush=True)
    return rows


def exact_trace(name: str, prior: GaussianMixturePrior, images: Tensor, steps: int) -> dict[str, Any]:
    """The flow with the exact trace on one group of images."""
    level = prior.noise_range[0]
    groups = noised(images[:GROUP], level)
    found = flow_log_density(prior, groups[0], steps=steps, probes=prior.event_shape.numel())
    about = {"prior": name, "noise": level, "pixels": prior.event_shape.numel(), "digits": GROUP}
    off = float((exact(prior, groups, level)[0] - found.log_prob).abs().max())
    return {**about, "method": "flow, exact trace", "steps": steps, "off, largest, nats": off}


def main() -> None:
    parser = argparse.ArgumentParser(description="Bits per dimension of held-out digits.")
    parser.add_argument("--data", required=True, help="folder of the MNIST idx .gz files")
    parser.add_argument("--digits", type=int, default=80, help="test digits, in groups of four")
    args = parser.parse_args()
    train, test = (
        load_images(Path(args.data) / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k")
    )
    test = test[: args.digits].double()

    network, mixture = load_prior("mnist"), load_prior("mnist-gmm").to(dtype=F64)
    rows = measure("mnist", network, test, [16, 32], probes=4)
    flat = train.flatten(1).double()
    linear = GaussianPrior(flat.mean(0), torch.cov(flat.T), event_shape=train.shape[1:])
    linear.noise_range = network.noise_range
    rows += measure("best linear", linear, test, [], probes=4)
    small = functional.avg_pool2d(test, 2)
    rows += measure("mnist-gmm", mixture, small, [32, 128], probes=8)
    rows.append(exact_trace("mnist-gmm", mixture, small, 128))
    write_results("bits_per_dimension", rows)


if __name__ == "__main__":
    main()

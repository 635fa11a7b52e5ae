r"""How good a learned digit prior is: its denoiser at every noise level, and its samples.

* Denoising error: root mean squared error per pixel of ``E[x_0 | x_0 + s eps]`` on test images, at noise
  levels ``s`` from 0.01 to 50, beside the best linear denoiser, that of the Gaussian with the mean
  and covariance of the training images.
* Samples: unconditional draws are read by a digit classifier.  Reported are the share of each
  class and the mean of the largest class probability, beside the same on real test images.

* Labels, of a labelled prior: the denoising error when it is told the label, and a wrong one; and the share of draws of
  ``p(x | label)`` that the classifier reads as that label.

    python benchmarks/prior_quality.py --prior mnist --data FOLDER --classifier classifier.safetensors \
        --card models/weights/mnist.json --picture samples.png

FOLDER holds the four MNIST idx .gz files.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digit_classifier import accuracy, load_or_train, probabilities
from PIL import Image
from torch import Tensor

from bayes_ir.models.datasets import load_images, read_idx
from bayes_ir.models.diffusion import VarianceExploding
from bayes_ir.models.priors import DiffusionPrior, GaussianPrior, LabelledPrior, NetworkPrior, load_prior

_NOISE_LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 5.0, 15.0, 50.0)


def denoising_errors(
    priors: dict[str, Callable[[slice], DiffusionPrior]],
    images: Tensor,
    noise_levels: tuple[float, ...],
    seed: int,
) -> list[dict[str, float]]:
    """Root mean squared error per pixel of each prior's denoiser at each noise level, on the same noise.

    A prior is a function of the numbers of the images, whose labels it may be told.
    """
    batches = [slice(i, min(i + 250, len(images))) for i in range(0, len(images), 250)]
    rows = []
    flow = VarianceExploding(noise_levels[0], noise_levels[-1])
    for i, level in enumerate(noise_levels):
        rng = torch.Generator().manual_seed(seed * 1000 + i)
        noisy = images + level * torch.randn(images.shape, generator=rng)
        row = {"noise": level}
        for name, prior in priors.items():
            t = flow.time_at(level)
            with torch.no_grad():
                x0_hat = torch.cat(
                    [prior(rows).with_diffusion(flow).denoise(noisy[rows], t) for rows in batches]
                )
            row[name] = round(float((x0_hat - images).square().mean().sqrt()), 5)
        rows.append(row)
        print(row, flush=True)
    return rows


def read_samples(samples: Tensor, real: Tensor, classifier: torch.nn.Module) -> dict[str, Any]:
    """Class shares and mean confidence of samples and of as many real images."""
    p, p_real = probabilities(classifier, samples), probabilities(classifier, real)
    shares = torch.bincount(p.argmax(1), minlength=10) / len(p)
    return {
        "samples": len(samples),
        "class_share": [round(float(s), 4) for s in shares],
        "confidence": round(float(p.amax(1).mean()), 4),
        "confidence_of_real_images": round(float(p_real.amax(1).mean()), 4),
        "mean_pixel": round(float(samples.mean()), 4),
        "mean_pixel_of_real_images": round(float(real.mean()), 4),
        "pixels_outside_data_range_by_0.05": round(
            float(((samples < -0.05) | (samples > 1.05)).double().mean()), 5
        ),
    }


def label_read(
    prior: LabelledPrior, samples: int, classifier: torch.nn.Module, picture: str | None
) -> list[float]:
    """Share of the draws of every label that the classifier reads as that label; a picture with a row per label."""
    labels = torch.arange(prior.classes)
    drawn = prior.given(labels).sample((samples // prior.classes,))  # (n, K, 1, H, W)
    if picture:
        shown = drawn[:20].transpose(0, 1)
        save_grid(
            shown.flatten(0, 1), Path(picture).with_stem(Path(picture).stem + "-labels"), shown.shape[1]
        )
    read = probabilities(classifier, drawn.flatten(0, 1)).argmax(1).reshape(-1, prior.classes)
    return [round(float(share), 4) for share in (read == labels).double().mean(0)]


def save_grid(images: Tensor, path: str | Path, columns: int = 20) -> None:
    """Write images (n, 1, H, W) in [0, 1] as one picture, black ink on white, twofold enlarged."""
    rows = len(images) // columns
    h, w = images.shape[-2:]
    grid = (
        images[: rows * columns, 0]
        .reshape(rows, columns, h, w)
        .permute(0, 2, 1, 3)
        .reshape(rows * h, columns * w)
    )
    pixels = (255 * (1 - grid.clamp(0, 1))).round().to(torch.uint8).numpy()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.repeat(2, 0).repeat(2, 1)).save(path)


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description="Measure a learned digit prior.")
    parser.add_argument("--prior", default="mnist", help="name or card of the prior")
    parser.add_argument("--data", required=True, help="folder of the four MNIST idx .gz files")
    parser.add_argument("--classifier", required=True, help="file that keeps the trained classifier")
    parser.add_argument("--test-images", type=int, default=2000, help="test images for the denoising error")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="by default benchmarks/results/prior_quality_PRIOR.json")
    parser.add_argument("--card", help="card to insert the figures in")
    parser.add_argument("--picture", help="PNG of the first samples")
    args = parser.parse_args()

    data = Path(args.data)
    train, test = (load_images(data / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k"))
    train_labels, test_labels = (
        torch.from_numpy(read_idx(data / f"{part}-labels-idx1-ubyte.gz").astype(np.int64))
        for part in ("train", "t10k")
    )
    classifier = load_or_train(args.classifier, train, train_labels)
    figures: dict[str, Any] = {"classifier_accuracy": round(accuracy(classifier, test, test_labels), 4)}
    print(figures, flush=True)

    prior = load_prior(args.prior)
    if not isinstance(prior, NetworkPrior) or prior.event_shape != test.shape[1:]:
        raise SystemExit(f"prior_quality: {prior!r} is no network prior over images {tuple(test.shape[1:])}.")
    torch.manual_seed(args.seed)
    samples = prior.sample((args.samples,))
    figures["sampling"] = read_samples(samples, test[: args.samples], classifier)
    figures["sampling"]["network_calls_per_sample"] = 2 * prior.sample_steps - 1
    print(figures["sampling"], flush=True)
    if args.picture:
        save_grid(samples[:200], args.picture)

    flat = train.flatten(1).double()
    linear = GaussianPrior(flat.mean(0), torch.cov(flat.T), event_shape=train.shape[1:])
    priors: dict[str, Callable[[slice], DiffusionPrior]] = {
        "network": lambda rows: prior,
        "best_linear": lambda rows: linear,
    }
    if isinstance(prior, LabelledPrior):
        priors["told_the_label"] = lambda rows: prior.given(test_labels[rows])
        priors["told_a_wrong_label"] = lambda rows: prior.given((test_labels[rows] + 1) % prior.classes)
        figures["label_read_by_the_classifier"] = label_read(prior, args.samples, classifier, args.picture)
        print(figures["label_read_by_the_classifier"], flush=True)
    rows = denoising_errors(priors, test[: args.test_images], _NOISE_LEVELS, args.seed)
    figures["denoising_rmse"] = {"test_images": args.test_images, "levels": rows}

    name = Path(args.prior).stem
    command = f"python benchmarks/prior_quality.py --prior {name} --samples {args.samples} --seed {args.seed}"
    out = Path(args.out or f"benchmarks/results/prior_quality_{name}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"command": command, **figures}, indent=2) + "\n")
    if args.card:
        card = json.loads(Path(args.card).read_text())
        card["measured"] = figures
        Path(args.card).write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    main()

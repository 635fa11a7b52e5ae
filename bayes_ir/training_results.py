"""What goes into a training run and what comes out: images with their labels, a stored prior with its card."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.datasets import load_images, load_labels
from bayes_ir.models.networks import Denoiser
from bayes_ir.models.priors import (
    LabelledPrior,
    NetworkPrior,
    calibrate,
    calibrate_labelled,
    principal_components,
    save_prior,
)
from bayes_ir.models.training import OBJECTIVES, TrainingSettings

__all__ = ["Images", "save_results", "split"]

_LARGEST_PCA = 16_384  # values per image up to which principal components are worth their time and storage


@dataclass(frozen=True, eq=False)
class Images:
    """Images (n, C, H, W) and, for a labelled network, their labels (n,)."""

    images: Tensor
    labels: Tensor | None = None

    @classmethod
    def read(cls, images: Path | None, labels: Path | None) -> Images | None:
        """Images of a file or folder with the labels of another file; ``None`` without.

        Raises:
            ValueError: for labels without images, or of another number of images.
        """
        if images is None:
            if labels is not None:
                raise ValueError(f"train: labels {labels} came without images; give --held-out too.")
            return None
        found = cls(load_images(images), None if labels is None else load_labels(labels))
        if found.labels is not None and len(found.labels) != len(found.images):
            raise ValueError(
                f"train: {labels} holds {len(found.labels)} labels for the {len(found.images)} images of {images}."
            )
        return found

    @property
    def classes(self) -> int:
        """K, one more than the largest label."""
        assert self.labels is not None
        return int(self.labels.max()) + 1

    def take(self, which: Tensor) -> Images:
        """Those of a mask or of numbers."""
        return Images(self.images[which], None if self.labels is None else self.labels[which])


def split(data: Images | None, held_out: Images | None) -> tuple[Images, Images]:
    """Images to train on and to calibrate on: those given, or else one in so many, evenly spaced.

    Raises:
        ValueError: for too few images, or two sets that do not go together.
    """
    assert data is not None
    images = data.images
    if held_out is None:
        if len(images) < 4:
            raise ValueError(
                f"train: got {len(images)} images; expected at least 4 to keep some back, or others in --held-out."
            )
        spacing = min(max(10, math.ceil(len(images) / 2048)), len(images) // 2)
        kept_out = torch.zeros(len(images), dtype=torch.bool)
        kept_out[spacing - 1 :: spacing] = True
        data, held_out = data.take(~kept_out), data.take(kept_out)
    if held_out.images.shape[1:] != images.shape[1:] or len(held_out.images) < 2:
        raise ValueError(
            f"train: --held-out holds {tuple(held_out.images.shape)}, --data {tuple(images.shape)}; expected at least "
            "2 images of the same shape."
        )
    if (data.labels is None) != (held_out.labels is None):
        raise ValueError("train: --labels and --held-out-labels go together; give both or neither.")
    if data.labels is not None and held_out.labels is not None:
        counts = torch.bincount(held_out.labels, minlength=data.classes).tolist()
        if len(counts) != data.classes or min(counts) < 2:
            raise ValueError(
                f"train: the images to calibrate on have {counts} of each label; expected at least 2 of every label of "
                f"--data, 0 to {data.classes - 1}, and no other: give more in --held-out."
            )
    return data, held_out


def save_results(
    denoiser: Denoiser,
    settings: TrainingSettings,
    images: Images,
    path: Path,
    data: dict[str, Any],
    record: dict[str, Any],
    about: dict[str, Any] | None = None,
    held_out: tuple[Images, dict[str, Any]] | None = None,
) -> Path:
    """Write the prior of a finished training run, and ``loss.png`` beside the run's ``loss.csv``.

    Args:
        denoiser: what training returned.
        settings: what it was trained with.
        images: the training images.
        path: ``out / name``.
        data: the card's entry about the data.
        record: the card's entry about the training: command, seconds, machine.
        about: further entries of the card, such as licence and credit.
        held_out: images to calibrate on, and the card's entry about them.

    Returns:
        Path of the card.
    """
    diffusion = OBJECTIVES[settings.objective].diffusion
    # The network's noise embedding ends where it was built to end, whatever the process visits.
    ends: tuple[float, float] = denoiser.network.log_noise_range  # type: ignore[assignment]
    built = [math.exp(end) for end in ends]
    trained = [float(diffusion.ratio(t)) for t in (diffusion.t_min, diffusion.t_max)]
    low, high = max(built[0], trained[0]), min(built[1], trained[1])
    described: dict[str, Any] = {
        "data_range": (0.0, 1.0),
        "noise_range": (float(f"{low:.6g}"), float(f"{high:.6g}")),
        "mean": denoiser.data_mean,
        "std": denoiser.data_std,
    }
    whole = (denoiser, diffusion, images.images.shape[1:])
    prior = (
        NetworkPrior(*whole, **described)
        if settings.classes is None
        else LabelledPrior(*whole, classes=settings.classes, **described)
    )
    card = {
        **({"licence": "not stated", "credit": "not stated"} if about is None else about),
        "data": data,
        "training": {**record, "final_loss": _draw_losses(path.parent)},
        "measured": {},
    }
    if held_out is not None:
        prior = _calibrated(prior, images.images, held_out[0], settings.seed)
        card["calibration"] = held_out[1]
    return save_prior(prior, path, card)


def _calibrated(prior: NetworkPrior, trained_on: Tensor, held_out: Images, seed: int) -> NetworkPrior:
    small = prior.event_shape.numel() <= _LARGEST_PCA
    settings: dict[str, Any] = {
        "bases": ("dct", "pca", "scalar") if small else ("dct", "scalar"),
        "components": principal_components(trained_on[:: math.ceil(len(trained_on) / 4096)])
        if small
        else None,
    }
    if isinstance(prior, LabelledPrior):
        assert held_out.labels is not None
        return calibrate_labelled(prior, held_out.images, held_out.labels, seed=seed, **settings)
    return calibrate(prior, held_out.images, seed=seed, **settings)


def _draw_losses(folder: Path) -> float:
    """Draw ``loss.csv`` as ``loss.png``; returns the last loss."""
    from matplotlib.figure import Figure

    with (folder / "loss.csv").open(newline="") as file:
        rows = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*rows, strict=True), color="black", linewidth=1)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "loss.png", dpi=100)
    return rows[-1][1]

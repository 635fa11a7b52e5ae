"""What a training run starts from: labels that fit the images, and a network, new or that of a stored prior."""

from __future__ import annotations

import torch
from torch import Tensor

from bayes_ir.models.networks import Denoiser, UNet
from bayes_ir.models.priors import NetworkPrior, load_prior
from bayes_ir.models.training_settings import TrainingSettings

__all__ = ["checked_labels", "first_network"]


def checked_labels(labels: Tensor | None, images: int, classes: int | None) -> Tensor | None:
    """Labels of that many images, int64.

    Raises:
        ValueError: for labels that are not whole numbers from 0 to ``classes - 1``, one per image.
    """
    if (labels is None) != (classes is None):
        raise ValueError(f"train: labels go with settings.classes, got classes={classes} and {labels=}.")
    if labels is None or classes is None:
        return None
    whole = not labels.is_floating_point() and labels.shape == (images,)
    if not whole or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(
            f"train: expected {images} whole numbers from 0 to {classes - 1} as labels, got {labels.dtype} of shape "
            f"{tuple(labels.shape)}" + (f" from {labels.min()} to {labels.max()}." if labels.numel() else ".")
        )
    return labels.long()


def first_network(images: Tensor, settings: TrainingSettings) -> tuple[UNet, float, float]:
    """The network a run starts with, and mean and standard deviation of its data.

    Raises:
        ValueError: for images that are all one number, or a stored prior of another shape.
    """
    mean, std = float(images.double().mean()), float(images.double().std())
    if not std > 0:
        raise ValueError(
            f"train: expected images that differ, got {len(images)} whose pixels are all {mean:g}."
        )
    shape = {"channels": images.shape[1], "width": settings.width, "depth": settings.depth}
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network = UNet(images.shape[1], settings.width, settings.depth, classes=settings.classes)
    if settings.start is None:
        return network, mean, std
    prior = load_prior(settings.start)
    if not isinstance(prior, NetworkPrior):
        raise ValueError(f"train: start={settings.start!r} is {prior!r}; expected a network prior.")
    denoiser: Denoiser = prior.network  # type: ignore[assignment]
    given: UNet = denoiser.network  # type: ignore[assignment]
    kept = {name: given.settings[name] for name in shape}
    if kept != shape or given.classes not in (None, settings.classes):
        raise ValueError(
            f"train: start={settings.start!r} is a network of {kept} and {given.classes} classes; this run has {shape} "
            f"and {settings.classes}."
        )
    network.load_state_dict(given.state_dict(), strict=given.classes is not None)
    return network, denoiser.data_mean, denoiser.data_std

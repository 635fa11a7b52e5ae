"""A small digit classifier that says what samples of a digit prior look like.

Two convolutions and two linear layers, trained for a few epochs on the MNIST training images from a
fixed seed; its accuracy on the test images is part of every figure that uses it.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["accuracy", "load_or_train", "probabilities"]


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def load_or_train(
    cache: str | Path, images: Tensor, labels: Tensor, *, epochs: int = 5, seed: int = 0
) -> nn.Module:
    """The classifier, read from ``cache`` (a .safetensors file) or trained and written there.

    Args:
        cache: file of the trained weights.
        images: training images (n, 1, 28, 28) in [0, 1].
        labels: digits (n,).
        epochs: passes over the images; Adam from 2e-3 to zero along a half cosine, batches of 128.
        seed: seed of initialisation and order.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network()
    cache = Path(cache)
    if cache.exists():
        network.load_state_dict(load_file(cache))
        return network.eval()
    optimiser = torch.optim.Adam(network.parameters())
    rng = torch.Generator().manual_seed(seed)
    total = epochs * (len(images) // 128)
    for step in range(total):
        if step % (len(images) // 128) == 0:
            order = torch.randperm(len(images), generator=rng)
        batch = order[:128]
        order = order[128:]
        optimiser.param_groups[0]["lr"] = 1e-3 * (1 + math.cos(math.pi * step / total))
        optimiser.zero_grad()
        functional.cross_entropy(network(images[batch]), labels[batch]).backward()
        optimiser.step()
    cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = cache.with_suffix(".tmp")
    save_file(network.state_dict(), temporary)
    os.replace(temporary, cache)
    return network.eval()


@torch.no_grad()
def probabilities(network: nn.Module, images: Tensor) -> Tensor:
    """Class probabilities (n, 10) of images (n, 1, 28, 28)."""
    return torch.cat([network(batch).softmax(1) for batch in images.split(1000)])


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose likeliest class is their label."""
    return float((probabilities(network, images).argmax(1) == labels).double().mean())

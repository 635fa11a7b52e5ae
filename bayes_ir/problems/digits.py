"""The test digits that ship with the library."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

__all__ = ["test_digits"]


@cache
def test_digits() -> tuple[Tensor, Tensor]:
    """The shipped digits, two of each class from the MNIST test set: (20, 1, 28, 28) in [0, 1], and their labels."""
    with (
        files("bayes_ir").joinpath("data/mnist_test_digits.npz").open("rb") as file,
        np.load(file) as archive,
    ):
        images, labels = archive["images"], archive["labels"]
    return torch.from_numpy(images.astype(np.float32) / 255)[:, None], torch.from_numpy(
        labels.astype(np.int64)
    )

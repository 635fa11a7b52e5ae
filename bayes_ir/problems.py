"""Problems that ship: a model, data with a known truth, and kernel settings that suit it.

``one-bit-digit`` is the headline experiment of QCS-SGM+ (Meng and Kabashima 2023, section 4): the signs of 400
noisy measurements of a handwritten digit, taken with an ill-conditioned matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from bayes_ir.inference import AnnealedLangevin, Kernel, QCSSGMPlus
from bayes_ir.models import (
    Channel,
    CorrelatedSensing,
    Gaussian,
    GaussianPrior,
    GaussianSensing,
    IllConditionedSensing,
    LinearOperator,
    OneBit,
    load_prior,
)
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["PROBLEMS", "InverseProblem", "build_problem", "test_digits"]


@dataclass(frozen=True)
class InverseProblem:
    """A model with simulated data and the truth behind them.

    Attributes:
        name: name of the problem.
        model: Pyro model of the image site ``x`` and the observed site ``y``.
        truth: the image the data were made from.
        y: the measurements.
        kernel: the kernel that suits it.
    """

    name: str
    model: Callable[[], None]
    truth: Tensor
    y: Tensor
    kernel: Kernel

    @property
    def data(self) -> dict[str, Tensor]:
        """What to condition the model on."""
        return {"y": self.y}


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


def _linear_model(
    prior: DiffusionPrior, operator: LinearOperator, channel: Callable[[Tensor], Channel]
) -> Callable[[], None]:
    def model() -> None:
        x = pyro.sample("x", prior)
        pyro.sample("y", channel(operator(x)))

    return model


def _observed(
    name: str,
    prior: DiffusionPrior,
    operator: LinearOperator,
    channel: Callable[[Tensor], Channel],
    truth: Tensor,
    seed: int,
    kernel: Kernel,
) -> InverseProblem:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        y = channel(operator(truth)).sample()
    return InverseProblem(name, _linear_model(prior, operator, channel), truth, y, kernel)


def _one_bit(name: str, operator: LinearOperator, image: int, seed: int) -> InverseProblem:
    truth = test_digits()[0][image]
    kernel = QCSSGMPlus(levels=300, steps_per_level=1, tolerance=1e-2)
    return _observed(name, load_prior("mnist"), operator, lambda z: OneBit(z, 0.1), truth, seed, kernel)


def one_bit_digit(image: int = 7, seed: int = 0) -> InverseProblem:
    """1-bit, M = 400, noise 0.1, ill-conditioned A with the paper's kappa = 1000 (as published: of d^2)."""
    operator = IllConditionedSensing(400, (1, 28, 28), condition_number=1000.0, seed=seed, as_published=True)
    return _one_bit("one-bit-digit", operator, image, seed)


def one_bit_correlated_digit(image: int = 7, seed: int = 0) -> InverseProblem:
    """1-bit, M = 400, noise 0.1, correlated A with rho = 0.4 (as published)."""
    operator = CorrelatedSensing(400, (1, 28, 28), correlation=0.4, seed=seed, as_published=True)
    return _one_bit("one-bit-correlated-digit", operator, image, seed)


def linear_digit(image: int = 7, seed: int = 0) -> InverseProblem:
    """Linear, Gaussian sensing with M = 200, noise 0.1."""
    operator = GaussianSensing(200, (1, 28, 28), seed=seed)
    kernel = AnnealedLangevin(levels=300, steps_per_level=1)
    truth = test_digits()[0][image]
    return _observed(
        "linear-digit", load_prior("mnist"), operator, lambda z: Gaussian(z, 0.1), truth, seed, kernel
    )


def exact_gaussian(image: int = 0, seed: int = 0) -> InverseProblem:
    """No network: correlated Gaussian prior on 12 x 12 pixels, Gaussian sensing with M = 60, noise 0.1."""
    side = 12
    row, column = torch.meshgrid(*(torch.arange(side, dtype=torch.float64),) * 2, indexing="ij")
    points = torch.stack([row.flatten(), column.flatten()], dim=1)
    covariance = torch.exp(-torch.cdist(points, points) / 3)
    prior = GaussianPrior(
        torch.zeros(side * side, dtype=torch.float64), covariance, event_shape=(1, side, side)
    )
    operator = GaussianSensing(60, prior.event_shape, seed=seed, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(image)
        truth = prior.sample()
    kernel = AnnealedLangevin(levels=400, steps_per_level=1)
    return _observed("exact-gaussian", prior, operator, lambda z: Gaussian(z, 0.1), truth, seed, kernel)


PROBLEMS: dict[str, Callable[..., InverseProblem]] = {
    "one-bit-digit": one_bit_digit,
    "one-bit-correlated-digit": one_bit_correlated_digit,
    "linear-digit": linear_digit,
    "exact-gaussian": exact_gaussian,
}


def build_problem(name: str, image: int | None = None, seed: int = 0) -> InverseProblem:
    """Build a shipped problem by name.

    Args:
        name: one of ``PROBLEMS``.
        image: number of the digit (0 to 19), or of the simulated truth.
        seed: seed of the operator and of the noise.

    Raises:
        ValueError: for an unknown name (with a suggestion) or an image that does not exist.
    """
    from bayes_ir.words import look_up

    build = look_up("problem", name, PROBLEMS)
    settings: dict[str, Any] = {"seed": seed} if image is None else {"seed": seed, "image": image}
    if image is not None and (image < 0 or ("digit" in name and image >= len(test_digits()[0]))):
        raise ValueError(
            f"problem {name}: image {image} does not exist; the shipped digits are numbered 0 to 19."
        )
    return build(**settings)

"""Few measurements through a random matrix: the signs of QCS-SGM+, plain linear ones, and one without a network.

``one-bit-digit`` is the headline experiment of QCS-SGM+ (Meng and Kabashima 2023, section 4): the signs of 400
noisy measurements of a handwritten digit, taken with an ill-conditioned matrix.
"""

from __future__ import annotations

import torch

from bayes_ir.inference import AnnealedLangevin, QCSSGMPlus
from bayes_ir.models import (
    CorrelatedSensing,
    Gaussian,
    GaussianPrior,
    GaussianSensing,
    IllConditionedSensing,
    LinearOperator,
    OneBit,
    load_prior,
)
from bayes_ir.problems.base import InverseProblem, observed
from bayes_ir.problems.digits import test_digits

__all__ = ["exact_gaussian", "linear_digit", "one_bit_correlated_digit", "one_bit_digit"]


def _one_bit(name: str, operator: LinearOperator, image: int, seed: int) -> InverseProblem:
    truth = test_digits()[0][image]
    kernel = QCSSGMPlus(levels=300, steps_per_level=1, tolerance=1e-2)
    return observed(name, load_prior("mnist"), operator, lambda z: OneBit(z, 0.1), truth, seed, kernel)


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
    return observed(
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
    return observed("exact-gaussian", prior, operator, lambda z: Gaussian(z, 0.1), truth, seed, kernel)

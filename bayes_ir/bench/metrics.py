r"""Distances of draws to exact ones, on fixed slices, and what mean, spread and modes say.

With the order statistics ``u_(i)`` and ``v_(i)`` of two sets of n draws along a direction theta,

    W_1(theta) = mean_i |u_(i) - v_(i)|,    W_2(theta)^2 = mean_i (u_(i) - v_(i))^2

and over the slices

    mean-W1 = mean_theta W_1,    SW2 = (mean_theta W_2^2)^{1/2},    max-W1 = max_theta W_1.

Modes are counted by the share of every component of the prior, ``mean_i p(k | x_i)``; their error is half the sum of
absolute differences, the total variation.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayes_ir.models import DiffusionPrior, GaussianMixturePrior
from bayes_ir.models.priors.mixture_law import mixture_log_densities

__all__ = ["METRICS", "distances", "figures", "sphere"]

METRICS = ("mean-W1", "SW2", "max-W1")
SLICES = 100
_LEAST_SD = 1e-3  # of the largest: a coordinate that the data fix has no error in its own standard deviations
_LEAST_VARIANCE = 1e-6


def sphere(n: int, seed: int, slices: int = SLICES) -> NDArray[np.float64]:
    """Directions uniform on the unit sphere of ``R^n``, (slices, n)."""
    directions = np.random.default_rng((seed, 1)).normal(size=(slices, n))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def distances(first: Tensor, second: Tensor, directions: NDArray[np.float64]) -> dict[str, float]:
    """The three distances between two sets of as many draws, (n, *event_shape) each.

    Args:
        first: draws.
        second: draws.
        directions: slices, (P, N).
    """
    u, v = (np.sort(x.flatten(1).double().numpy() @ directions.T, axis=0) for x in (first, second))
    gap = np.abs(u - v)
    w1 = gap.mean(0)
    return {
        "mean-W1": float(w1.mean()),
        "SW2": float(np.sqrt((gap**2).mean())),
        "max-W1": float(w1.max()),
    }


def figures(
    draws: Tensor, exact: Tensor, again: Tensor, directions: NDArray[np.float64], prior: DiffusionPrior
) -> dict[str, float]:
    """Distances, errors of mean and standard deviation and of the weights of modes.

    Args:
        draws: of the kernel, (n, *event_shape).
        exact: exact draws that distances are taken to, as many.
        again: a second exact set, which with the first gives mean and standard deviation.
        directions: slices, (P, N).
        prior: whose components are counted, where it is a mixture.
    """
    x, both = draws.flatten(1).double(), torch.cat([exact, again]).flatten(1).double()
    sd = both.std(0)
    told = sd > _LEAST_SD * sd.max()
    found = distances(draws, exact, directions)
    found["mean error / sd"] = float((((x.mean(0) - both.mean(0)) / sd)[told] ** 2).mean().sqrt())
    found["sd ratio"] = float((x.std(0) / sd)[told].mean())
    if isinstance(prior, GaussianMixturePrior) and len(prior.weights) > 1:
        found["mode TV"] = float((_shares(prior, x) - _shares(prior, both)).abs().sum() / 2)
    return found


def _shares(prior: GaussianMixturePrior, x: Tensor) -> Tensor:
    c = prior.components
    variances = c.variances.clamp(min=_LEAST_VARIANCE)
    log_densities = [
        mixture_log_densities(part, c.log_weights, c.means, c.basis, variances) for part in x.split(500)
    ]
    return torch.cat(log_densities).softmax(-1).mean(0)

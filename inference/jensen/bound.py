r"""Bounds of Jensen's gap ``J = |E[p(y | x_0) | x_t] - p(y | E[x_0 | x_t])|`` for Gaussian noise.

The published one (Chung et al. 2023, theorem 1), for d measurements of noise sigma,

    J <= d / (2 pi sigma^2)^{1/2} exp(-1 / (2 sigma^2)) |grad A| m_1,    m_1 = E[|x_0 - x0_hat| given x_t],

with ``|grad A|`` the largest over images, for a linear A its largest singular value.  Its exponent is
``-1 / (2 sigma^2)`` and nothing else; ``|grad A|`` is a factor in front.

What it is not good for:

* It goes to zero with sigma, where DPS is worst, because it bounds a gap of likelihoods that itself goes to zero, and
  not the error of a score: it says nothing of the guidance.
* Its constant takes ``exp(-1 / (2 sigma^2)) / (2 pi sigma^2)^{1/2}``, a Gaussian density one unit from its mean, for
  the largest slope of that density, which is ``exp(-1/2) / ((2 pi)^{1/2} sigma^2)``, found sigma from the mean.  They
  agree at ``sigma = 1`` in one dimension; at small sigma the printed bound is broken, by orders of magnitude.

So it stands beside one that holds, with the slope put right.  The density ``N(y; z, D^2)`` of M measurements changes
with ``D^-1 z`` by at most ``exp(-1/2) prod_m (2 pi sigma_m^2)^{-1/2}`` per unit, hence

    J <= exp(-1/2) prod_m (2 pi sigma_m^2)^{-1/2} |D^-1 A| m_1.

Both are returned as logarithms: in hundreds of dimensions densities leave the range of floating point numbers.

Source: Chung et al. 2023 (DPS, arXiv 2209.14687), theorem 1 and its proof; Gao, Sitharam and Roitberg 2017 (arXiv
1712.05267) for bounds of Jensen's gap by central moments.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from bayes_ir.inference.problem import Problem
from bayes_ir.models.channels import Gaussian
from bayes_ir.models.priors.mixture_law import LOG_2PI

__all__ = ["Ingredients", "ingredients", "log_bound", "log_published_bound"]


class Ingredients(NamedTuple):
    """What the bounds are made of, but for m_1; NaN for a channel that is not Gaussian, or where there is no one sigma.

    Attributes:
        dimension: d, the number of measurements.
        noise: sigma, of all measurements alike.
        operator_norm: ``|grad A|``.
        whitened_norm: ``|D^-1 A|``.
        log_noise: ``sum_m log sigma_m``.
    """

    dimension: int
    noise: float
    operator_norm: float
    whitened_norm: float
    log_noise: float


def ingredients(problem: Problem) -> Ingredients:
    """The ingredients for a linear operator."""
    system = problem.system
    if not isinstance(problem.channel, Gaussian):
        return Ingredients(system.measurements, *(math.nan,) * 4)
    norm, noise = math.sqrt(system.largest_eigenvalue), system.noise
    one = bool((noise == noise[0]).all())
    sigma = float(noise[0]) if one else math.nan
    return Ingredients(system.measurements, sigma, norm * sigma, norm, float(noise.log().sum()))


def log_published_bound(known: Ingredients, distance: float) -> float:
    """The logarithm of the published bound at ``m_1 = distance``."""
    if not distance > 0:
        return math.nan if math.isnan(distance) else -math.inf
    sigma2 = known.noise**2
    constant = math.log(known.dimension) - 0.5 * (LOG_2PI + math.log(sigma2)) - 0.5 / sigma2
    return constant + math.log(known.operator_norm) + math.log(distance)


def log_bound(known: Ingredients, distance: float) -> float:
    """The logarithm of the bound that holds, at ``m_1 = distance``."""
    if not distance > 0:
        return math.nan if math.isnan(distance) else -math.inf
    density = -0.5 * known.dimension * LOG_2PI - known.log_noise
    return density - 0.5 + math.log(known.whitened_norm) + math.log(distance)

r"""Gibbs sampling of a Gaussian restricted to a box: the exact posterior of quantized measurements.

Quantization tells of ``z = A x + n`` only its cell, ``lower <= z < upper``.  For Gaussian x, z is
``N(m, S)`` truncated to the box.  A sweep draws every coordinate given the others in two systems,

    z_i | z_-i ~ N(z_i - [P (z - m)]_i / P_ii, 1 / P_ii)  on its cell,    P = S^-1
    w_j | w_-j ~ N(0, 1)  on the interval that keeps the box,             z = m + G w,  G = E c^{1/2},

with ``S = E c E^T``: the first moves freely where S is well-conditioned and cells are small, the second
where S is ill-conditioned and cells are open.  Because of

    r = d log P(lower <= z < upper) / dm = S^-1 E[z - m] = E c^{-1/2} E[w]

averaging the conditional means of w gives the slope that expectation propagation approximates.

Source: Geweke 1991; in transformed coordinates Rodriguez-Yam, Davis and Scharf 2004.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["GibbsResult", "truncated_gaussian_gibbs"]


class GibbsResult(NamedTuple):
    """States of the chains after the last sweep, and the slope averaged over the kept sweeps."""

    z: Tensor  # (chains, M)
    slope: Tensor  # (chains, M), mean over sweeps of E c^{-1/2} E[w | others]


def truncated_gaussian_gibbs(
    mean: Tensor,
    covariance: Tensor,
    lower: Tensor,
    upper: Tensor,
    *,
    chains: int,
    sweeps: int,
    burn_in: int,
    seed: int,
) -> GibbsResult:
    """Run independent Gibbs chains on ``N(mean, covariance)`` restricted to ``[lower, upper)``.

    Args:
        mean: m, (M,), float64.
        covariance: S, (M, M), positive definite.
        lower: lower bounds, (M,), ``-inf`` allowed.
        upper: upper bounds, (M,), above the lower ones, ``inf`` allowed.
        chains: independent chains, updated together.
        sweeps: sweeps after the burn-in, over which the slope is averaged.
        burn_in: sweeps before them.
        seed: seed of the chains.

    Raises:
        ValueError: when a cell is empty.
    """
    if not (lower < upper).all():
        raise ValueError("truncated_gaussian_gibbs: every lower bound must lie below its upper bound.")
    rng = torch.Generator().manual_seed(seed)
    variances, basis = torch.linalg.eigh(covariance)
    g, inverse = basis * variances.sqrt(), (basis / variances.sqrt()).T
    precision = inverse.T @ inverse
    std = precision.diagonal().rsqrt()
    low, high = lower - mean, upper - mean
    n = _inside(low, high, covariance.diagonal().sqrt()).expand(chains, -1).clone()
    total = torch.zeros_like(n)
    for sweep in range(burn_in + sweeps):
        uniform = torch.rand(2, chains, len(mean), generator=rng, dtype=torch.float64)
        for i in range(len(mean)):
            centre = n[:, i] - (n @ precision[:, i]) / precision[i, i]
            draw, _ = _truncated_normal(
                (low[i] - centre) / std[i], (high[i] - centre) / std[i], uniform[0, :, i]
            )
            n[:, i] = centre + std[i] * draw
        w = n @ inverse.T
        for j in range(len(mean)):
            others = n - w[:, j : j + 1] * g[:, j]
            first, second = (low - others) / g[:, j], (high - others) / g[:, j]
            # The present w_j lies in its interval, whatever rounding says: leaving it would amplify the rounding.
            left = torch.minimum(torch.minimum(first, second).amax(1), w[:, j])
            right = torch.maximum(torch.maximum(first, second).amin(1), w[:, j])
            w[:, j], conditional_mean = _truncated_normal(left, right, uniform[1, :, j])
            n = others + w[:, j : j + 1] * g[:, j]
            if sweep >= burn_in:
                total[:, j] += conditional_mean
    return GibbsResult(n + mean, total / max(sweeps, 1) @ inverse)


def _inside(low: Tensor, high: Tensor, scale: Tensor) -> Tensor:
    """A point of the box: the mean if it lies inside, else half a standard deviation or half a cell into it."""
    middle = (low.clamp(min=-1e9) + high.clamp(max=1e9)) / 2
    above = torch.minimum(low + 0.5 * scale, middle)
    below = torch.maximum(high - 0.5 * scale, middle)
    return torch.where(low > 0, above, torch.where(high < 0, below, 0.0 * middle))


def _truncated_normal(alpha: Tensor, gamma: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """A draw and the mean of a standard normal on ``[alpha, gamma)``, both computed in its lower tail."""
    flip = alpha > 0
    left, right = torch.where(flip, -gamma, alpha), torch.where(flip, -alpha, gamma)
    p_left, p_right = _ndtr(left), _ndtr(right)
    draw = torch.special.ndtri(p_left + uniform * (p_right - p_left))
    # Beyond 30 standard deviations the probabilities underflow and -n dn exp(-n^2/2) is the density to 0.1 %.
    tail = -(right**2 - 2 * torch.log1p(uniform * torch.expm1((right**2 - left**2) / 2))).sqrt()
    draw = torch.where(right < -_TAIL, tail, draw).clamp(left, right)
    mean = ((-0.5 * left**2).exp() - (-0.5 * right**2).exp()) / (_SQRT_2PI * (p_right - p_left))
    mean = torch.where((right < -_TAIL) | ~mean.isfinite(), draw, mean)  # there the draw is its own mean
    sign = 1 - 2 * flip.to(draw.dtype)
    return sign * draw, sign * mean


def _ndtr(x: Tensor) -> Tensor:
    """The normal distribution function; ``torch.special.ndtr`` is zero below about -8."""
    return 0.5 * torch.special.erfc(-x / math.sqrt(2))


_TAIL, _SQRT_2PI = 30.0, math.sqrt(2 * math.pi)

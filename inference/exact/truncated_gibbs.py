r"""Gibbs sampling of a Gaussian restricted to a box: the exact posterior of quantized measurements.

Quantization tells of ``z = A x + n`` only its cell, ``lower <= z < upper``.  For Gaussian x, z is
``N(m, S)`` truncated to the box.  With ``P = S^-1`` one coordinate given the others is

    z_i | z_-i ~ N(z_i - [P (z - m)]_i / P_ii, 1 / P_ii)   on [lower_i, upper_i),

and a sweep draws every coordinate in turn.  Because ``P(box)`` in terms of ``z - m`` sees m only through
the bounds, its log-derivative with respect to ``m_i`` is an average over the other coordinates,

    r_i = d log P(lower <= z < upper) / d m_i = E[d log P(lower_i <= z_i < upper_i | z_-i) / d m_i],

which the chain estimates without the noise of ``P E[z - m]``.

Source: Geweke 1991; Albert and Chib 1993.
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
    slope: Tensor  # (chains, M), mean over sweeps of the conditional slopes


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
    rng = torch.Generator(device="cpu").manual_seed(seed)
    precision = torch.linalg.inv(covariance)
    std = precision.diagonal().rsqrt()
    low, high = lower - mean, upper - mean
    n = _inside(low, high, covariance.diagonal().sqrt()).expand(chains, -1).clone()
    slope = torch.zeros_like(n)
    for sweep in range(burn_in + sweeps):
        uniform = torch.rand(chains, len(mean), generator=rng, dtype=torch.float64)
        for i in range(len(mean)):
            centre = n[:, i] - (n @ precision[:, i]) / precision[i, i]
            alpha, gamma = (low[i] - centre) / std[i], (high[i] - centre) / std[i]
            draw, mean_i = _truncated_normal(alpha, gamma, uniform[:, i])
            n[:, i] = centre + std[i] * draw
            if sweep >= burn_in:
                slope[:, i] += mean_i / std[i]
    return GibbsResult(n + mean, slope / max(sweeps, 1))


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
    p_left, p_right = torch.special.ndtr(left), torch.special.ndtr(right)
    draw = torch.special.ndtri(p_left + uniform * (p_right - p_left)).clamp(left, right)
    mean = ((-0.5 * left**2).exp() - (-0.5 * right**2).exp()) / (math.sqrt(2 * math.pi) * (p_right - p_left))
    sign = 1 - 2 * flip.to(draw.dtype)
    return sign * draw, sign * mean

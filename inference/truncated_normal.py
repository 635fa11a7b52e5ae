r"""Draws of a standard normal on an interval, by the inverse of its distribution function.

    n = Phi^-1(Phi(r) - u (Phi(r) - Phi(l))),    u uniform,

formed in the tail that the interval lies in and with logarithms of probabilities, which do not underflow:

    log p = log Phi(r) + log(1 - u (1 - Phi(l) / Phi(r))),    n = Phi^-1(exp(log p)).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["truncated_normal"]

_FAR = -600.0  # log probabilities below are inverted by Newton's method: their exp would underflow
_NEWTON = 4


def truncated_normal(lower: Tensor, upper: Tensor, uniform: Tensor) -> Tensor:
    """Draws of ``N(0, 1)`` on ``[lower, upper)``, float64.

    Args:
        lower: lower bounds, ``-inf`` allowed; float64.
        upper: upper bounds, broadcast against lower, above them, ``inf`` allowed.
        uniform: uniform numbers on [0, 1), one per draw.
    """
    u = uniform.double().clamp(min=2.0**-52)
    flip = lower > 0
    left, right = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_right = torch.special.log_ndtr(right)
    outside = torch.expm1(torch.special.log_ndtr(left) - log_right)  # -(1 - Phi(l) / Phi(r))
    draw = _inverse(log_right + torch.log1p(u * outside))
    draw = draw.clamp(left, right)
    return torch.where(flip, -draw, draw)


def _inverse(log_p: Tensor) -> Tensor:
    """The n with ``log Phi(n) = log_p``."""
    near = torch.special.ndtri(log_p.clamp(min=_FAR).exp())
    far = -(-2 * log_p).clamp(min=-2 * _FAR).sqrt()
    for _ in range(_NEWTON):
        far = far + (torch.special.log_ndtr(far) - log_p) / far  # the slope of log Phi is -n (1 + O(1 / n^2))
    return torch.where(log_p < _FAR, far, near)

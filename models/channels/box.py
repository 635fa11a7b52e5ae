r"""The normaliser of a Gaussian on an interval, without cancellation.

For standardised bounds ``alpha < gamma`` (either may be infinite) and ``n ~ N(0, 1)``

    Z = Phi(gamma) - Phi(alpha),
    d = (phi(alpha) - phi(gamma)) / Z = E[n | alpha <= n < gamma],
    k = (alpha phi(alpha) - gamma phi(gamma)) / Z,
    q = d^2 - k = 1 - Var[n | alpha <= n < gamma],

with ``0 <= q < 1``.  If ``n = (z - m) / S``, then ``d / S`` is the derivative of ``log Z`` in
``m`` and ``-q / S^2`` the second one.

The textbook forms lose everything in the tails (``0 / 0``) and in small cells (``1 - 1``).  Write
``n`` or ``-n`` so that the bound ``a`` nearer to zero is the lower one, and let ``b`` be the
other bound, ``w = b - a``, ``c = (a + b) / 2 >= 0``, ``delta = c w``, so that
``phi(b) = phi(a) exp(-delta)``.  With ``p = phi(a) / Z`` and ``r = phi(b) / Z``

    d = (1 - exp(-delta)) p,        q = (d - a) p + (b - d) r,        log Z = log phi(a) - log p,

and both terms of ``q`` are non-negative.  What remains, ``p`` and ``d - a``, has three regimes:

* ``w <= 2`` and ``delta <= 2`` (small cells): ``n = c + s`` has the density ``exp(-c s - s^2/2)``
  on ``|s| <= w/2``, whose moments Gauss-Legendre quadrature gives without cancellation;
* otherwise with ``a >= 0`` (tails): the Mills ratio ``M(t) = (1 - Phi(t)) / phi(t)`` and
  ``G(t) = 1 - t M(t)`` give ``Z / phi(a) = M(a) - exp(-delta) M(b)`` and
  ``d - a = (G(a) - exp(-delta) (G(b) + w M(b))) p``;
* otherwise ``a < 0``: ``Z = 1 - Phi(a) - Phi(-b)`` is of order one.

The worst relative error of ``log Z``, ``d`` and ``q`` is below 1e-11 (``tests/models``).
All functions compute in the dtype they are given, which should be float64.  Only ``log_box`` lets gradients
through: its derivatives are ``d`` and ``k``, where the chain rule would meet ``inf - inf``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Box", "box", "half_line", "log_box"]

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)
# Stands in for an infinite bound: its square is finite, so that 0 * bound is 0 and never NaN.
_FAR = 1e100
# Up to here a cell is small: 10 Gauss-Legendre nodes are exact to 1e-14.
_SMALL = 2.0
_NODES = [(float(x), float(w)) for x, w in zip(*np.polynomial.legendre.leggauss(10), strict=True) if x > 0]
# From here on M and G come from the asymptotic series.  Below, 1 - t M(t) loses t^2 and exp(t^2 / 2) t^2 / 2
# units of round-off, 4e-12 together; above, the first neglected term is 19!! / t^18 < 1e-13.
_SERIES = 16.0
# (-1)^n (2 n + 1)!! for n = 8, ..., 0
_GAPS = [(-1.0) ** n * math.prod(range(1, 2 * n + 2, 2)) for n in reversed(range(9))]


class Box(NamedTuple):
    """The standard normal on an interval: ``log Z``, its mean ``d``, and one minus its variance ``q``."""

    log_z: Tensor
    d: Tensor
    q: Tensor


def _gap_series(t: Tensor) -> Tensor:
    """``G(t) = 1 - t M(t) = s - 3 s^2 + 15 s^3 - ...`` with ``s = 1 / t^2``, for ``t >= 16``."""
    s = t.clamp(min=_SERIES).square().reciprocal()
    leading, *others = _GAPS
    series = torch.full_like(s, leading)
    for coefficient in others:
        series.mul_(s).add_(coefficient)
    return series.mul_(s)


def _mills(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``M(t)``, ``G(t) = 1 - t M(t)`` and the tail ``1 - Phi(t)``, for ``t >= 0``."""
    # exp * erfc is several times as fast as torch's erfcx, and good up to the series
    tail = 0.5 * torch.special.erfc(_SQRT_HALF * t)
    near, gap = 2 * _SQRT_HALF_PI * torch.exp(0.5 * t.square()) * tail, _gap_series(t)
    close = t < _SERIES
    return torch.where(close, near, (1 - gap) / t), torch.where(close, 1 - t * near, gap), tail


@torch.no_grad()
def half_line(u: Tensor) -> Box:
    """``log Z``, ``d`` and ``q`` of the half-line ``n > -u``, whose probability is ``Z = Phi(u)``.

    Here ``d = phi(u) / Phi(u)``, usually called ``h(u)``, and ``q = h (h + u)``.

    Args:
        u: where the half-line begins, with the opposite sign; any shape, float64.
    """
    log_density = -0.5 * u.square() - _LOG_SQRT_2PI
    gap = _gap_series(-u)
    close = u > -_SERIES
    mass = 0.5 * torch.special.erfc(-_SQRT_HALF * u)
    h = torch.where(close, torch.exp(log_density) / mass, u / (gap - 1))
    # h + u = G(-u) h, about 1 / |u|, is a difference of nearly equal numbers far in the tail
    q = h * torch.where(close, h + u, gap * h)
    left_out = 0.5 * torch.special.erfc(_SQRT_HALF * u)
    return Box(torch.where(u < -1, log_density - torch.log(h), torch.log1p(-left_out)), h, q)


def _small_cell(half: Tensor, tilt: Tensor) -> tuple[Tensor, Tensor]:
    """``Z / phi(a)`` and ``d - a`` by quadrature, given ``w / 2`` and ``delta / 2``, both at most 1."""
    square = half.square()
    mass, first = torch.zeros_like(half), torch.zeros_like(half)
    for x, weight in _NODES:
        bell = torch.exp(square * (-0.5 * x * x)).mul_(weight)
        odd = torch.sinh(x * tilt)
        mass += torch.sqrt(odd.square().add_(1)).mul_(bell)
        first.add_(odd.mul_(bell), alpha=x)
    return 2 * half * mass * torch.exp(0.5 * square - tilt), half * (1 - first / mass)


def _box(alpha: Tensor, gamma: Tensor) -> tuple[Box, Tensor, Tensor]:
    """The box, and ``phi(alpha) / Z`` and ``phi(gamma) / Z``, of which the larger comes first."""
    alpha, gamma = alpha.clamp(-_FAR, _FAR), gamma.clamp(-_FAR, _FAR)
    near, far = torch.maximum(alpha, -gamma), torch.maximum(gamma, -alpha)
    width, centre = far - near, 0.5 * (near + far)
    delta = centre * width
    decay, grown = torch.exp(-delta), -torch.expm1(-delta)
    log_density = -0.5 * near.square() - _LOG_SQRT_2PI
    mills_near, gap_near, tail_near = _mills(near.abs())
    mills_far, gap_far, tail_far = _mills(far)

    # a >= 0: the cell lies in one tail
    mass = mills_near - decay * mills_far
    offset = (gap_near - decay * (gap_far + width * mills_far)) / mass
    # small cells on either side of zero
    small = (width <= _SMALL) & (delta <= _SMALL)
    small_mass, small_offset = _small_cell(0.5 * width.clamp(max=_SMALL), 0.5 * delta.clamp(max=_SMALL))
    mass, offset = torch.where(small, small_mass, mass), torch.where(small, small_offset, offset)
    # a < 0, not small: all but two tails
    around = (near < 0) & ~small
    tails = tail_near + tail_far
    p = torch.where(around, torch.exp(log_density) / (1 - tails), 1 / mass)
    d, r = grown * p, decay * p
    offset = torch.where(around, d - near, offset)

    log_z = torch.where(around, torch.log1p(-tails), log_density + torch.log(mass))
    q = offset * p + (width - offset) * r
    return Box(log_z, torch.copysign(d, alpha + gamma), q), p, r


@torch.no_grad()
def box(alpha: Tensor, gamma: Tensor) -> Box:
    """Normaliser ``log Z``, mean ``d`` and ``q = d^2 - k`` of a standard normal on ``[alpha, gamma)``.

    Args:
        alpha: lower bounds, any shape, ``-inf`` allowed; float64.
        gamma: upper bounds, broadcast against ``alpha``, above them, ``inf`` allowed; float64.
    """
    return _box(alpha, gamma)[0]


class _LogBox(torch.autograd.Function):
    """``log Z`` of a box in its mean, its scale and its bounds."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, scale: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        alpha, gamma = (lower - mean) / scale, (upper - mean) / scale
        (log_z, d, q), p, r = _box(alpha, gamma)
        rising = alpha + gamma < 0
        ctx.save_for_backward(scale, d, d.square() - q, -torch.where(rising, r, p), torch.where(rising, p, r))
        return log_z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "log_box has first derivatives, and create_graph=True asks for second ones; the one in z"
                " is minus the curvature that Quantized.tilt(y, z, 0.0) returns."
            )
        scale, *derivatives = ctx.saved_tensors
        return tuple(grad / scale * derivative for derivative in derivatives)


def log_box(mean: Tensor, scale: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """``log P(lower <= n < upper)`` for ``n ~ N(mean, scale^2)``, once differentiable in all arguments.

    Args:
        mean: mean, any shape; float64.
        scale: standard deviation, positive.
        lower: lower bounds, ``-inf`` allowed.
        upper: upper bounds, ``inf`` allowed.
    """
    return _LogBox.apply(*torch.broadcast_tensors(mean, scale, lower, upper))

r"""The normaliser of a Gaussian seen through Poisson counts, by quadrature.

Counted in units of the background b, ``w = peak (z - black) / b`` is the light, and ``n ~ N(0, 1)`` the belief's own
coordinate: ``w = mu + alpha n``.  With ``p = max(w, 0)`` and ``q = min(w, 0)`` the rate is ``b (p + e^q)``, and

    f(w) = log p(y | w) = y (log b + log(1 + p) + q) - b (p + e^q) - log y!,    f'(w) = y / (1 + p) - b e^q.

``f(w) - n^2 / 2`` is strictly concave.  Its mode w* solves a quadratic equation to the right of the knee ``w = 0``, and
``w + alpha^2 b e^w = mu + alpha^2 y`` to the left.  At ``w = w* + alpha t`` the exponent is lower by

    d(t) = t^2 / 2 + y [delta - log(1 + delta) - q p* / (1 + p*)] + b [e^q - e^q* - e^q* (q - q*) + (1 - e^q*) (p - p*)]

with ``delta = (p - p*) / (1 + p*)``: Bregman divergences of convex functions, so that no term is negative and nothing
large is subtracted.  With averages ``< >`` over ``exp(-d(t))``

    log Z     = f(w*) - n*^2 / 2 + log(1/sqrt(2 pi) int exp(-d) dt)
    slope     = <f'(w)>  =  <n> / alpha        (whichever has the smaller terms)
    curvature = -Cov(f'(w), n) / alpha         (the derivative of <f'> in mu; never negative, because f' falls)

in units of w.  The integrals run over ``d < 38`` by Gauss-Legendre quadrature, in pieces that end at the mode and at
the knee, where f'' jumps.  On either side of it every integrand is entire: ``(1 + p)^y`` is a polynomial.  Only
``exp(-b e^q)`` acts on a scale of its own, one unit of q around ``q = -log b``; a belief that reaches far behind the
knee is cut there too, and where this factor is one.  Errors, relative or in units of the belief, are below 1e-9
(``tests/models/test_poisson.py``).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bayes_ir.models.channels.base import TiltedNormaliser

__all__ = ["poisson_tilt"]

_CHUNK = 2048  # measurements at a time, whose nodes fit into a processor's cache
_NODES = 28  # of one piece
_DEPTH = 38.0  # exp(-38) = 3e-17
_REACH = 20.0  # so far behind the knee, in units of q, a belief needs no further cuts
_FADE = 25.0  # exp(-25) = 1e-11


@torch.no_grad()
def poisson_tilt(y: Tensor, mu: Tensor, alpha: Tensor, background: Tensor) -> TiltedNormaliser:
    """``log Z``, its slope and its curvature in ``mu``, for a belief ``w ~ N(mu, alpha^2)``.

    Args:
        y: counts, any shape, float64; the others likewise, and of the same shape.
        mu: mean light in units of the background.
        alpha: standard deviation of the light, from zero on.
        background: mean count without light, positive.
    """
    # A belief this narrow is a point to any count.
    alpha = torch.maximum(alpha, 1e-8 / (1 + y + background).sqrt())
    top = _Top(*(part.reshape(-1) for part in (y, mu, alpha, background)))
    low, high = _edges(top)
    knee = -top.w / top.alpha
    wall = knee - top.b.clamp(min=1).log() / top.alpha
    fade = wall - _FADE / top.alpha
    reach = top.alpha * (knee - low)
    near, far = (reach > 0) & (reach <= _REACH), reach > _REACH
    found = torch.empty(3, y.numel(), dtype=y.dtype, device=y.device)
    for chosen, cuts in ((~(near | far), ()), (near, (knee,)), (far, (knee, wall, fade))):
        (at,) = chosen.nonzero(as_tuple=True)
        for part in at.split(_CHUNK):
            t, weights = _nodes(low[part], high[part], *(cut[part] for cut in cuts))
            found[:, part] = torch.stack(_averaged(top[part], t, weights))
    return TiltedNormaliser(*found.reshape(3, *y.shape))


def _averaged(top: _Top, t: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``log Z``, slope and curvature, (K,), from nodes and weights, (nodes, K)."""
    y, b, alpha = top.y, top.b, top.alpha
    drop, fall = top.drop_and_fall(t)
    weights = weights * torch.exp(-drop)
    mass = weights.sum(0)
    weights = weights / mass
    middle, fallen = (weights * t).sum(0), (weights * fall).sum(0)
    steep = y / (1 + top.p) - b * top.e
    broad = alpha * (weights * fall.abs()).sum(0) > 1  # the belief, compared with the likelihood
    slope = torch.where(broad, (top.w - top.mu + alpha * middle) / alpha.square(), steep - fallen)
    n = torch.where(broad, (top.w - top.mu) / alpha, alpha * steep)
    # Both factors change their sign at the mode, so that the first sum has no negative terms.
    curvature = ((weights * fall * t).sum(0) - fallen * middle) / alpha
    height = y * (b.log() + torch.log1p(top.p) + top.q) - b * (top.p + top.e) - torch.lgamma(y + 1)
    log_z = height - 0.5 * n.square() + torch.log(mass / math.sqrt(2 * math.pi))
    return log_z, slope, curvature.clamp(min=0)


class _Top:
    """The mode of ``f(w) - n^2 / 2``, (K,), and what happens around it, as functions of ``t = (w - w*) / alpha``."""

    def __init__(self, y: Tensor, mu: Tensor, alpha: Tensor, b: Tensor, w: Tensor | None = None) -> None:
        self.y, self.mu, self.alpha, self.b = y, mu, alpha, b
        self.w = _mode(y, mu, alpha, b) if w is None else w
        self.p, self.q = self.w.clamp(min=0), self.w.clamp(max=0)
        self.e = torch.exp(self.q)

    def __getitem__(self, part: Tensor) -> _Top:
        return _Top(*(values[part] for values in (self.y, self.mu, self.alpha, self.b, self.w)))

    def drop_and_fall(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """``d(t)``, and ``f'(w*) - f'(w)``, which has the sign of t."""
        step = self.alpha * t
        # p - p* and q - q*, not as differences
        dp, dq = torch.maximum(step + self.q, -self.p), torch.minimum(step + self.p, -self.q)
        delta = dp / (1 + self.p)
        # e^q - e^q*, without cancellation for small steps and without overflow for large ones
        small = self.e * torch.expm1(dq.clamp(max=1))
        growth = torch.where(dq < 1, small, torch.exp(self.q + dq) - self.e)
        lit = delta - torch.log1p(delta) - (dq + self.q) * (self.p / (1 + self.p))
        dark = growth - self.e * dq - torch.expm1(self.q) * dp
        fall = self.y * delta / (1 + self.p + dp) + self.b * growth
        return 0.5 * t.square() + self.y * lit + self.b * dark, fall


def _mode(y: Tensor, mu: Tensor, alpha: Tensor, b: Tensor) -> Tensor:
    square = alpha.square()
    # right of the knee: r^2 + c r = square y for r = 1 + w
    c, product = square * b - 1 - mu, square * y
    root = torch.sqrt(c.square() + 4 * product)
    r = torch.where(c > 0, 2 * product / (c + root), 0.5 * (root - c))
    # left of it: o + log o = s for o = kappa e^w (Wright's omega function), by Newton's method in log o
    kappa, beta = square * b, mu + square * y
    s = beta + kappa.log()
    log_o = torch.where(s > 1, torch.log(s - s.clamp(min=1).log()), s)
    for _ in range(6):
        o = torch.exp(log_o)
        log_o = log_o - (o + log_o - s) / (1 + o)
    o = torch.exp(log_o)
    w = torch.where(o > 1, log_o - kappa.log(), beta - o)
    return torch.where(r >= 1, r - 1, w.clamp(max=0))


def _edges(top: _Top) -> Tensor:
    """Where ``d = 38`` on either side, (2, K), roughly and not before: chords and tangents of d, which is convex."""
    side = torch.tensor([[-1.0], [1.0]]).to(top.w)
    high = torch.full_like(top.w, math.sqrt(2 * _DEPTH)).expand(2, -1)
    low = high * _DEPTH / top.drop_and_fall(side * high)[0]
    for _ in range(7):
        t = torch.sqrt(low * high)
        d, fall = top.drop_and_fall(side * t)
        chord, tangent = t * _DEPTH / d, t + (_DEPTH - d) / (t + top.alpha * fall.abs())
        before = d < _DEPTH
        high = torch.minimum(high, torch.where(before, torch.minimum(chord, tangent), tangent))
        low = torch.maximum(low, torch.where(before, t, chord))
    return side * high


def _nodes(low: Tensor, high: Tensor, *cuts: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes t and weights, (nodes, K), of Gauss-Legendre quadrature from edge to edge, cut at the mode and at cuts."""
    inner = [torch.minimum(torch.maximum(cut, low), high) for cut in (torch.zeros_like(low), *cuts)]
    ends = torch.stack([low, *inner, high]).sort(0).values
    start, width = ends[:-1, None], ends.diff(dim=0)[:, None]
    x, weight = (torch.as_tensor(part).to(low)[:, None] for part in np.polynomial.legendre.leggauss(_NODES))
    return (start + width * (0.5 + 0.5 * x)).flatten(0, 1), (0.5 * width * weight).flatten(0, 1)

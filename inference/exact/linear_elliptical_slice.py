r"""A Gaussian mixture restricted to a box, by Markov chains that never reject: linear elliptical slice sampling.

Let ``u ~ sum_k w_k N(m_k, S_k)`` on ``lower <= u < upper``.  Given k, a move draws ``v ~ N(0, S_k)`` and stays on the
ellipse

    u(theta) = m_k + (u - m_k) cos theta + v sin theta,        0 <= theta < 2 pi,

where N(m_k, S_k) is invariant and theta uniform.  Coordinate i runs along ``m_i + r_i cos(theta - phi_i)``, with
``r_i = hypot(u_i - m_i, v_i)`` and ``phi_i = atan2(v_i, u_i - m_i)``, so it leaves its cell on the two arcs

    |theta - phi_i|      < arccos((upper_i - m_i) / r_i)
    |theta - phi_i - pi| < arccos((m_i - lower_i) / r_i),

of which none holds ``theta = 0``, the present point.  Sorting the arcs by their beginning gives what they leave free,
and theta is drawn uniformly from that.  Every tenth move draws k from ``P(k | u)``, proportional to
``w_k N(u; m_k, S_k)``.

Every chain starts from the best of 64 tilted proposals of its own and ends in one draw, so draws of different chains
are independent.  They are exact once the burn-in has forgotten the start.

How it mixes: M walls leave free an arc of about 1 / M, so that of the order of M^2 moves make one independent state,
more where cells are thin.  Components change only where their latent laws overlap: of others each chain keeps the one
it started from, and the weights are those of the starts.

Source: Gessner, Kanjilal and Hennig 2020 (arXiv 1910.09328), section 2.2 and algorithm 2; elliptical slices,
Murray, Adams and MacKay 2010.  The paper sorts roots of each constraint and tests every interval; here the arcs are
merged.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bayes_ir.inference.exact.box_channels import BoxPosterior
from bayes_ir.inference.rng import Rng

__all__ = ["Chains", "free_angle", "latent_chains"]

_TRIES = 64  # proposals from which a chain picks its start
_EVERY = 10  # moves between draws of the component
_RECORDED = 200  # states, at most
_TURN = 2 * math.pi


class Chains(NamedTuple):
    """The last states of the chains, and states recorded on the way."""

    u: Tensor  # (chains, M)
    component: Tensor  # (chains,), positions in ``BoxPosterior.components``
    recorded: Tensor  # (chains, states, M), evenly spaced over the second half


def latent_chains(posterior: BoxPosterior, rng: Rng, moves: int) -> Chains:
    """One chain per draw of the block.

    Args:
        posterior: the mixture and its cells.
        rng: source of all randomness.
        moves: moves of each chain.
    """
    u, k = posterior.near_draws(rng.draws, _TRIES, np.random.default_rng(rng.seed()))
    roots = torch.linalg.cholesky(posterior.covariances)
    inverses = torch.linalg.solve_triangular(
        roots, torch.eye(u.shape[1], dtype=u.dtype, device=u.device), upper=False
    )
    log_scale = posterior.log_weights_prior - roots.diagonal(dim1=1, dim2=2).log().sum(1)
    spacing = max(1, moves // (2 * _RECORDED))
    recorded = []
    for move in range(moves):
        if len(roots) > 1 and move % _EVERY == 0:
            white = torch.einsum("kij,bkj->bki", inverses, u[:, None] - posterior.means)
            k = _choose(log_scale - 0.5 * white.square().sum(-1), rng.uniform().double())
        mean, v = posterior.means[k], _correlated(rng.normal(u.shape[1]).double(), roots, k)
        low, high = posterior.lower - mean, posterior.upper - mean
        theta = free_angle(u - mean, v, low, high, rng.uniform().double())[:, None]
        u = mean + (u - mean) * theta.cos() + v * theta.sin()
        u = u.clamp(posterior.lower, posterior.upper)  # against rounding
        if 2 * move >= moves and move % spacing == 0:
            recorded.append(u)
    return Chains(u, k, torch.stack(recorded, 1))


def free_angle(n: Tensor, v: Tensor, low: Tensor, high: Tensor, uniform: Tensor) -> Tensor:
    """An angle, (B,), uniform among those where ``low <= n cos theta + v sin theta <= high``.

    Args:
        n: the present point, which lies between the bounds, (B, M).
        v: the other point that the ellipse goes through, (B, M).
        low: lower bounds, (B, M) or (M,), ``-inf`` allowed.
        high: upper bounds, likewise.
        uniform: numbers in [0, 1), (B,).
    """
    radius, phase = torch.hypot(n, v), torch.atan2(v, n)
    arcs = [
        (phase + shift, torch.arccos((bound / radius).clamp(-1, 1)))
        for bound, shift in ((high, 0.0), (-low, math.pi))
        if bound.isfinite().any()
    ]
    nothing = torch.zeros_like(n[:, :1])
    if not arcs:
        return _TURN * uniform
    # No arc holds the angle 0, so none is cut by the turn.
    centre, half = (torch.cat(part, 1) for part in zip(*arcs, strict=True))
    centre = centre.remainder(_TURN)
    begin, order = (centre - half).clamp(0, _TURN).sort(1)
    end = (centre + half).clamp(0, _TURN).gather(1, order).cummax(1).values
    free_from = torch.cat([nothing, end], 1)
    length = (torch.cat([begin, nothing + _TURN], 1) - free_from).clamp(min=0)
    reached = length.cumsum(1)
    way = uniform[:, None] * reached[:, -1:]
    gap = torch.searchsorted(reached, way, right=True).clamp(max=reached.shape[1] - 1)
    return (free_from + way - reached + length).gather(1, gap)[:, 0]


def _correlated(normal: Tensor, roots: Tensor, k: Tensor) -> Tensor:
    """Draws of ``N(0, S_k)``, (B, M)."""
    if len(roots) == 1:
        return normal @ roots[0].T
    v = torch.empty_like(normal)
    for component in k.unique():
        rows = k == component
        v[rows] = normal[rows] @ roots[component].T
    return v


def _choose(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """One component per row of log weights (B, K)."""
    reached = log_weights.softmax(-1).cumsum(-1)
    return (uniform[:, None] > reached).sum(-1).clamp(max=reached.shape[1] - 1)

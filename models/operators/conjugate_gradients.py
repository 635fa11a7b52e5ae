r"""Conjugate gradients for a batch of symmetric positive semi-definite systems H x = b.

    p_0 = r_0 = b - H x_0
    alpha = <r, r> / <p, H p>,   x <- x + alpha p,   r' = r - alpha H p,   p <- r' + (<r', r'> / <r, r>) p

Every system of the batch has its own alpha and stops by itself, when ``|r| <= tolerance |b|``; a system that
has stopped is left alone.  From ``x_0 = 0`` a consistent singular system ends in its least-norm solution.
Complex images are real ones with two channels, so that the real inner product is the right one for a Hermitian
system.

Source: Hestenes and Stiefel 1952.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Solution", "conjugate_gradients"]


class Solution(NamedTuple):
    """Solutions of a batch of systems, and how they were reached."""

    solution: Tensor  # shaped as the right-hand side
    iterations: Tensor  # (*batch,), int64
    residual: Tensor  # (*batch,), |b - H x| / |b|


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    rank: int,
    *,
    start: Tensor | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 100,
) -> Solution:
    """Solve ``H x = b`` for every system of a batch.

    Args:
        apply: ``H``, over leading batch dimensions.
        b: right-hand sides, (*batch, *shape) with ``rank`` trailing dimensions.
        rank: number of dimensions of one right-hand side.
        start: first guess, by default zero.
        tolerance: relative residual at which a system is solved.
        max_iterations: cap on the iterations.
    """
    dims = tuple(range(-rank, 0))
    x = torch.zeros_like(b) if start is None else start
    r = b if start is None else b - apply(start)
    p, energy = r, _energy(r, dims)
    size = energy if start is None else _energy(b, dims)
    goal = tolerance**2 * size
    iterations = torch.zeros(b.shape[: b.ndim - rank], dtype=torch.int64, device=b.device)
    for _ in range(max_iterations):
        active = energy > goal
        if not active.any():
            break
        hp = apply(p)
        alpha = torch.where(active, energy / (p * hp).sum(dims, keepdim=True), 0.0)
        x, r = torch.addcmul(x, alpha, p), torch.addcmul(r, alpha, hp, value=-1)
        previous, energy = energy, _energy(r, dims)
        p = torch.addcmul(r, torch.where(active, energy / previous, 0.0), p)
        iterations += active.reshape(iterations.shape)
    residual = torch.where(size > 0, (energy / size).sqrt(), 0.0).reshape(iterations.shape)
    return Solution(x, iterations, residual)


def _energy(r: Tensor, dims: tuple[int, ...]) -> Tensor:
    return r.square().sum(dims, keepdim=True)

"""Picking from the last dimension."""

from __future__ import annotations

from torch import Tensor

__all__ = ["take"]


def take(x: Tensor, places: Tensor) -> Tensor:
    """``x[..., places]``: (*batch, n), (K,) -> (*batch, K).

    On a CPU ``index_select`` does this 150 times slower, when there are dimensions before the last.
    """
    return x.gather(-1, places.expand(*x.shape[:-1], -1))

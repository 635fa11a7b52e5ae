r"""An order of particles in which neighbours are alike, for systematic resampling.

Systematic resampling takes from every *run* of particles, along the order that they stand in, its weight to within one:

    |sum_{i in run} n_i - N sum_{i in run} W_i| < 1.

Left alone, particles stand in the order of their ancestors, family beside family, and no family dies by chance.  But a
mode is many families, here and there, and how many of its particles are kept has an error of the order of a square
root, at every resampling anew.  So the cloud is cut into 16 parts of equal number, and within a part the families stay
together: halves along that of the 8 principal axes in which the cloud is widest, each half along its own widest one,
and so on.  Finer parts would tear the families apart.

Source: Gerber, Chopin and Whiteley 2019 (arXiv 1707.01845), who order particles one by one, along a Hilbert curve.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["like_beside_like"]

_AXES, _ITERATIONS, _CUTS = 8, 3, 4


def like_beside_like(x: Tensor) -> Tensor:
    """The order of every cloud, (C, N), int64; what is not finite counts as 0.

    Args:
        x: particles, (C, N, *shape), or what is to be alike of them.
    """
    clouds, count = x.shape[:2]
    place = _principal(x.flatten(2).double().nan_to_num(0.0, 0.0, 0.0))
    cuts = min(_CUTS, max(count - 1, 0).bit_length())
    size = -(-count // 2**cuts) * 2**cuts  # the halves are equal, with vacant seats at the end
    place = torch.nn.functional.pad(place, (0, 0, 0, size - count))
    order = torch.arange(size, device=x.device).expand(clouds, -1)
    for level in range(cuts):
        seated = order.reshape(clouds, 2**level, -1)
        taken = seated < count
        at = place.gather(1, order[..., None].expand_as(place)).reshape(*seated.shape, -1)
        present = taken[..., None]
        number = present.sum(2, keepdim=True).clamp(min=1)
        mean = torch.where(present, at, 0.0).sum(2, keepdim=True) / number
        spread = torch.where(present, (at - mean).square(), 0.0).sum(2, keepdim=True)
        along = at.gather(3, spread.argmax(3, keepdim=True).expand(*seated.shape, 1))[..., 0]
        rank = torch.where(taken, along, torch.inf).argsort(dim=2, stable=True)
        order = seated.gather(2, rank).flatten(1)
    order = order.reshape(clouds, 2**cuts, -1).sort(dim=2).values.flatten(1)
    return order[order < count].reshape(clouds, count)


def _principal(x: Tensor) -> Tensor:
    """Coordinates of (C, N, D) along the leading principal axes of each cloud, by subspace iteration."""
    x = x - x.mean(1, keepdim=True)
    if x.shape[2] <= _AXES:
        return x
    start = torch.randn(x.shape[2], _AXES, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    axes = start.to(x.device).expand(len(x), -1, -1)
    for _ in range(_ITERATIONS):
        axes = torch.linalg.qr(x.mT @ (x @ axes)).Q
    found = x @ axes
    return found @ torch.linalg.eigh(found.mT @ found).eigenvectors

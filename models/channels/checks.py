"""Refusals in words: where, what came, what was expected, what to try."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

__all__ = ["as_location", "as_parameter", "common_shape", "refuse_where"]


def _some(values: Tensor, limit: int = 3) -> str:
    """A few distinct values of a tensor."""
    distinct = values.detach().double().flatten().unique().tolist()
    listed = ", ".join(f"{value:.6g}" for value in distinct[:limit])
    return listed + (", ..." if len(distinct) > limit else "")


def refuse_where(bad: Tensor, values: Tensor, name: str, expected: str) -> None:
    """Raise ValueError if any entry is bad, and show some of those that are.

    Args:
        bad: which entries are refused, shape of ``values``.
        values: the entries.
        name: where and what they are, for the message.
        expected: what was expected and what to try.
    """
    if bad.any():
        count = f"{int(bad.sum())} of {values.numel()} entries"
        raise ValueError(f"{name} contains {_some(values[bad])} ({count}), expected {expected}.")


def as_location(owner: str, z: Any) -> Tensor:
    """``z`` itself if it is a float tensor; a number becomes one."""
    if isinstance(z, Real):
        return torch.tensor(float(z))
    if not isinstance(z, Tensor) or z.dtype not in (torch.float32, torch.float64):
        got = f"a tensor of {z.dtype}" if isinstance(z, Tensor) else f"a {type(z).__name__}"
        raise TypeError(
            f"{owner}: z is {got}, expected a float32 or float64 tensor; pass A(x), or use z.float()."
        )
    return z


def as_parameter(name: str, value: Any, location: Tensor) -> Tensor:
    """``value`` as a tensor of the dtype and on the device of ``location``."""
    try:
        return torch.as_tensor(value, dtype=location.dtype, device=location.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} is {value!r}, expected a number or a tensor ({error}).") from error


def common_shape(where: str, shapes: Mapping[str, torch.Size]) -> torch.Size:
    """What the named shapes broadcast to, or a refusal that lists them."""
    try:
        return torch.broadcast_shapes(*shapes.values())
    except RuntimeError as error:
        listed = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        raise ValueError(
            f"{where}: the shapes {listed} do not broadcast; expected one entry per measurement or one for"
            " all, batch dimensions first."
        ) from error

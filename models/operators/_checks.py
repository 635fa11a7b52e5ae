"""What an operator refuses at the door, in words: where, what came, what was expected, what to try."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "as_count",
    "as_dtype",
    "as_image_shape",
    "as_real",
    "as_shape",
    "expect",
    "follow",
    "seeded_generator",
]


def as_count(where: str, name: str, value: Any) -> int:
    """``value`` as a whole number of at least one."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{where}: expected {name} to be a whole number, got {value!r}.")
    count = operator.index(value)
    if count < 1:
        raise ValueError(f"{where}: expected {name} >= 1, got {count}.")
    return count


def as_shape(where: str, name: str, value: Any) -> torch.Size:
    """``value`` as a shape with at least one dimension and no empty one."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) == 0:
        raise TypeError(f"{where}: expected {name} to be a tuple such as (1, 28, 28), got {value!r}.")
    return torch.Size([as_count(where, f"every size in {name}", size) for size in value])


def as_dtype(where: str, value: Any) -> torch.dtype:
    """``value`` as a real floating-point dtype."""
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise TypeError(f"{where}: expected a real floating dtype such as torch.float32, got {value!r}.")
    return value


def seeded_generator(where: str, seed: Any) -> torch.Generator:
    """A CPU generator for the random numbers of the operator class ``where``.

    The seed is hashed together with the name of the class: with the bare seed, the first row of
    a sensing matrix and an image drawn elsewhere with the same seed would be one and the same
    vector, and its first measurement absurdly large.
    """
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"{where}: expected seed to be a whole number, got {seed!r}.")
    digest = hashlib.blake2b(f"{where}:{operator.index(seed)}".encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def expect(
    where: str, name: str, x: Any, shape: torch.Size, dtype: torch.dtype, device: torch.device
) -> None:
    """Refuse ``x`` unless it is a tensor ``(*batch, *shape)`` of this dtype on this device."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{where}: expected {name} to be a tensor, got {type(x).__name__}; "
            f"try torch.as_tensor({name}, dtype={dtype})."
        )
    if x.shape[-len(shape) :] != shape:
        wanted = ", ".join(["*batch", *map(str, shape)])
        raise ValueError(
            f"{where}: expected {name} of shape ({wanted}), got {tuple(x.shape)}; "
            f"reshape {name}, batch dimensions first, or build the operator for this shape."
        )
    if not x.is_floating_point():
        raise TypeError(
            f"{where}: expected {name} in {dtype}, got {x.dtype}; bring it to the units of the prior "
            f"and to {name}.to({dtype})."
        )
    if x.dtype != dtype:
        raise TypeError(
            f"{where}: {name} is {x.dtype} but the operator is {dtype}; "
            f"try A.to(dtype={x.dtype}) or {name}.to({dtype})."
        )
    if x.device != device:
        raise ValueError(
            f"{where}: {name} is on {x.device} but the operator is on {device}; "
            f"try A.to(device='{x.device}') or {name}.to('{device}')."
        )


def follow(value: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A stored tensor on another device: real and complex numbers in another precision, others as they are."""
    if value.is_complex():
        return value.to(device, dtype.to_complex())
    return value.to(device, dtype if value.is_floating_point() else value.dtype)


def as_image_shape(where: str, event_shape: Any) -> torch.Size:
    """``event_shape`` as the shape (C, H, W) of an image."""
    shape = as_shape(where, "event_shape", event_shape)
    if len(shape) != 3:
        wanted = "event_shape (channels, height, width)"
        raise ValueError(f"{where}: expected {wanted}, got {tuple(shape)}; try (1, {shape[0]}, {shape[-1]}).")
    return shape


def as_real(where: str, name: str, value: Any, dimensions: int) -> Tensor:
    """``value`` as a real, finite, non-empty tensor with this many dimensions; plain numbers become float64."""
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(np.asarray(value))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{where}: expected {name} to be an array of numbers, got {value!r}.") from error
    if value.is_complex():
        raise TypeError(f"{where}: expected real numbers in {name}, got {value.dtype}.")
    if value.ndim != dimensions or value.numel() == 0:
        kind = "a matrix" if dimensions == 2 else "a list of numbers"
        raise ValueError(f"{where}: expected {name} to be {kind}, got shape {tuple(value.shape)}.")
    if not value.isfinite().all():
        bad = int((~value.isfinite()).sum())
        raise ValueError(f"{where}: {bad} of the {value.numel()} numbers in {name} are not finite.")
    return value if value.is_floating_point() else value.double()

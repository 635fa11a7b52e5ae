"""Arguments that several verbs take, checked at the door; each refusal is a ValueError in words."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["image_dtype", "natural", "usable_device"]


def natural(verb: str, name: str, value: Any, least: int) -> int:
    """A whole number of at least ``least``."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < least:
        raise ValueError(f"{verb}: {name} is {value!r}; expected a whole number of at least {least}.")
    return int(value)


def usable_device(device: torch.device | str | None) -> torch.device | None:
    """A device that tensors can be put on; ``None`` as it is."""
    if device is None:
        return None
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"sample: device {str(device)!r} cannot be used here ({str(error).splitlines()[0]}); try 'cpu', or 'cuda' "
            "on a machine with a CUDA build of torch."
        ) from error
    return device


def image_dtype(dtype: Any) -> torch.dtype | None:
    """A floating point type that images may have; ``None`` as it is."""
    if dtype not in (None, torch.float32, torch.float64):
        raise ValueError(f"sample: dtype is {dtype!r}; expected torch.float32 or torch.float64.")
    return dtype

"""Draws that are not finite are left out, and every result that lacks some says so."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

__all__ = ["NonFiniteDrawsWarning", "announced"]

Result = TypeVar("Result", bound=Any)


class NonFiniteDrawsWarning(UserWarning):
    """Some draws are not finite (the sampler diverged) and were left out."""


def announced(result: Result, notes: Sequence[str] = ()) -> Result:
    """The same array or dataset, with a warning if its attribute `draws_left_out` is not zero.

    Args:
        result: has that attribute and `draws_used`.
        notes: what to say instead of the plain sentence.
    """
    left_out = result.attrs["draws_left_out"]
    if left_out:
        total = result.attrs["draws_used"] + left_out
        plain = f"{left_out} of {total} draws are not finite and were left out"
        warnings.warn(" ".join(notes) or plain, NonFiniteDrawsWarning, stacklevel=3)
    return result

r"""The code book of a quantiser: thresholds, codes, and which values count as a code.

The uniform quantiser of ``b`` bits and step ``Delta`` is mid-rise and symmetric about zero:

    thresholds  (k - 2^(b-1)) Delta        for k = 1, ..., 2^b - 1
    codes       (k + 1/2 - 2^(b-1)) Delta  for k = 0, ..., 2^b - 1

Codes of explicit thresholds are the midpoints of the cells; those of the two open cells lie half of the
neighbouring cell's width outside of the last threshold.  Equal spacing gives the uniform quantiser back.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import pad

from bayes_ir.models.channels.checks import refuse_where

__all__ = ["CodeBook", "cell_index", "check_thresholds", "design", "optimal_step"]

# The step of the uniform quantiser with 2^bits cells that minimises the mean squared error of N(0, 1).
_OPTIMAL_STEPS = {1: 1.5958, 2: 0.9957, 3: 0.5860, 4: 0.3352, 5: 0.1881, 6: 0.1041, 7: 0.0569, 8: 0.0308}


def cell_index(value: Tensor, thresholds: Tensor) -> Tensor:
    """Number of the cell ``[l, u)`` that holds each value, counted from 0."""
    return torch.bucketize(value.detach().contiguous(), thresholds.detach().contiguous(), right=True)


class CodeBook(constraints.Constraint):
    """A code value, up to 1e-4 of the width of its cell and the resolution of the dtype.

    Args:
        thresholds: shape ``(J,)``, increasing.
        codes: shape ``(J + 1,)``, one in each cell.
    """

    is_discrete = True
    event_dim = 0

    def __init__(self, thresholds: Tensor, codes: Tensor) -> None:
        self.thresholds, self.codes = thresholds.double(), codes.double()
        self.resolution = torch.finfo(codes.dtype).eps
        # A code stands half a cell away from its nearest threshold, in the open outer cells too.
        above = (self.codes - pad(self.thresholds, (1, 0), value=-math.inf)).abs()
        below = (self.codes - pad(self.thresholds, (0, 1), value=math.inf)).abs()
        self.widths = 2 * torch.minimum(above, below)

    def check(self, value: Tensor) -> Tensor:
        """Which entries are codes."""
        resolution = torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0
        index = cell_index(value.double(), self.thresholds)
        tolerance = 1e-4 * self.widths + 4 * max(resolution, self.resolution) * self.codes.abs()
        return (value - self.codes[index]).abs() <= tolerance[index]


def design(bits: Any, step: Any, thresholds: Any) -> tuple[Tensor, Tensor]:
    """Thresholds ``(J,)`` and codes ``(J + 1,)`` in float64, from one of the two ways to state them."""
    given = {"bits": bits, "step": step, "thresholds": thresholds}
    named = [name for name, value in given.items() if value is not None]
    if named not in (["bits", "step"], ["thresholds"]):
        raise ValueError(
            f"Quantized: got {' and '.join(named) or 'no code book'}, expected either both bits and step or"
            " thresholds alone; try Quantized(z, noise_std, bits=3, step=0.5)."
        )
    if thresholds is None:
        half, step = 2 ** (_bits(bits) - 1), _positive(step, "step")
        k = torch.arange(-half, half, dtype=torch.float64)
        return k[1:] * step, (k + 0.5) * step
    thresholds = torch.as_tensor(thresholds).double()
    if thresholds.ndim != 1 or thresholds.numel() == 0:
        raise ValueError(
            f"Quantized: thresholds have shape {tuple(thresholds.shape)}, expected (J,) with J >= 1, the same"
            " for every measurement; for one threshold per measurement use OneBit."
        )
    widths = thresholds.diff()
    ends = widths if widths.numel() else torch.ones_like(thresholds)
    middle = thresholds[:-1] + 0.5 * widths
    return thresholds, torch.cat([thresholds[:1] - 0.5 * ends[:1], middle, thresholds[-1:] + 0.5 * ends[-1:]])


def check_thresholds(thresholds: Tensor, codes: Tensor) -> None:
    """Refuse thresholds that are not finite, not increasing, or too close for their dtype."""
    finite = torch.isfinite(thresholds)
    refuse_where(~finite, thresholds, "Quantized: thresholds", "finite values; outer cells are open anyway")
    # In between two neighbouring floats there is no room for a code.
    inside = (thresholds[:-1] < codes[1:-1]) & (codes[1:-1] < thresholds[1:])
    if not inside.all():
        k = int(torch.nonzero(~inside)[0])
        raise ValueError(
            f"Quantized: thresholds {k} and {k + 1} are {thresholds[k]:.9g} and {thresholds[k + 1]:.9g},"
            f" expected strictly increasing values with room between them in {thresholds.dtype}; sort them,"
            " drop repeated ones, or use float64."
        )


def optimal_step(std: float, bits: int) -> float:
    """The step with the least mean squared error for ``N(0, std^2)`` (Max 1960, table II)."""
    return _positive(std, "std") * _OPTIMAL_STEPS[_bits(bits)]


def _bits(bits: Any) -> int:
    try:
        whole = operator.index(bits)
    except TypeError:
        whole = 0
    if not 1 <= whole <= 8:
        raise ValueError(
            f"Quantized: bits is {bits!r}, expected a whole number from 1 to 8; for a finer quantiser"
            " pass its thresholds, or use Gaussian with variance noise_std^2 + step^2 / 12."
        )
    return whole


def _positive(value: Any, name: str) -> float:
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(
            f"Quantized: {name} is {number:g}, expected a finite number above 0 in units of A(x); for a step"
            " that suits signals of a known spread try Quantized.step_for(std, bits)."
        )
    return number

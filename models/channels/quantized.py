r"""Quantised measurements: which cell the noisy value fell into.

    y = code of the cell [l, u) that holds z + n,  n ~ N(0, s^2)
    p(y | z) = Phi((u - z) / s) - Phi((l - z) / s)

The uniform quantiser of ``b`` bits and step ``Delta`` is mid-rise and symmetric about zero:

    thresholds  (k - 2^(b-1)) Delta        for k = 1, ..., 2^b - 1    (the outer cells are open)
    codes       (k + 1/2 - 2^(b-1)) Delta  for k = 0, ..., 2^b - 1

With ``z ~ N(m, v)``, ``S^2 = v + s^2``, ``alpha = (l - m) / S`` and ``gamma = (u - m) / S``

    log Z = log(Phi(gamma) - Phi(alpha)),    slope = d / S,    curvature = q / S^2

with ``d`` and ``q`` of ``bayes_ir.models.channels.box``.  The likelihood knows the cell, never the code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import pad

from bayes_ir.models.channels.base import Channel, TiltedNormaliser
from bayes_ir.models.channels.box import box, log_box
from bayes_ir.models.channels.code_book import CodeBook, cell_index, check_thresholds, design, optimal_step

__all__ = ["Quantized"]


class Quantized(Channel):
    """``y`` is the code of the cell that ``z + n`` falls into, ``n ~ N(0, noise_std^2)``.

    Give ``bits`` and ``step``, or ``thresholds``.  Codes of explicit thresholds are the midpoints of the
    cells; those of the two open cells lie half of the neighbouring cell's width outside of the last threshold
    (a single threshold has no neighbouring cell: its codes are ``threshold - 1/2`` and ``threshold + 1/2``).

    Args:
        z: noise-free measurement ``A(x)``, shape ``(*batch, *measurement_shape)``.
        noise_std: standard deviation ``s > 0`` in units of ``A(x)``; a number, or a tensor that broadcasts.
        bits: number of bits ``b`` of the uniform quantiser, 1 to 8.
        step: its step ``Delta > 0``, in units of ``A(x)``.  A matter of design (see ``step_for``): a step
            taken from the data would make every likelihood depend on all measurements.
        thresholds: shape ``(J,)``, finite, strictly increasing, in units of ``A(x)``; ``J + 1`` cells.
        validate_args: whether values are checked; default as in torch.

    Attributes:
        thresholds: the ``J`` interior thresholds.
        codes: the ``J + 1`` values that ``y`` can take (the code book), increasing.

    Raises:
        TypeError, ValueError: see ``Channel``.
    """

    arg_constraints: ClassVar = Channel.arg_constraints | {"thresholds": constraints.real_vector}
    tables = ("thresholds", "codes")
    has_enumerate_support = True

    thresholds: Tensor
    codes: Tensor

    def __init__(
        self,
        z: Tensor,
        noise_std: Tensor | float,
        *,
        bits: int | None = None,
        step: float | None = None,
        thresholds: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        thresholds, codes = design(bits, step, thresholds)
        super().__init__(
            z, noise_std=noise_std, thresholds=thresholds, codes=codes, validate_args=validate_args
        )

    @staticmethod
    def step_for(std: float, bits: int) -> float:
        """The step with the least mean squared error for a Gaussian signal (Max 1960, table II).

        Args:
            std: standard deviation of the signal ``A(x) + n`` that the quantiser is designed for.
            bits: number of bits, 1 to 8.
        """
        return optimal_step(std, bits)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:
        """The code book."""
        return CodeBook(self.thresholds.detach(), self.codes.detach())

    @property
    def mean(self) -> Tensor:
        """``E[y | z]``, the codes averaged over the cells."""
        codes = self.enumerate_support(expand=False)
        return (codes * self.log_prob(codes).exp()).sum(0)

    @property
    def variance(self) -> Tensor:
        """``Var[y | z]``."""
        codes = self.enumerate_support(expand=False)
        return ((codes - self.mean).square() * self.log_prob(codes).exp()).sum(0)

    def quantise(self, value: Tensor) -> Tensor:
        """The code of the cell that each analog value falls into.

        Args:
            value: any shape, in units of ``A(x)``.
        """
        value = torch.as_tensor(value, dtype=self.codes.dtype, device=self.codes.device)
        return self.codes[cell_index(value, self.thresholds)]

    def cells(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds ``l`` and ``u`` of the cell of each code, shape of ``y``; infinite for the outer cells.

        Args:
            y: code values, any shape, within 1e-4 of the width of a cell.

        Raises:
            ValueError: if ``y`` holds a value outside of the code book.
        """
        lower, upper = self._bounds(self._measured(y, "cells"))
        return lower.to(self.thresholds.dtype), upper.to(self.thresholds.dtype)

    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        with torch.no_grad():
            return self.quantise(self._noisy(sample_shape))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The code book along a new first dimension."""
        return self._enumerated(self.codes, expand)

    def log_prob(self, y: Tensor) -> Tensor:
        lower, upper = self._bounds(self._measured_here(y))
        return log_box(self.location.double(), self.noise_std.double(), lower, upper).to(self.location)

    @torch.no_grad()
    def tilt(self, y: Tensor, mean: Tensor, variance: Tensor | float) -> TiltedNormaliser:
        lower, upper = self._bounds(y.double())
        m, per_std = mean.double(), self._total_variance(mean, variance).rsqrt()
        cell = box((lower - m) * per_std, (upper - m) * per_std)
        return self._tilted(mean, cell.log_z, cell.d * per_std, cell.q * per_std.square())

    def _bounds(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds of the cells of codes that were checked before, in float64."""
        thresholds = self.thresholds.double()
        index = cell_index(y, thresholds)
        lower, upper = pad(thresholds, (1, 0), value=-math.inf), pad(thresholds, (0, 1), value=math.inf)
        return lower[index], upper[index]

    def _expected(self) -> str:
        first, last = self.codes[0].item(), self.codes[-1].item()
        return (
            f"one of the {self.codes.numel()} code values from {first:.6g} to {last:.6g} (see channel.codes);"
            " turn cell indices into codes with channel.codes[index], analog values with channel.quantise(y)"
        )

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_thresholds(self.thresholds.detach(), self.codes.detach())

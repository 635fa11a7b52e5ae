r"""One-bit measurements: the sign of a noisy comparison.

    y = sign(z + n - tau) in {-1, +1},  n ~ N(0, s^2),  sign(0) := +1:     p(y | z) = Phi(y (z - tau) / s).

``tau`` is a known threshold; one per measurement is a dither.  With ``z ~ N(m, v)``,
``S^2 = v + s^2``, ``u = y (m - tau) / S`` and ``h(u) = phi(u) / Phi(u)``

    log Z = log Phi(u),    slope = y h(u) / S,    curvature = h(u) (h(u) + u) / S^2.

The scale of ``z`` is seen only against ``s`` and ``tau``: without a dither and with little noise the
measurements say nothing about the amplitude of ``x``, which is then left to the prior.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from bayes_ir.models.channels.base import Channel, TiltedNormaliser
from bayes_ir.models.channels.box import half_line
from bayes_ir.models.channels.checks import refuse_where

__all__ = ["OneBit"]


class _Signs(constraints.Constraint):
    """Exactly -1 or +1."""

    is_discrete = True
    event_dim = 0

    def check(self, value: Tensor) -> Tensor:
        return (value == 1) | (value == -1)


class OneBit(Channel):
    """``y = sign(z + n - threshold)`` with ``n ~ N(0, noise_std^2)``.

    Args:
        z: noise-free measurement ``A(x)``, shape ``(*batch, *measurement_shape)``.
        noise_std: standard deviation ``s > 0`` in units of ``A(x)``; a number, or a tensor that broadcasts.
        threshold: what ``z + n`` is compared with, in units of ``A(x)``; a tensor is a known dither.
        validate_args: whether values are checked; default as in torch.

    Raises:
        TypeError, ValueError: see ``Channel``.
    """

    arg_constraints: ClassVar = Channel.arg_constraints | {"threshold": constraints.real}
    elementwise = ("noise_std", "threshold")
    support = _Signs()
    has_enumerate_support = True

    threshold: Tensor

    def __init__(
        self,
        z: Tensor,
        noise_std: Tensor | float,
        threshold: Tensor | float = 0.0,
        *,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(z, noise_std=noise_std, threshold=threshold, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """``E[y | z] = 2 Phi((z - tau) / s) - 1``."""
        return torch.erf(self._margin() * math.sqrt(0.5)).to(self.location).expand(self.batch_shape)

    @property
    def variance(self) -> Tensor:
        """``Var[y | z] = 4 Phi(u) Phi(-u)`` with ``u = (z - tau) / s``."""
        u = self._margin()
        log_product = torch.special.log_ndtr(u) + torch.special.log_ndtr(-u)
        return (4 * torch.exp(log_product)).to(self.location).expand(self.batch_shape)

    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        with torch.no_grad():
            above = self._noisy(sample_shape) >= self.threshold
            return 2 * above.to(self.location) - 1

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The two values -1 and +1 along a new first dimension."""
        return self._enumerated(torch.tensor([-1.0, 1.0]).to(self.location), expand)

    def log_prob(self, y: Tensor) -> Tensor:
        y = self._measured_here(y)
        return torch.special.log_ndtr(y * self._margin()).to(self.location)

    @torch.no_grad()
    def tilt(self, y: Tensor, mean: Tensor, variance: Tensor | float) -> TiltedNormaliser:
        # y / S is the signed derivative of u in m
        signed = y.double() * self._total_variance(mean, variance).rsqrt()
        log_z, h, q = half_line(signed * (mean.double() - self.threshold.double()))
        return self._tilted(mean, log_z, signed * h, signed.square() * q)

    def _margin(self) -> Tensor:
        return (self.location.double() - self.threshold.double()) / self.noise_std.double()

    def _expected(self) -> str:
        return "only -1 and 1; for bits 0 and 1 pass 2 * y - 1"

    def _check_arguments(self) -> None:
        super()._check_arguments()
        tau = self.threshold.detach()
        refuse_where(~torch.isfinite(tau), tau, "OneBit: threshold", "finite values in units of A(x)")

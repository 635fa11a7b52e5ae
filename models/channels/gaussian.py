r"""Linear measurements with Gaussian noise.

    y = z + n,  n ~ N(0, s^2):        log p(y | z) = -(y - z)^2 / (2 s^2) - log(s sqrt(2 pi)).

A belief ``z ~ N(m, v)`` only widens the noise to ``S^2 = v + s^2``:

    log Z = log N(y; m, S^2),    slope = (y - m) / S^2,    curvature = 1 / S^2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributions import constraints

from bayes_ir.models.channels.base import Channel, TiltedNormaliser

__all__ = ["Gaussian"]

_LOG_2PI = math.log(2 * math.pi)


class Gaussian(Channel):
    """``y = z + n`` with ``n ~ N(0, noise_std^2)``.

    Args:
        z: noise-free measurement ``A(x)``, shape ``(*batch, *measurement_shape)``.
        noise_std: standard deviation ``s > 0`` in units of ``A(x)``; a number, or a tensor that broadcasts.
        validate_args: whether values are checked; default as in torch.

    Raises:
        TypeError, ValueError: see ``Channel``.
    """

    support = constraints.real
    has_rsample = True

    def __init__(self, z: Tensor, noise_std: Tensor | float, *, validate_args: bool | None = None) -> None:
        super().__init__(z, noise_std=noise_std, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """``E[y | z] = z``."""
        return self.location.expand(self.batch_shape)

    @property
    def variance(self) -> Tensor:
        """``Var[y | z] = s^2``."""
        return self.noise_std.square().expand(self.batch_shape)

    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        with torch.no_grad():
            return self._noisy(sample_shape)

    def rsample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        """As ``sample``, differentiable in ``z`` and ``noise_std``."""
        return self._noisy(sample_shape)

    def log_prob(self, y: Tensor) -> Tensor:
        y = self._measured_here(y)
        z, s = self.location.double(), self.noise_std.double()
        return (-0.5 * ((y - z) / s).square() - torch.log(s) - 0.5 * _LOG_2PI).to(self.location)

    @torch.no_grad()
    def tilt(self, y: Tensor, mean: Tensor, variance: Tensor | float) -> TiltedNormaliser:
        residual = y.double() - mean.double()
        total = self._total_variance(mean, variance)
        slope = residual / total
        log_z = -0.5 * (residual * slope + torch.log(total) + _LOG_2PI)
        return self._tilted(mean, log_z, slope, 1 / total)

r"""Gaussian stand-ins for the denoising posterior p(x_0 | x_t).

A guided sampler replaces ``p(x_0 | x_t)`` by ``N(mu, V)``.  Then, with ``z = A x_0``,

    r                = d/dm log int p(y | z) N(z; m, A V A^T) dz     at m = A mu
    x0_hat(x_t, y)   = x0_hat + V A^T r,

and the choice of (mu, V) is most of what distinguishes the published methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

__all__ = ["DenoisingPosterior", "Flat"]


class DenoisingPosterior(ABC):
    """An isotropic Gaussian ``N(mu, v I)`` in place of ``p(x_0 | x_t)``."""

    @abstractmethod
    def mean(self, x_t: Tensor, x0_hat: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """``mu``, shaped as x_t (B, *event_shape); a and b are float64 scalars."""

    @abstractmethod
    def variance(self, a: Tensor, b: Tensor) -> Tensor:
        """``v``, a float64 scalar."""


@dataclass(frozen=True)
class Flat(DenoisingPosterior):
    """``N(x_t / a, (b / a)^2 I)``: the posterior of ``x_0`` under a flat prior.

    It needs no Jacobian of the network and becomes exact as the noise vanishes.

    Source: Meng and Kabashima 2023 (arXiv 2211.13006), assumption 1; DMPS, arXiv 2211.12343.
    """

    def mean(self, x_t: Tensor, x0_hat: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return x_t / a

    def variance(self, a: Tensor, b: Tensor) -> Tensor:
        return (b / a) ** 2

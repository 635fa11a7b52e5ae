r"""Gaussian stand-ins for the denoising posterior p(x_0 | x_t).

A guided sampler replaces ``p(x_0 | x_t)`` by ``N(mu, V)``.  Then, with ``z = A x_0``,

    r                = d/dm log int p(y | z) N(z; m, A V A^T) dz     at m = A mu
    x0_hat(x_t, y)   = x0_hat + K r,

and the choice of (mu, V, K) is most of what distinguishes the published methods.  By Tweedie's formula the covariance
of ``p(x_0 | x_t)`` is ``(b^2 / a) J`` with ``J = d x0_hat / d x_t``, so for the true V the two forms of the gain agree,

    K = V A^T    and    K = (b^2 / a) J^T A^T,

and a method that only guesses V may take either: the second asks the network what V is, at the price of one
vector-Jacobian product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["DenoisingPosterior", "Flat", "Isotropic", "Point"]


class DenoisingPosterior(ABC):
    """An isotropic Gaussian ``N(mu, v I)`` in place of ``p(x_0 | x_t)``.

    Attributes:
        jacobian: whether the gain is ``(b^2 / a) J^T A^T`` instead of ``v A^T``.
    """

    @property
    def jacobian(self) -> bool:
        """Whether the gain is ``(b^2 / a) J^T A^T``."""
        return False

    @abstractmethod
    def mean(self, x_t: Tensor, x0_hat: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """``mu``, shaped as x_t (B, *event_shape); a and b are float64 scalars."""

    @abstractmethod
    def variance(self, prior: DiffusionPrior, a: Tensor, b: Tensor) -> Tensor:
        """``v``, a float64 scalar."""


@dataclass(frozen=True)
class Flat(DenoisingPosterior):
    """``N(x_t / a, (b / a)^2 I)``: the posterior of ``x_0`` under a flat prior.

    It needs no Jacobian of the network and becomes exact as the noise vanishes.

    Source: Meng and Kabashima 2023 (arXiv 2211.13006), assumption 1; DMPS, arXiv 2211.12343.
    """

    def mean(self, x_t: Tensor, x0_hat: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return x_t / a

    def variance(self, prior: DiffusionPrior, a: Tensor, b: Tensor) -> Tensor:
        return (b / a) ** 2


@dataclass(frozen=True)
class Point(DenoisingPosterior):
    """``N(x0_hat, 0)``: all doubt about ``x_0`` left out, the Jensen approximation of DPS.

    Source: Chung et al. 2023 (arXiv 2209.14687), equation 11.
    """

    @property
    def jacobian(self) -> bool:
        return True

    def mean(self, x_t: Tensor, x0_hat: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return x0_hat

    def variance(self, prior: DiffusionPrior, a: Tensor, b: Tensor) -> Tensor:
        return torch.zeros_like(b)


@dataclass(frozen=True, kw_only=True)
class Isotropic(DenoisingPosterior):
    """``N(x0_hat, r^2 I)`` with ``r^2 = s^2 q / (s^2 + q)``, ``q = (b / a)^2``.

    ``s^2`` is the mean variance of the prior's pixels: r^2 is exact for a white Gaussian prior of that variance, and
    is the published ``b^2 / (a^2 + b^2)`` for images of unit variance.

    Attributes:
        with_jacobian: the gain is ``(b^2 / a) J^T A^T`` (PiGDM) instead of ``r^2 A^T``.

    Source: Song et al. 2023 (PiGDM, ICLR), section 3.2.
    """

    with_jacobian: bool = False

    @property
    def jacobian(self) -> bool:
        return self.with_jacobian

    def mean(self, x_t: Tensor, x0_hat: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return x0_hat

    def variance(self, prior: DiffusionPrior, a: Tensor, b: Tensor) -> Tensor:
        ratio, spread = (b / a) ** 2, prior.variance.double().mean().to(b.device)
        return spread * ratio / (spread + ratio)

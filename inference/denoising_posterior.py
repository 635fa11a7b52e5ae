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
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.inference.covariances import (
    BasisCovariance,
    ImageCovariance,
    JacobianCovariance,
    ScalarCovariance,
    SharedCovariance,
)
from bayes_ir.inference.samplers import Level
from bayes_ir.models.diffusion import Scalar
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = [
    "AroundDenoisedMean",
    "Belief",
    "Calibrated",
    "DenoisingPosterior",
    "Flat",
    "Isotropic",
    "Point",
    "Tweedie",
]


@dataclass(frozen=True, eq=False)
class Belief:
    """``N(mu, V)`` for ``x_0`` given ``x_t``, and how the image takes what the channel says.

    Attributes:
        x0_hat: denoised mean, (B, *event_shape).
        mean: mu, shaped as x0_hat.
        covariance: V.
        gain: ``A^T r -> K r``.
        stretch: bound of ``|d (score of y) / d (A^T r)|`` times ``|d mu / d x_t|``: curvature in x_t is at most
            ``stretch^2`` times that in mu.
    """

    x0_hat: Tensor
    mean: Tensor
    covariance: ImageCovariance
    gain: Callable[[Tensor], Tensor]
    stretch: Scalar


class DenoisingPosterior(ABC):
    """A rule for ``N(mu, V)`` and K, from one network evaluation.

    Attributes:
        informed: whether V is that of ``x_0`` at high noise too, and not only what ``x_t`` says of it.
    """

    informed: ClassVar[bool] = True

    @property
    def jacobian(self) -> bool:
        """Whether K or V needs vector-Jacobian products of the network."""
        return False

    @abstractmethod
    def at(self, prior: DiffusionPrior, x_t: Tensor, level: Level) -> Belief:
        """The belief about ``x_0`` at states x_t (B, *event_shape)."""


@dataclass(frozen=True)
class Flat(DenoisingPosterior):
    """``N(x_t / a, (b / a)^2 I)``: the posterior of ``x_0`` under a flat prior.

    It needs no Jacobian of the network and becomes exact as the noise vanishes.

    Source: Meng and Kabashima 2023 (arXiv 2211.13006), assumption 1; DMPS, arXiv 2211.12343.
    """

    informed: ClassVar[bool] = False

    def at(self, prior: DiffusionPrior, x_t: Tensor, level: Level) -> Belief:
        v = ScalarCovariance(level.ratio**2)
        return Belief(prior.denoise_at(x_t, level.a, level.b), x_t / level.a, v, v, 1 / level.a)


@dataclass(frozen=True)
class Point(DenoisingPosterior):
    """``N(x0_hat, 0)``: all doubt about ``x_0`` left out, the Jensen approximation of DPS.

    Source: Chung et al. 2023 (arXiv 2209.14687), equation 11.
    """

    informed: ClassVar[bool] = False

    @property
    def jacobian(self) -> bool:
        return True

    def at(self, prior: DiffusionPrior, x_t: Tensor, level: Level) -> Belief:
        x0_hat, jacobian = _denoise_with_jacobian(prior, x_t, level)
        return Belief(x0_hat, x0_hat, ScalarCovariance(0.0), jacobian, 1 / level.a)


class AroundDenoisedMean(DenoisingPosterior):
    """``N(x0_hat, V)`` with V known beforehand, the same for all draws, and K by V or by the Jacobian.

    Attributes:
        with_jacobian: the gain is ``(b^2 / a) J^T A^T`` instead of ``V A^T``.
    """

    with_jacobian: bool = False

    @property
    def jacobian(self) -> bool:
        return self.with_jacobian

    @abstractmethod
    def covariance(self, prior: DiffusionPrior, level: Level) -> SharedCovariance:
        """V at a level, the same for all draws."""

    def at(self, prior: DiffusionPrior, x_t: Tensor, level: Level) -> Belief:
        v = self.covariance(prior, level)
        if self.with_jacobian:
            x0_hat, jacobian = _denoise_with_jacobian(prior, x_t, level)
            return Belief(x0_hat, x0_hat, v, jacobian, 1 / level.a)
        x0_hat = prior.denoise_at(x_t, level.a, level.b)
        return Belief(x0_hat, x0_hat, v, v, v.highest * level.a / level.b**2)


@dataclass(frozen=True, kw_only=True)
class Isotropic(AroundDenoisedMean):
    """``N(x0_hat, r^2 I)`` with ``r^2 = s^2 q / (s^2 + q)``, ``q = (b / a)^2``.

    ``s^2`` is the mean variance of the prior's pixels: r^2 is exact for a white Gaussian prior of that variance, and
    is the published ``b^2 / (a^2 + b^2)`` for images of unit variance.

    Attributes:
        with_jacobian: the gain is ``(b^2 / a) J^T A^T`` (PiGDM) instead of ``r^2 A^T``.
        spread: ``s`` in units of the prior, instead of its own.

    Source: Song et al. 2023 (PiGDM, ICLR), section 3.2.
    """

    with_jacobian: bool = False
    spread: float | None = None

    def __post_init__(self) -> None:
        if self.spread is not None and not self.spread > 0:
            raise ValueError(f"Isotropic: expected a positive spread, got {self.spread}.")

    def covariance(self, prior: DiffusionPrior, level: Level) -> ScalarCovariance:
        s2 = prior.mean_variance if self.spread is None else self.spread**2
        q = level.ratio**2
        return ScalarCovariance(s2 * q / (s2 + q))


@dataclass(frozen=True, kw_only=True)
class Calibrated(AroundDenoisedMean):
    """``N(x0_hat, E[Cov(x_0 | x_t)])``, fitted once per prior and noise level; no Jacobian needed.

    The mean covariance is held diagonal in a basis: images are anything but isotropic, and a single number per level
    is nearly useless for them.  See :mod:`bayes_ir.models.priors.calibration`.

    Attributes:
        basis: ``"pca"`` (principal components of the images), ``"dct"`` or ``"scalar"``.
        with_jacobian: the gain is ``(b^2 / a) J^T A^T`` instead of ``V A^T``.

    Source: Peng et al. 2024 (arXiv 2402.02149).
    """

    basis: str = "pca"
    with_jacobian: bool = False

    def __post_init__(self) -> None:
        if self.basis not in ("pca", "dct", "scalar"):
            raise ValueError(f"Calibrated: expected the basis 'pca', 'dct' or 'scalar', got {self.basis!r}.")

    def covariance(self, prior: DiffusionPrior, level: Level) -> SharedCovariance:
        calibration = prior.calibration(self.basis)
        if calibration.basis is None:
            return ScalarCovariance(calibration.scalar_at(level.ratio))
        variances, rest = calibration.at_level(level.ratio)
        # The tables tell the V of several labels apart; what is kept under the name is compared all the same.
        name = (self.basis, level.ratio, id(calibration.variances))
        return BasisCovariance(calibration.basis, variances, rest, name)


@dataclass(frozen=True)
class Tweedie(DenoisingPosterior):
    """``N(x0_hat, (b^2 / a) J)``: mean and covariance of ``p(x_0 | x_t)``, draw by draw.

    Gaussian channels are solved by conjugate gradients, one vector-Jacobian product an iteration; other channels need
    ``A V A^T`` as a matrix, one product per measurement.

    Source: Boys et al. 2023 (TMPD, arXiv 2310.06721); Rozet et al. 2024 (MMPS, arXiv 2405.13712).
    """

    @property
    def jacobian(self) -> bool:
        return True

    def at(self, prior: DiffusionPrior, x_t: Tensor, level: Level) -> Belief:
        x0_hat, v = _denoise_with_jacobian(prior, x_t, level)
        return Belief(x0_hat, x0_hat, v, v, 1 / level.a)


def _denoise_with_jacobian(
    prior: DiffusionPrior, x_t: Tensor, level: Level
) -> tuple[Tensor, JacobianCovariance]:
    """``x0_hat`` and ``(b^2 / a) J^T``."""
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        x0_hat = prior.denoise_at(x_t, level.a, level.b)
    return x0_hat.detach(), JacobianCovariance(x_t, x0_hat, level.b**2 / level.a, level.ratio**2)

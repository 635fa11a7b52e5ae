r"""The contract of a prior: a Pyro distribution over images that can also denoise.

A prior knows the law of its noised versions ``x_t = a(t) x_0 + b(t) eps`` through one function,
the denoised mean ``x0_hat(x_t, t) = E[x_0 | x_t]``; by Tweedie's formula the score of ``p(x_t)`` is

    score(x_t, t) = (a x0_hat - x_t) / b^2.

A denoiser depends on ``x_t / a`` and ``b / a`` alone, so a prior serves any forward process:
:meth:`DiffusionPrior.with_diffusion` changes it without changing the prior.

Source: Robbins 1956; Efron 2011; Song et al. 2021.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from bayes_ir.models.diffusion import Diffusion, score_from_denoised
from bayes_ir.models.priors.bases import BASES
from bayes_ir.models.priors.calibration import Calibration

__all__ = ["DiffusionPrior"]


class DiffusionPrior(TorchDistribution):
    """A distribution over images with a denoiser for every noise level.

    Args:
        event_shape: shape of one image, (C, H, W), or (N,) for plain vectors.
        diffusion: forward process ``x_t = a(t) x_0 + b(t) eps`` the times refer to.
        noise_range: smallest and largest noise-to-signal ratio ``b / a`` at which the denoiser
            is meant to be used, in units of the data.  At the largest the data are drowned,
            below the smallest the noise no longer matters.
        data_range: ``(low, high)`` when images are bounded (used by metrics and to refuse
            data in other units), else ``None``.
        batch_shape: shape of independent copies.

    Attributes:
        calibrations: the calibrations computed or fitted so far, by the name of their basis.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        event_shape: Sequence[int],
        diffusion: Diffusion,
        noise_range: tuple[float, float],
        data_range: tuple[float, float] | None = None,
        batch_shape: Sequence[int] = (),
    ) -> None:
        self.diffusion = diffusion
        self.noise_range = noise_range
        self.data_range = data_range
        self.calibrations: dict[str, Calibration] = {}
        super().__init__(torch.Size(batch_shape), torch.Size(event_shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """All real images; ``data_range`` describes the data, it does not truncate the prior."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Type of the draws."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Device of the draws."""

    @abstractmethod
    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> DiffusionPrior:
        """The same prior on another device or in another floating point type."""

    @abstractmethod
    def _denoised_mean(self, x_t: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """``E[x_0 | x_t]`` for x_t (B, *event_shape) and float64 a, b of shape (B,)."""

    def denoise(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Denoised mean ``x0_hat = E[x_0 | x_t]``.

        Args:
            x_t: noisy images, (*batch, *event_shape).
            t: time of ``self.diffusion``, a number or a tensor that broadcasts to (*batch,).

        Returns:
            Tensor shaped and typed as ``x_t``.

        Raises:
            ValueError: when the trailing dimensions of ``x_t`` are not ``event_shape``.
        """
        batch = self._batch_of(x_t)
        a, b = (c.expand(batch).reshape(-1) for c in self._coefficients(x_t, t))
        return self._denoised_mean(x_t.reshape(-1, *self.event_shape), a, b).reshape(x_t.shape)

    def denoise_at(self, x_t: Tensor, a: float, b: float) -> Tensor:
        """Denoised mean of ``x_t = a x_0 + b eps``, (*batch, *event_shape), whatever the process that made it."""
        images = x_t.reshape(-1, *self.event_shape)
        scales = (torch.full((len(images),), c, dtype=torch.float64, device=x_t.device) for c in (a, b))
        return self._denoised_mean(images, *scales).reshape(x_t.shape)

    def score(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Score ``grad log p(x_t) = (a x0_hat - x_t) / b^2``; arguments as in :meth:`denoise`."""
        x0_hat = self.denoise(x_t, t)
        a, b = self._coefficients(x_t, t)
        ones = (1,) * len(self.event_shape)
        a, b = (c.reshape(*c.shape, *ones) if c.ndim else c for c in (a, b))
        return score_from_denoised(x_t, x0_hat, a, b).to(x_t.dtype)

    @cached_property
    def mean_variance(self) -> float:
        """Mean of the marginal variances of the pixels."""
        return float(self.variance.double().mean())

    def calibration(self, basis: str = "pca") -> Calibration:
        """Variances of ``x_0 - x0_hat(x_t)`` in an orthonormal basis at every noise ratio ``b / a``.

        Args:
            basis: ``"pca"``, ``"dct"``, ``"pixel"`` or ``"scalar"``.

        Returns:
            The calibration on the prior's device, its basis in the prior's floating point type; in units of the data.

        Raises:
            ValueError: for an unknown basis, or where none was fitted for it.
        """
        if basis not in self.calibrations:
            if basis not in BASES:
                raise ValueError(
                    f"{type(self).__name__}.calibration: unknown basis {basis!r}; expected one of {list(BASES)}."
                )
            self.calibrations[basis] = self._make_calibration(basis)
        return _moved(self.calibrations[basis], self.device, self.dtype)

    def _make_calibration(self, basis: str) -> Calibration:
        """The calibration of a basis that none was given for."""
        raise ValueError(
            f"{type(self).__name__}.calibration: this prior carries no calibration in the basis {basis!r}; it has "
            f"{', '.join(sorted(self.calibrations)) or 'none'}. Fit one with prior = calibrate(prior, images, "
            f"bases=[{basis!r}]), images being held-out ones."
        )

    def with_diffusion(self, diffusion: Diffusion) -> DiffusionPrior:
        """The same prior observed through another forward process."""
        other = copy.copy(self)
        other.diffusion = diffusion
        return other

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> DiffusionPrior:
        """Independent copies of the prior, as Pyro's plates ask for."""
        other = copy.copy(self)
        other._batch_shape = torch.Size(batch_shape)
        return other

    def data_set(self, index: int) -> DiffusionPrior:
        """The prior of image ``index`` of a plate, which is the same for all of them unless a prior says otherwise."""
        return self

    def _coefficients(self, x_t: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor]:
        a, b = self.diffusion.coefficients(t)
        return a.to(x_t.device), b.to(x_t.device)

    def _batch_of(self, x: Tensor) -> torch.Size:
        rank = len(self.event_shape)
        if x.ndim < rank or x.shape[x.ndim - rank :] != self.event_shape:
            raise ValueError(
                f"{type(self).__name__}: got a tensor of shape {tuple(x.shape)}; expected trailing "
                f"dimensions {tuple(self.event_shape)}, the shape of one image, batch dimensions in front."
            )
        return x.shape[: x.ndim - rank]


@lru_cache(maxsize=4)
def _moved(calibration: Calibration, device: torch.device, dtype: torch.dtype) -> Calibration:
    """``calibration.to(device, dtype)``, remembered: every step of a sampler asks for it."""
    return calibration.to(device, dtype)

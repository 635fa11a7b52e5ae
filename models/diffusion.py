r"""Forward processes x_t = a(t) x_0 + b(t) eps and the four faces of a denoiser.

A forward process is two functions of time, the signal scale ``a`` and the noise
standard deviation ``b``; ``eps`` is standard normal, so

    p(x_t | x_0) = N(a(t) x_0, b(t)^2 I).

The score ``s``, the predicted noise ``eps``, the velocity ``v`` and the denoised mean
``x0_hat = E[x_0 | x_t]`` are four ways of writing one function (Tweedie 1956, Efron 2011):

    s = -eps / b,    x0_hat = (x_t + b^2 s) / a,    v = a' x0_hat + b' eps.

Only the ratio ``b/a`` matters to a denoiser, because ``x_t / a = x_0 + (b/a) eps``: a
denoiser learned for one process serves every other at the time with the same ratio.

Times are float64 tensors; ``t`` grows with the noise.  Sources: Song and Ermon 2019 (NCSN),
Ho, Jain and Abbeel 2020 (DDPM), Song et al. 2021 (SDE forms), Liu et al. 2023 (rectified flow).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = [
    "DDPM",
    "Diffusion",
    "RectifiedFlow",
    "Scalar",
    "VarianceExploding",
    "VariancePreserving",
    "denoised_from_noise",
    "denoised_from_score",
    "denoised_from_velocity",
    "noise_from_denoised",
    "score_from_denoised",
    "velocity_from_denoised",
]

Scalar = float | Tensor  # a number, or a tensor that broadcasts


def _as_time(t: Tensor | float) -> Tensor:
    return torch.as_tensor(t, dtype=torch.float64)


class Diffusion(ABC):
    """A Gaussian forward process ``x_t = a(t) x_0 + b(t) eps``.

    Attributes:
        t_min: the least noisy time a sampler visits.
        t_max: the noisiest time, where sampling starts.
    """

    t_min: float
    t_max: float

    @abstractmethod
    def coefficients(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Signal scale and noise standard deviation ``(a(t), b(t))``, float64, shaped as ``t``."""

    @abstractmethod
    def derivatives(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Time derivatives ``(a'(t), b'(t))``, float64, shaped as ``t``."""

    @abstractmethod
    def time_at(self, ratio: Tensor | float) -> Tensor:
        """The time at which ``b(t) / a(t) == ratio``; the inverse of :meth:`ratio`."""

    def ratio(self, t: Tensor | float) -> Tensor:
        """Noise-to-signal ratio ``b(t) / a(t)``, the noise level of ``x_t / a(t)``."""
        a, b = self.coefficients(t)
        return b / a


@dataclass(frozen=True)
class VarianceExploding(Diffusion):
    r"""Geometric noise, NCSN: ``a = 1``, ``b(t) = noise_min (noise_max / noise_min)^t``, t in [0, 1].

    Args:
        noise_min: smallest noise, in units of the data.
        noise_max: largest noise, in units of the data.

    Raises:
        ValueError: unless ``0 < noise_min < noise_max``.

    Source: Song and Ermon 2020 (NCSNv2), section 4.
    """

    noise_min: float = 0.01
    noise_max: float = 50.0
    t_min = 0.0
    t_max = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.noise_min < self.noise_max < math.inf:
            raise ValueError(
                f"VarianceExploding: expected 0 < noise_min < noise_max, got noise_min={self.noise_min}, "
                f"noise_max={self.noise_max}; give both in units of the data."
            )

    def coefficients(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """``a = 1``, ``b = noise_min (noise_max / noise_min)^t``."""
        t = _as_time(t)
        return torch.ones_like(t), self.noise_min * torch.exp(t * self._log_range)

    def derivatives(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """``a' = 0``, ``b' = b log(noise_max / noise_min)``."""
        _, b = self.coefficients(t)
        return torch.zeros_like(b), b * self._log_range

    def time_at(self, ratio: Tensor | float) -> Tensor:
        """``t = log(ratio / noise_min) / log(noise_max / noise_min)``."""
        return torch.log(_as_time(ratio) / self.noise_min) / self._log_range

    @property
    def _log_range(self) -> float:
        return math.log(self.noise_max / self.noise_min)


@dataclass(frozen=True)
class VariancePreserving(Diffusion):
    r"""Continuous DDPM: ``log a = -(beta_max - beta_min) t^2 / 4 - beta_min t / 2``, ``a^2 + b^2 = 1``.

    Args:
        beta_min: rate of the noise at ``t = 0`` per unit time.
        beta_max: rate at ``t = 1``.

    Source: Song et al. 2021, equation 33 and appendix C.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min = 1e-3
    t_max = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min < self.beta_max < math.inf:
            raise ValueError(
                f"VariancePreserving: expected 0 < beta_min < beta_max, got beta_min={self.beta_min}, "
                f"beta_max={self.beta_max}."
            )

    def _log_a(self, t: Tensor) -> Tensor:
        return -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def coefficients(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """``a`` by the formula of the class, ``b = (1 - a^2)^{1/2}``."""
        log_a = self._log_a(_as_time(t))
        return log_a.exp(), (-torch.expm1(2 * log_a)).sqrt()

    def derivatives(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """``a' = -beta a / 2``, ``b' = beta a^2 / (2 b)``, ``beta`` the rate at ``t``."""
        t = _as_time(t)
        a, b = self.coefficients(t)
        beta = self.beta_min + t * (self.beta_max - self.beta_min)
        return -0.5 * beta * a, 0.5 * beta * a**2 / b

    def time_at(self, ratio: Tensor | float) -> Tensor:
        """The root of a quadratic, since ``-2 log a = log(1 + ratio^2)``."""
        # b/a = r  <=>  -2 log a = log(1 + r^2): a quadratic in t.
        c = torch.log1p(_as_time(ratio) ** 2)
        slope = self.beta_max - self.beta_min
        return 2 * c / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * c))


@dataclass(frozen=True)
class DDPM(Diffusion):
    r"""Discrete DDPM: after ``t`` steps ``a^2 = prod_{i <= t} (1 - beta_i)``, ``b^2 = 1 - a^2``.

    ``beta_1 .. beta_T`` go linearly from ``beta_start`` to ``beta_end``, up or down.  Time counts
    steps: ``t = 0`` is clean and ``t = T`` the end, so the published code's index is ``t - 1``.
    Between whole steps ``log a`` is linear in ``t``.

    Args:
        steps: number of steps ``T``.
        beta_start: variance added by the first step.
        beta_end: variance added by the last.

    Source: Ho, Jain and Abbeel 2020, section 4.
    """

    steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    t_min = 1.0

    def __post_init__(self) -> None:
        if self.steps < 2 or not 0 < self.beta_start < 1 or not 0 < self.beta_end < 1:
            raise ValueError(
                f"DDPM: expected steps >= 2, beta_start and beta_end between 0 and 1, got steps={self.steps}, "
                f"beta_start={self.beta_start}, beta_end={self.beta_end}."
            )

    @property
    def t_max(self) -> float:  # type: ignore[override]
        """The number of steps."""
        return float(self.steps)

    def _segment(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        table = _log_a_table(self).to(t.device)
        left = t.floor().clamp(0, self.steps - 1).long()
        slope = table[left + 1] - table[left]
        return table[left] + slope * (t - left), slope, left

    def coefficients(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """``a`` by the product of the class, ``b = (1 - a^2)^{1/2}``."""
        log_a, _, _ = self._segment(_as_time(t))
        return log_a.exp(), (-torch.expm1(2 * log_a)).sqrt()

    def derivatives(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Derivatives of the interpolation; at a whole step those to its right."""
        t = _as_time(t)
        a, b = self.coefficients(t)
        _, slope, _ = self._segment(t)
        return slope * a, -slope * a**2 / b

    def time_at(self, ratio: Tensor | float) -> Tensor:
        """The time between the two whole steps whose ``log a`` enclose it."""
        log_a = -0.5 * torch.log1p(_as_time(ratio) ** 2)
        table = _log_a_table(self).to(log_a.device)
        left = (torch.searchsorted(-table, -log_a.contiguous(), right=True) - 1).clamp(0, self.steps - 1)
        return left + (log_a - table[left]) / (table[left + 1] - table[left])


@lru_cache(maxsize=8)
def _log_a_table(process: DDPM) -> Tensor:
    """``log a`` after 0 .. T steps; every evaluation of a denoiser asks for it."""
    betas = torch.linspace(process.beta_start, process.beta_end, process.steps, dtype=torch.float64)
    return torch.cat([torch.zeros(1, dtype=torch.float64), 0.5 * torch.log1p(-betas).cumsum(0)])


@dataclass(frozen=True)
class RectifiedFlow(Diffusion):
    """Straight paths from data to noise: ``a = 1 - t``, ``b = t``, t in (0, 1].

    Source: Liu, Gong and Liu 2023; Lipman et al. 2023.
    """

    t_min = 1e-3
    t_max = 1.0

    def coefficients(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """``a = 1 - t``, ``b = t``."""
        t = _as_time(t)
        return 1 - t, t.clone()

    def derivatives(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """``a' = -1``, ``b' = 1``."""
        one = torch.ones_like(_as_time(t))
        return -one, one

    def time_at(self, ratio: Tensor | float) -> Tensor:
        """``t = ratio / (1 + ratio)``, 1 at an infinite ratio."""
        # 1 / (1 + 1/r), not r / (1 + r): an infinite ratio is the time 1.
        return 1 / (1 + 1 / _as_time(ratio))


def score_from_denoised(x_t: Tensor, x0_hat: Tensor, a: Scalar, b: Scalar) -> Tensor:
    """Score ``s = (a x0_hat - x_t) / b^2`` of ``p(x_t)``."""
    return (a * x0_hat - x_t) / b**2


def noise_from_denoised(x_t: Tensor, x0_hat: Tensor, a: Scalar, b: Scalar) -> Tensor:
    """Predicted noise ``eps = (x_t - a x0_hat) / b``."""
    return (x_t - a * x0_hat) / b


def velocity_from_denoised(
    x_t: Tensor, x0_hat: Tensor, a: Scalar, b: Scalar, a_dot: Scalar, b_dot: Scalar
) -> Tensor:
    """Probability-flow velocity ``v = a' x0_hat + b' eps``, the right side of dx_t/dt = v."""
    return a_dot * x0_hat + b_dot * noise_from_denoised(x_t, x0_hat, a, b)


def denoised_from_score(x_t: Tensor, score: Tensor, a: Scalar, b: Scalar) -> Tensor:
    """Denoised mean ``x0_hat = (x_t + b^2 s) / a`` (Tweedie)."""
    return (x_t + b**2 * score) / a


def denoised_from_noise(x_t: Tensor, noise: Tensor, a: Scalar, b: Scalar) -> Tensor:
    """Denoised mean ``x0_hat = (x_t - b eps) / a``."""
    return (x_t - b * noise) / a


def denoised_from_velocity(
    x_t: Tensor, velocity: Tensor, a: Scalar, b: Scalar, a_dot: Scalar, b_dot: Scalar
) -> Tensor:
    """Denoised mean from the velocity: ``x0_hat = (b v - b' x_t) / (a' b - a b')``."""
    return (b * velocity - b_dot * x_t) / (a_dot * b - a * b_dot)

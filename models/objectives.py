r"""Training objectives: a law of the time and a weight on the error of the denoised mean.

* ``ve``: noise level ``b/a`` log-logistic, ``w`` gives the network unit targets (Karras et al. 2022);
* ``vp``: ``t`` uniform over the DDPM steps, ``w = (a/b)^2``, the error of the noise (Ho et al. 2020);
* ``flow``: ``t`` uniform, ``w = 1/t^2``, the error of the velocity (Liu et al. 2023).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bayes_ir.models.diffusion import DDPM, Diffusion, RectifiedFlow, VarianceExploding

__all__ = ["OBJECTIVES", "FlowObjective", "Objective", "VEObjective", "VPObjective"]


class Objective(ABC):
    """A law of times and a weight ``w(a, b)`` on the squared error of the denoised mean."""

    diffusion: Diffusion

    @abstractmethod
    def draw_times(self, uniform: Tensor) -> Tensor:
        """Turn uniform numbers (batch,), float64, into times."""

    @abstractmethod
    def weight(self, a: Tensor, b: Tensor, data_std: float) -> Tensor:
        """Weight of the squared error of ``x0_hat``."""


class VEObjective(Objective):
    """Noise levels log-logistic about 0.45, truncated to [0.01, 50]; unit network targets."""

    diffusion = VarianceExploding(0.01, 50.0)
    location, scale = math.log(0.45), 0.9

    def draw_times(self, uniform: Tensor) -> Tensor:
        """Inverse distribution function of the truncated log-logistic law."""
        low, high = (
            torch.sigmoid(torch.tensor((math.log(b) - self.location) / self.scale, dtype=torch.float64))
            for b in (self.diffusion.noise_min, self.diffusion.noise_max)
        )
        ratio = (self.location + self.scale * torch.logit(low + (high - low) * uniform)).exp()
        return self.diffusion.time_at(ratio)

    def weight(self, a: Tensor, b: Tensor, data_std: float) -> Tensor:
        """``1 / (b d / w)^2`` of :mod:`bayes_ir.models.networks`: the network's own error."""
        return (b**2 + a**2 * data_std**2) / (b * data_std) ** 2


class VPObjective(Objective):
    """DDPM: uniform steps, squared error of the predicted noise."""

    diffusion = DDPM()

    def draw_times(self, uniform: Tensor) -> Tensor:
        """Whole steps 1 .. T, equally likely."""
        return (uniform * self.diffusion.steps).floor().clamp(max=self.diffusion.steps - 1) + 1

    def weight(self, a: Tensor, b: Tensor, data_std: float) -> Tensor:
        """``(a/b)^2``: the error of ``x0_hat`` in units of the noise."""
        return (a / b) ** 2


class FlowObjective(Objective):
    """Rectified flow: uniform times, squared error of the velocity."""

    diffusion = RectifiedFlow()

    def draw_times(self, uniform: Tensor) -> Tensor:
        """Uniform between ``t_min`` and ``t_max``."""
        return self.diffusion.t_min + (self.diffusion.t_max - self.diffusion.t_min) * uniform

    def weight(self, a: Tensor, b: Tensor, data_std: float) -> Tensor:
        """``1/b^2``: the error of ``x0_hat`` in units of the velocity."""
        return 1 / b**2


OBJECTIVES: dict[str, type[Objective]] = {"ve": VEObjective, "vp": VPObjective, "flow": FlowObjective}

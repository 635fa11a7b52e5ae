"""The prior's denoiser at a noise level, which is how plug-and-play methods know a prior."""

from __future__ import annotations

import torch
from torch import Tensor

from bayes_ir.models.diffusion import VarianceExploding
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["LevelDenoiser"]


class LevelDenoiser:
    """``E[x_0 | x_0 + level eps]``.

    Args:
        prior: law of the image.
        baseline: name of the function that asks, for messages.
    """

    def __init__(self, prior: DiffusionPrior, baseline: str) -> None:
        self.process = VarianceExploding(*prior.noise_range)
        self.prior = prior.with_diffusion(self.process)
        self.baseline = baseline

    def check(self, **levels: float) -> None:
        """Refuse levels the denoiser was not made for.

        Raises:
            ValueError: naming the first.
        """
        low, high = self.prior.noise_range
        for name, level in levels.items():
            if not low * (1 - 1e-9) <= level <= high * (1 + 1e-9):
                raise ValueError(
                    f"{self.baseline}: {name} is {level:.4g}, and the prior's denoiser is made for noise from "
                    f"{low:.4g} to {high:.4g}, in units of the image."
                )

    @torch.no_grad()
    def __call__(self, x: Tensor, level: float) -> Tensor:
        """The denoised mean of x (*event_shape), float64."""
        return self.prior.denoise(x.to(self.prior.dtype), self.process.time_at(level)).to(torch.float64)

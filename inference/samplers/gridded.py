"""What samplers on a named time grid have in common."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bayes_ir.inference.samplers.base import Sampler
from bayes_ir.models.diffusion import DDPM, Diffusion, VarianceExploding
from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.priors.calibrated_grid import calibrated_grid
from bayes_ir.models.time_grids import GRIDS

__all__ = ["GriddedSampler"]

_NAMES = sorted([*GRIDS, "calibrated"])
_IN_RATIO = ("geometric", "karras", "calibrated")


@dataclass(frozen=True, kw_only=True)
class GriddedSampler(Sampler):
    """Sampler on one of the grids of :mod:`bayes_ir.models.time_grids`, or on ``calibrated``.

    Grids in time (``uniform``, ``quadratic``, ``root``, ``ddim``) walk back along DDPM; grids in the noise ratio
    (``geometric``, ``karras``, and the prior's own :func:`calibrated <bayes_ir.models.priors.calibrated_grid>`) along
    the variance-exploding process over the prior's ``noise_range``.

    Attributes:
        steps: network evaluations.
        grid: name of the time grid.
    """

    steps: int = 100
    grid: str = "uniform"

    def __post_init__(self) -> None:
        if self.steps < 2 or self.grid not in _NAMES:
            raise ValueError(
                f"{type(self).__name__}: expected steps >= 2 and a grid of {_NAMES}, got "
                f"steps={self.steps}, grid={self.grid!r}."
            )

    def times(self, prior: DiffusionPrior) -> Tensor:
        if self.grid == "calibrated":
            return calibrated_grid(prior, self.steps)
        return GRIDS[self.grid](prior.diffusion, self.steps, noise_range=prior.noise_range)

    def process(self, prior: DiffusionPrior) -> Diffusion:
        return VarianceExploding(*prior.noise_range) if self.grid in _IN_RATIO else DDPM()

r"""gaussian: correlated Gaussian priors in 16 and 784 dimensions, Gaussian noise of 0.1.

    d = 16    covariance G G^T / 16 of a Gaussian matrix G, Gaussian mean;  A keeps every second coordinate
    d = 784   Matern 3/2 of length 4 on 28 x 28 pixels;  A keeps 30 % of them, or is a circular Gaussian blur

Problems of a cell share prior and blur and differ in truth, noise and mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch

from bayes_ir.bench.suites.base import Case, Cell, Suite, case_of
from bayes_ir.models import CircularBlur, DenseOperator, Gaussian, GaussianPrior, LinearOperator, Mask

__all__ = ["CorrelatedGaussian"]

F64 = torch.float64
NOISE = 0.1


@dataclass(frozen=True, kw_only=True)
class CorrelatedGaussian(Suite):
    """Correlated Gaussian priors under linear measurements.

    Attributes:
        metric: the distance that the table shows.
    """

    name: ClassVar[str] = "gaussian"
    defaults: ClassVar[tuple[str, ...]] = (
        "iid",
        "prior",
        "GuidedDiffusion()",
        "PiGDM()",
        "AnnealedLangevin(levels=200, steps_per_level=1)",
        "DPS(steps=200)",
        "DiffPIR(steps=200)",
        "DDRM(steps=200)",
    )

    def cells(self) -> tuple[Cell, ...]:
        return ({"d": 16, "A": "half"}, {"d": 784, "A": "inpainting"}, {"d": 784, "A": "blur"})

    def case(self, cell: Cell, number: int, seed: int) -> Case:
        made = self.problem_seed(1, number, seed)
        prior = _vector_prior() if cell["d"] == 16 else _image_prior()
        return case_of(prior, _operator(cell["A"], made), lambda z: Gaussian(z, NOISE), made)


def _operator(name: str, seed: int) -> LinearOperator:
    if name == "half":
        return DenseOperator(torch.eye(16, dtype=F64)[::2].clone(), dtype=F64)
    if name == "inpainting":
        kept = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(seed)) < 0.3
        return Mask(kept, dtype=F64)
    offsets = torch.arange(-4, 5, dtype=F64)
    kernel = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    return CircularBlur(kernel / kernel.sum(), (1, 28, 28), dtype=F64)


@cache
def _vector_prior() -> GaussianPrior:
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(16, 16, generator=rng, dtype=F64)
    return GaussianPrior(torch.randn(16, generator=rng, dtype=F64), root @ root.T / 16)


@cache
def _image_prior() -> GaussianPrior:
    axis = torch.arange(28, dtype=F64)
    grid = torch.cartesian_prod(axis, axis)
    distance = torch.cdist(grid, grid) * 3**0.5 / 4
    covariance = (1 + distance) * torch.exp(-distance)
    return GaussianPrior(torch.zeros(784, dtype=F64), covariance, event_shape=(1, 28, 28))

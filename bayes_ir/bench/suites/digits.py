r"""digits: a mixture of 20 probabilistic PCA models of handwritten digits, 14 x 14 pixels, with exact posteriors.

Gaussian channel, noise 0.1:

    inpainting   30 % of the pixels            average   means of 2 x 2 pixels
    blur         circular, Gaussian, 1 pixel   sensing   48 Gaussian measurements

and ``one-bit``: signs of M = 24, 48, 64 Gaussian measurements with noise 0.1 and 0.5.  Problems of a cell differ in
truth, noise, mask and matrix; the truth is drawn from the prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.bench.suites.base import Case, Cell, Suite, case_of
from bayes_ir.models import (
    BlockAverage,
    Channel,
    CircularBlur,
    DenseOperator,
    Gaussian,
    LinearOperator,
    Mask,
    OneBit,
    load_prior,
)

__all__ = ["Digits"]

F64 = torch.float64
SHAPE = (1, 14, 14)


@dataclass(frozen=True, kw_only=True)
class Digits(Suite):
    """Digits under linear and one-bit measurements.

    Attributes:
        metric: the distance that the table shows.
    """

    name: ClassVar[str] = "digits"
    defaults: ClassVar[tuple[str, ...]] = (
        "iid",
        "prior",
        "GuidedDiffusion()",
        "GuidedDiffusion(denoising_posterior=Calibrated())",
        "QCSSGMPlus(levels=200, steps_per_level=1, tolerance=0.01)",
    )

    def cells(self) -> tuple[Cell, ...]:
        linear = tuple({"A": name, "noise": 0.1} for name in ("inpainting", "blur", "average", "sensing"))
        one_bit = tuple(
            {"A": "one-bit", "m": m, "noise": noise} for m in (24, 48, 64) for noise in (0.1, 0.5)
        )
        return linear + one_bit

    def case(self, cell: Cell, number: int, seed: int) -> Case:
        made = self.problem_seed(1, number, seed)
        kind = OneBit if cell["A"] == "one-bit" else Gaussian

        def channel(z: Tensor) -> Channel:
            return kind(z, cell["noise"])

        operator = _operator(cell["A"], cell.get("m", 48), made)
        return case_of(load_prior("mnist-gmm", dtype=F64), operator, channel, made)


def _operator(name: str, m: int, seed: int) -> LinearOperator:
    rng = torch.Generator().manual_seed(seed)
    if name == "inpainting":
        return Mask(torch.rand(SHAPE, generator=rng) < 0.3, dtype=F64)
    if name == "blur":
        offsets = torch.arange(-3, 4, dtype=F64)
        kernel = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / 2)
        return CircularBlur(kernel / kernel.sum(), SHAPE, dtype=F64)
    if name == "average":
        return BlockAverage(SHAPE, 2, dtype=F64)
    return DenseOperator(torch.randn(m, 196, generator=rng, dtype=F64) / m**0.5, event_shape=SHAPE, dtype=F64)

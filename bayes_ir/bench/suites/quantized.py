r"""quantized: 1, 2 and 4 bits of Gaussian measurements, Gaussian and five-component priors, noise 0.1.

    y = cell of A x + 0.1 n,    A_ij ~ N(0, 1/d),    (d, m) in {(8, 8), (32, 32), (64, 64)}

The step is the best one for a Gaussian signal of the standard deviation that A x + 0.1 n has on average.  Exact draws
are by minimax tilting.  Problems of a cell share the prior and differ in A, truth and noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from bayes_ir.bench.suites.base import Case, Cell, Suite, case_of
from bayes_ir.models import Channel, DenseOperator, GaussianMixturePrior, GaussianPrior, OneBit, Quantized

__all__ = ["QuantizedCells"]

F64 = torch.float64
NOISE = 0.1


@dataclass(frozen=True, kw_only=True)
class QuantizedCells(Suite):
    """Quantized measurements of correlated vectors.

    Attributes:
        metric: the distance that the table shows.
    """

    name: ClassVar[str] = "quantized"
    defaults: ClassVar[tuple[str, ...]] = (
        "iid",
        "prior",
        "GuidedDiffusion()",
        "GuidedDiffusion(denoising_posterior=Calibrated())",
        "QCSSGM(levels=200, steps_per_level=1)",
        "QCSSGMPlus(levels=200, steps_per_level=1)",
    )

    def cells(self) -> tuple[Cell, ...]:
        return tuple(
            {"prior": prior, "bits": bits, "d": d, "m": d}
            for prior in ("gaussian", "mixture")
            for bits in (1, 2, 4)
            for d in (8, 32, 64)
        )

    def case(self, cell: Cell, number: int, seed: int) -> Case:
        d, m, bits = cell["d"], cell["m"], cell["bits"]
        made = self.problem_seed(1, number, seed)
        prior = _prior(cell["prior"], d)
        rng = torch.Generator().manual_seed(made)
        matrix = torch.randn(m, d, generator=rng, dtype=F64) / d**0.5
        signal = matrix @ prior.components.covariance_matrix @ matrix.T
        std = float((signal.diagonal().mean() + NOISE**2).sqrt())

        def channel(z: Tensor) -> Channel:
            return (
                OneBit(z, NOISE)
                if bits == 1
                else Quantized(z, NOISE, bits=bits, step=Quantized.step_for(std, bits))
            )

        return case_of(prior, DenseOperator(matrix, dtype=F64), channel, made)


@cache
def _prior(name: str, n: int) -> GaussianMixturePrior:
    rng = torch.Generator().manual_seed(n)
    if name == "gaussian":
        root = torch.randn(n, n, generator=rng, dtype=F64)
        mean = 0.3 * torch.randn(n, generator=rng, dtype=F64)
        return GaussianPrior(mean, root @ root.T / n + 0.1 * torch.eye(n, dtype=F64))
    roots = torch.randn(5, n, n, generator=rng, dtype=F64)
    weights = torch.arange(1, 6, dtype=F64)
    covariances = 0.3 * roots @ roots.mT / n + 0.1 * torch.eye(n, dtype=F64)
    return GaussianMixturePrior(weights, torch.randn(5, n, generator=rng, dtype=F64), covariances)

r"""gmm25: the 25-component Gaussian mixture in 8, 80 and 800 dimensions, under one, two or four measurements.

    x ~ sum_ij w_ij N(mu_ij, I),   mu_ij = (-8 i, -8 j) repeated d/2 times,   i, j in {-2 .. 2}
    y = A x + s n,   A = U diag(S) V^T from a Gaussian (d_y, d) matrix whose S is replaced by uniform numbers, sorted

and s is a uniform number times max S, one for a problem.  Weights are squares of Gaussian numbers, normalised, one set
for all problems of a dimension and a number of steps.

Of the d coordinates only ``d_y + 2`` are coupled: those along the rows of A, and what the two patterns (1, 0, 1, 0 ..)
and (0, 1, 0, 1 ..), which hold all the means, have beside them.  Along every other one prior and posterior are N(0, 1),
independent of the rest, and a sampler that treats directions alike moves it by a recursion of its own.  So the problem
is given to the kernels in an orthonormal basis of the coupled coordinates and at most two of the others, and a slice
theta of ``R^d`` becomes

    (theta along the coupled ones, theta along the others kept, scaled to the norm of theta along all the others),

under which a draw has the law of its slice in d dimensions.  ``reduced=False`` does without.  It is the same problem
for every kernel that does not look at single pixels; one that averages variances over pixels (``Isotropic()`` without
a spread, calibrations in the basis ``"scalar"``) averages over fewer.

Sources: Cardoso et al. 2023 (MCGDiff, arXiv 2308.07983), appendix B and released code; other weights, noise and A: Boys
et al. 2023 (TMPD, arXiv 2310.06721), Janati et al. 2024 (DCPS, arXiv 2403.11407).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayes_ir.bench.anchors import AnchorDDIM, AnchorDPS, AnchorGuidance, AnchorMCGDiff
from bayes_ir.bench.metrics import sphere
from bayes_ir.bench.rows import Oracle, Unconditional
from bayes_ir.bench.suites.base import Case, Cell, Suite
from bayes_ir.inference import Exact, Isotropic, Kernel, Tweedie, read_problem
from bayes_ir.models import DenseOperator, Gaussian, GaussianMixturePrior, VarianceExploding
from bayes_ir.words import look_up

__all__ = ["Gmm25"]

F64 = torch.float64
DIMENSIONS, MEASUREMENTS, STEPS = (800, 80, 8), (1, 2, 4), (20, 100)  # in the order that seeds count them
ETA = {20: 0.6, 100: 0.85}
_OTHERS = 2


@dataclass(frozen=True, kw_only=True)
class Gmm25(Suite):
    """The benchmark of MCGDiff, with the switches of those that followed.

    Attributes:
        metric: the distance that the table shows.
        weights: ``"chi2"`` (squared Gaussian numbers), ``"rand"`` (uniform ones) or ``"uniform"`` (all the same).
        sigma: ``"random"``, or the noise.
        sv: singular values of A, ``"resampled"`` or ``"raw"`` (those of the Gaussian matrix).
        reduced: use the coupled coordinates only.

    Raises:
        ValueError: for a switch out of range.
    """

    name: ClassVar[str] = "gmm25"
    defaults: ClassVar[tuple[str, ...]] = (
        "iid",
        "prior",
        "oracle",
        "anchor-dps",
        "anchor-pigdm",
        "anchor-cov",
        "anchor-mcgdiff",
        "GuidedDiffusion(denoising_posterior=Tweedie(), steps=100)",
    )
    weights: str = "chi2"
    sigma: str | float = "random"
    sv: str = "resampled"
    reduced: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        look_up("setting weights", self.weights, dict.fromkeys(("chi2", "rand", "uniform")))
        look_up("setting sv", self.sv, dict.fromkeys(("resampled", "raw")))
        if self.sigma != "random" and (isinstance(self.sigma, str) or not self.sigma > 0):
            raise ValueError(f"gmm25: sigma is {self.sigma!r}; expected 'random' or a positive number.")

    def cells(self) -> tuple[Cell, ...]:
        return tuple(
            {"d": d, "dy": dy, "steps": n}
            for n in STEPS[::-1]
            for d in DIMENSIONS[::-1]
            for dy in MEASUREMENTS
        )

    def rows(self, cell: Cell) -> dict[str, Kernel]:
        sampler = AnchorDDIM(steps=cell["steps"], eta=ETA[cell["steps"]])
        isotropic = Isotropic(with_jacobian=True, spread=1.0)
        return {
            "iid": Exact(),
            "prior": Unconditional(sampler=sampler),
            "oracle": Oracle(sampler=sampler),
            "anchor-dps": AnchorDPS(steps=sampler.steps, eta=sampler.eta),
            "anchor-pigdm": AnchorGuidance(denoising_posterior=isotropic, sampler=sampler),
            "anchor-cov": AnchorGuidance(denoising_posterior=Tweedie(), sampler=sampler),
            "anchor-mcgdiff": AnchorMCGDiff(steps=sampler.steps, eta=sampler.eta),
        }

    def case(self, cell: Cell, number: int, seed: int) -> Case:
        d, dy, steps = cell["d"], cell["dy"], cell["steps"]
        places = DIMENSIONS.index(d), MEASUREMENTS.index(dy), STEPS.index(steps)
        made = self.problem_seed(
            math.prod(p**i for p, i in zip((2, 3, 5), places, strict=True)), number, seed
        )
        rng = torch.Generator().manual_seed(made)
        u, s, vt = torch.linalg.svd(torch.randn(dy, d, generator=rng, dtype=F64), full_matrices=False)
        resampled = torch.rand(dy, generator=rng, dtype=F64).sort(descending=True).values
        s = resampled if self.sv == "resampled" else s
        scale = torch.rand((), generator=rng, dtype=F64) * s[0]
        sigma = float(scale) if self.sigma == "random" else float(self.sigma)
        means, weights = _means(d), self._weights(places[0], places[2], seed)
        k = int(torch.multinomial(weights, 1, generator=rng))
        truth = means[k] + torch.randn(d, generator=rng, dtype=F64)
        y = (u * s) @ (vt @ truth) + sigma * torch.randn(dy, generator=rng, dtype=F64)

        basis = _basis(vt, rng) if self.reduced else torch.eye(d, dtype=F64)
        prior = _prior(weights, means, basis)
        operator = DenseOperator((u * s) @ (vt @ basis), dtype=F64)

        def model() -> None:
            pyro.sample("y", Gaussian(operator(pyro.sample("x", prior)), sigma))

        directions = sphere(d, made)
        if self.reduced:
            directions = _sliced(directions, basis.numpy(), dy + 2)
        return Case(read_problem(model, {"y": y}), made, directions)

    def _weights(self, ind_d: int, ind_steps: int, seed: int) -> Tensor:
        """One set for all problems of a dimension and a number of steps."""
        rng = torch.Generator().manual_seed(10 * ind_d + ind_steps + 100 * seed)
        drawn = {
            "chi2": torch.randn(25, generator=rng, dtype=F64) ** 2,
            "rand": torch.rand(25, generator=rng, dtype=F64),
            "uniform": torch.ones(25, dtype=F64),
        }[self.weights]
        return drawn / drawn.sum()


def _means(d: int) -> Tensor:
    """``(-8 i, -8 j)`` repeated, (25, d)."""
    axis = torch.arange(-2.0, 3.0, dtype=F64)
    return -8 * torch.cartesian_prod(axis, axis).repeat(1, d // 2)


def _basis(vt: Tensor, rng: torch.Generator) -> Tensor:
    """Rows of A, the rest of the patterns, and at most two other directions: orthonormal columns, (d, n)."""
    dy, d = vt.shape
    patterns = torch.eye(2, dtype=F64).repeat(d // 2, 1)
    others = torch.randn(d, min(_OTHERS, d - dy - 2), generator=rng, dtype=F64)
    return torch.linalg.qr(torch.cat([vt.T, patterns, others], dim=1)).Q


def _prior(weights: Tensor, means: Tensor, basis: Tensor) -> GaussianMixturePrior:
    """The mixture in a basis, with the noise range that it has in all d dimensions."""
    n = basis.shape[1]
    prior = GaussianMixturePrior(weights, means @ basis, torch.eye(n, dtype=F64).repeat(25, 1, 1))
    centred = means - weights @ means
    marginal = 1 + (weights[:, None] * centred**2).sum(0).mean()  # over d pixels
    prior.noise_range = (1e-2 * float(marginal.sqrt()), prior.noise_range[1])
    return prior.with_diffusion(VarianceExploding(*prior.noise_range))  # type: ignore[return-value]


def _sliced(directions: NDArray[np.float64], basis: NDArray[np.float64], coupled: int) -> NDArray[np.float64]:
    """Slices of ``R^d`` in the basis, what they have beside it put on the other directions kept."""
    seen = directions @ basis
    others = seen[:, coupled:]
    rest = np.sqrt(np.clip(1 - (seen[:, :coupled] ** 2).sum(1), 0, None))
    norm = np.linalg.norm(others, axis=1)
    seen[:, coupled:] = others * (rest / norm)[:, None]
    return seen

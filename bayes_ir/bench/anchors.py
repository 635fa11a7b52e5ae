r"""The forward process, time grid and methods of the 25-component mixture benchmark, as its published code has them.

DDPM with T = 999 and betas that *fall* from 0.02 to 1e-4, so that the first steps are the large ones.  The grid keeps,
from t = 0 up, every step at which ``a`` has fallen by

    (1 - a_end) / (n - 2),    a_end the first a below 0.01,

since the last one kept, and fills what is left of n times up to T in equal steps, rounded up.  (The code sets one of
the n - 1 falls aside for a time that depends on the singular values of A; by mistake that time is the rank of a number
in a sorted table, and it is left out here.)  The time 0 is where the path ends, so that there are n - 1 evaluations.
Paths start from N(0, I).

    DPS        x <- DDIM move - (zeta / |r|) grad |r|^2 = DDIM move - 2 zeta grad |r|,    r = A x0_hat(x_t) - y
    guidance   x <- DDIM move with x0_hat + (b^2 / a) J^T A^T (A V A^T + s^2 I)^-1 (y - A x0_hat)

with V the exact covariance ``(b^2 / a) J`` of ``p(x_0 | x_t)`` or, for PiGDM, ``(1 - a^2) I``.  Both move, start and
end with means: :class:`bayes_ir.inference.GuidedDiffusion` starts afresh from what y says of ``x_0`` and ends in a draw
of ``N(x0_hat(x_t, y), V(x_t, y))``, which is what :class:`AnchorGuidance` takes away.  MCGDiff is
:class:`bayes_ir.inference.kernels.mcgdiff.MCGDiff` with the published settings on this grid; it starts from the prior's
law at the noisiest level under the data's factors, where the published code starts from N(0, I) under them.

Source: Cardoso et al. 2023 (MCGDiff, arXiv 2308.07983), appendix B, and its released code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from bayes_ir.inference import DDIM, DPS, Conditioned, GuidedDiffusion, Problem, Sampler
from bayes_ir.inference.kernels.mcgdiff import MCGDiff
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Level
from bayes_ir.models import DDPM, Diffusion, DiffusionPrior

__all__ = ["PROCESS", "AnchorDDIM", "AnchorDPS", "AnchorGuidance", "AnchorMCGDiff"]

PROCESS = DDPM(steps=999, beta_start=0.02, beta_end=1e-4)
_END = 1e-2


@dataclass(frozen=True, kw_only=True)
class AnchorDDIM(DDIM):
    """DDIM on the grid and the process of the benchmark, started from N(0, I).

    Attributes:
        steps: times n, the clean one included.
        eta: stochasticity.
    """

    steps: int = 100
    grid: str = field(default="uniform", init=False, repr=False)
    eta: float = 0.85

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 3:
            raise ValueError(f"AnchorDDIM: expected steps >= 3, got {self.steps}.")

    def process(self, prior: DiffusionPrior) -> Diffusion:
        return PROCESS

    def times(self, prior: DiffusionPrior) -> Tensor:
        return _times(self.steps)

    def start(self, prior: DiffusionPrior, first: Level, rng: Rng) -> Tensor:
        return rng.normal(*prior.event_shape)


@lru_cache(maxsize=8)
def _times(n: int) -> Tensor:
    a, _ = PROCESS.coefficients(torch.arange(PROCESS.steps + 1))
    end = int((a < _END).nonzero()[0])
    fall = float(1 - a[end]) / (n - 2)
    kept = [0]
    for t in range(1, end):
        if a[kept[-1]] - a[t] >= fall:
            kept.append(t)
    rest = torch.linspace(kept[-1], PROCESS.steps, n - len(kept) + 1, dtype=torch.float64)[1:].ceil()
    return torch.cat([torch.tensor(kept[1:], dtype=torch.float64), rest]).flip(0)


@dataclass(frozen=True, kw_only=True)
class AnchorDPS(DPS):
    """DPS with DDIM moves on the grid of the benchmark; ``zeta`` is twice the published one.

    Attributes:
        steps: times n, the clean one included.
        zeta: step along ``grad |r|``.
        weight: as :class:`bayes_ir.inference.DPS`.
        diffusion: forward process.
        eta: stochasticity of the moves.
    """

    steps: int = 100
    zeta: float = 0.2
    diffusion: Diffusion = PROCESS
    eta: float = 0.85

    @property
    def sampler(self) -> Sampler:
        return AnchorDDIM(steps=self.steps, eta=self.eta)


@dataclass(frozen=True, kw_only=True)
class AnchorGuidance(GuidedDiffusion):
    """Guided diffusion that moves, starts and ends with means, on the grid of the benchmark.

    Attributes:
        denoising_posterior: ``Tweedie()`` for the exact covariance, ``Isotropic(with_jacobian=True, spread=1.0)`` for
            PiGDM.
        sampler: how the denoiser becomes a path.
        steps: times n, the clean one included.
        drawn: stays False.
        scale: weight of the measurement score.
        per_site: as :class:`bayes_ir.inference.GuidedDiffusion`.
    """

    sampler: Sampler = AnchorDDIM()  # type: ignore[misc]
    drawn: bool = False

    def condition(self, problem: Problem, prior: DiffusionPrior, state: PathState, rng: Rng) -> Conditioned:
        return replace(super().condition(problem, prior, state, rng), spread=None)


@dataclass(frozen=True, kw_only=True)
class AnchorMCGDiff(MCGDiff):
    """MCGDiff as the benchmark ran it: clouds of 1000 particles, resampled at every step.

    Attributes:
        steps: times n, the clean one included.
        grid: not used.
        eta: stochasticity of the moves.
    """

    steps: int = 100
    grid: str = field(default="uniform", init=False, repr=False)
    eta: float = 0.85
    spread: str = "published"
    ess_threshold: float = 1.0
    resampling: str = "multinomial"
    kappa: float | None = 1e-2

    @property
    def sampler(self) -> DDIM:
        return AnchorDDIM(steps=self.steps, eta=self.eta)

r"""The probability flow: the ordinary differential equation with the marginals of the forward process.

In ``X = x / a`` and the noise ratio ``r = b / a`` it is the same for every process,

    dX/dr = eps_hat(x) = (x - a x0_hat) / b.

From r to the smaller r', at first order (``"euler"``) and at second (``"heun"``)

    X'  = X + (r' - r) eps_hat                      or    x' = a' x0_hat + b' eps_hat,
    X'' = X + (r' - r) (eps_hat + eps_hat') / 2,    eps_hat' at X' and r'.

Euler's rule is DDIM with ``eta = 0``.  Heun's needs a second evaluation a step, so that every level but the first is
visited twice: the first visit corrects the arrival there, the second leaves.  The last step, to the clean image,
is Euler's and ends in ``x0_hat``.

Source: Song et al. 2021 (arXiv 2011.13456), equation 13; Karras et al. 2022 (arXiv 2206.00364), algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers.base import Level, Visit
from bayes_ir.inference.samplers.gridded import GriddedSampler
from bayes_ir.models.diffusion import Scalar
from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.time_grids import GRIDS

__all__ = ["ProbabilityFlow"]


@dataclass(frozen=True, kw_only=True)
class ProbabilityFlow(GriddedSampler):
    """Probability flow by Heun's or Euler's rule in the noise ratio.

    Attributes:
        steps: budget of network evaluations.  Heun's rule on n levels makes ``2 n - 1``, n the largest number that
            fits: ``steps`` evaluations where it is odd, one fewer where it is even.
        grid: name of the time grid, n levels of it.  (The ``ddim`` grid may have more than it was asked for;
            ``len(times(prior))`` is the number of evaluations that are made.)
        method: ``"heun"`` (order 2) or ``"euler"`` (order 1).

    Raises:
        ValueError: for an unknown method or grid, or fewer than 3 steps (2 for Euler's rule).
    """

    steps: int = 35
    grid: str = "karras"
    method: str = "heun"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in ("heun", "euler") or (self.method == "heun" and self.steps < 3):
            raise ValueError(
                f"{type(self).__name__}: expected method 'heun' with steps >= 3 or 'euler', got "
                f"method={self.method!r}, steps={self.steps}."
            )

    def times(self, prior: DiffusionPrior) -> Tensor:
        if self.method == "euler":
            return super().times(prior)
        levels = GRIDS[self.grid](prior.diffusion, (self.steps + 1) // 2, noise_range=prior.noise_range)
        return levels.repeat_interleave(2)[1:]

    def move(self, visit: Visit, before: Visit | None, then: Level, curvature: Scalar, rng: Rng) -> Tensor:
        corrects = then == visit.level
        start = before if corrects and before is not None else visit
        moved = then.a * start.x0_hat + then.b * start.eps_hat
        if not corrects:
            return moved
        return moved + 0.5 * self._length(start.level, then) * (self._slope(visit) - self._slope(start))

    def _slope(self, visit: Visit) -> Tensor:
        """``dX/dr``."""
        return visit.eps_hat

    def _length(self, start: Level, end: Level) -> float:
        """``r' - r`` in units of ``x' = a' X'``."""
        return end.a * (end.ratio - start.ratio)

r"""The flow of rectified flow, ``dx/dt = v`` with ``v = eps_hat - x0_hat``.

Under ``a = 1 - t``, ``b = t`` the probability flow is the ordinary differential equation that a flow model learns, and

    x'  = x + (t' - t) v                   ("euler")
    x'' = x + (t' - t) (v + v') / 2        ("heun", v' at x' and t')

are its rules.  It is a sampler of its own only for Heun's: Euler's step ``a' x0_hat + b' eps_hat`` is the same in every
coordinate, DDIM with ``eta = 0``, whereas Heun's averages slopes, and those in t are not those in ``b / a``.  Unlike
``b / a``, t is finite where the signal is lost.  Under another process the coordinate is ``b / (a + b)`` of
``x / (a + b)``, which is t of x here.

The times lie within the ``noise_range`` of the prior, so that the path starts a little below ``t = 1``, from the law
of ``x_t`` there.

Source: Liu, Gong and Liu 2023 (arXiv 2209.03003), equation 1; Lipman et al. 2023 (arXiv 2210.02747), equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bayes_ir.inference.samplers.base import Level, Visit
from bayes_ir.inference.samplers.probability_flow import ProbabilityFlow
from bayes_ir.models.diffusion import Diffusion, RectifiedFlow
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["FlowODE"]


@dataclass(frozen=True, kw_only=True)
class FlowODE(ProbabilityFlow):
    """Rectified flow by Heun's or Euler's rule in t.

    Attributes:
        steps: budget of network evaluations, as in :class:`ProbabilityFlow`.
        grid: name of the time grid.
        method: ``"heun"`` (order 2) or ``"euler"`` (order 1).

    Raises:
        ValueError: as :class:`ProbabilityFlow`.
    """

    grid: str = "uniform"

    def process(self, prior: DiffusionPrior) -> Diffusion:
        return RectifiedFlow()

    def _slope(self, visit: Visit) -> Tensor:
        """``v``."""
        return visit.eps_hat - visit.x0_hat

    def _length(self, start: Level, end: Level) -> float:
        """``t' - t``."""
        return end.b - (end.a + end.b) * start.b / (start.a + start.b)

r"""``p(y | x_t)`` and its score by nested sampling: inner draws of ``p(x_0 | x_t)``, weighted by ``p(y | x_0)``.

Draws are made in rounds, each as many as there are already, until ``log p(y | x_t)`` has the wanted standard error and
the weights the least effective number of draws,

    ess = (sum w)^2 / sum w^2,

or the cap is reached.  With few effective draws neither the estimate nor its error means anything: a single draw that
fits better than all others carries both.  Their number falls as ``exp`` of the squared distance between
``p(x_0 | x_t, y)`` and ``p(x_0 | x_t)``, so that many precise measurements can be answered at small noise only.  What
they still hide shows in the tail of the weights, to whose largest ``min(n / 5, 3 n^{1/2})`` a generalised Pareto law is
fitted: of a shape k above 1/2 the variance is infinite, and the standard error too small.

Source: Owen 2013, chapter 9 (effective size); Vehtari et al. 2024 (arXiv 1507.02646) for the tail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.jensen.inner import InnerSampler
from bayes_ir.inference.jensen.reference import Estimate, Reference
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.rng import Rng

__all__ = ["Effort", "Nested", "inner_moments", "nested_reference", "pareto_shape"]

_GROUPS = 20
_AT_ONCE = 480  # images in memory


@dataclass(frozen=True)
class Effort:
    """How much nested sampling may cost.

    Attributes:
        wanted_error: standard error of ``log p(y | x_t)`` to reach, nats.
        least_ess: effective number of draws below which an estimate is no estimate.
        inner_draws: most inner draws per state.
        inner_steps: noise levels of the reverse process that makes them, where the law is not known.

    Raises:
        ValueError: for settings out of range.
    """

    wanted_error: float = 0.1
    least_ess: float = 50.0
    inner_draws: int = 3840
    inner_steps: int = 48

    def __post_init__(self) -> None:
        least = 6 * _GROUPS
        if not (self.wanted_error > 0 and self.least_ess >= 2):
            raise ValueError(
                f"nested sampling: expected wanted_error > 0 and least_ess >= 2, got {self.wanted_error} and "
                f"{self.least_ess}."
            )
        if self.inner_draws < least or self.inner_steps < 2:
            raise ValueError(
                f"nested sampling: expected inner_draws >= {least} and inner_steps >= 2, got {self.inner_draws} and "
                f"{self.inner_steps}."
            )


class Nested(NamedTuple):
    """What inner draws say at one ``x_t``."""

    reference: Reference
    distance: Estimate  # m_1 = E |x_0 - x0_hat| given x_t
    bias: float  # of the mean of the draws, in units of their spread; 0 up to chance for exact draws
    tail: float = math.nan  # k of the weights; NaN for an exact answer


class _Moments:
    """``E |x_0 - x0_hat|``, and how far the mean of the draws is from x0_hat."""

    def __init__(self, x0_hat: Tensor) -> None:
        self._centre, self._n = x0_hat.double().flatten(), 0
        self._sum, self._first, self._second = torch.zeros_like(self._centre), 0.0, 0.0

    def add(self, x: Tensor) -> None:
        apart = x.double().flatten(1) - self._centre
        squared = apart.square().sum(1)
        self._n += len(apart)
        self._sum = self._sum + apart.sum(0)
        self._first, self._second = (
            self._first + float(squared.sqrt().sum()),
            self._second + float(squared.sum()),
        )

    @property
    def distance(self) -> Estimate:
        mean = self._first / self._n
        variance = max(self._second / self._n - mean**2, 0.0)
        return Estimate(mean, math.sqrt(variance / self._n))

    @property
    def bias(self) -> float:
        offset = float((self._sum / self._n).square().sum())
        spread = self._second / self._n - offset
        excess = max(offset - spread / self._n, 0.0)
        return math.sqrt(excess / spread) if spread > 0 else 0.0


@torch.no_grad()
def inner_moments(sampler: InnerSampler, x0_hat: Tensor, rng: Rng) -> _Moments:
    """The moments of one round of inner draws."""
    moments = _Moments(x0_hat)
    moments.add(sampler.draw(rng))
    return moments


@torch.no_grad()
def nested_reference(
    problem: Problem,
    sampler: InnerSampler,
    x0_hat: Tensor,
    effort: Effort,
    rng: Rng,
    on_round: Callable[[], None] = lambda: None,
) -> Nested:
    """The likelihood of one ``x_t``.

    Args:
        problem: what is measured; any operator and channel.
        sampler: of ``p(x_0 | x_t)``.
        x0_hat: denoised mean, (*event_shape).
        effort: when to stop.
        rng: where the generators of the rounds are spawned from.
        on_round: called after every batch of draws.
    """
    moments, sums = _Moments(x0_hat), _Sums(x0_hat)
    goal = min(240, effort.inner_draws // _GROUPS * _GROUPS)
    while True:
        while sums.draws < goal:
            x = sampler.draw(rng.spawn(min(_AT_ONCE, goal - sums.draws)))
            sums.add(problem.log_likelihood(x).flatten(1).double().sum(1), x)
            moments.add(x)
            on_round()
        found = sums.reference()
        enough = found.ess >= effort.least_ess and found.log_likelihood.error <= effort.wanted_error
        if enough or 2 * goal > effort.inner_draws:
            return Nested(found, moments.distance, moments.bias, pareto_shape(sums.log_weights))
        goal *= 2


def pareto_shape(log_weights: Tensor) -> float:
    """K of the generalised Pareto law of the largest weights, by maximum likelihood; ``-inf`` where all are alike."""
    log_w = log_weights.double().sort().values
    count = math.ceil(min(len(log_w) / 5, 3 * len(log_w) ** 0.5))
    weight = (log_w - log_w[-1]).exp()
    excess = (weight[-count:] - weight[-count - 1]).numpy()
    if not excess[-1] > 1e-12:
        return -math.inf
    from scipy.stats import genpareto  # half a second, which importing the library must not cost

    return float(genpareto.fit(excess, floc=0.0)[0])


class _Sums:
    """Sums over groups of draws, weights in log space."""

    def __init__(self, x0_hat: Tensor) -> None:
        self._centre = x0_hat.double().flatten().cpu()
        n = self._centre.numel()
        self._log_weight = torch.full((_GROUPS,), -torch.inf, dtype=torch.float64)
        self._weighted = torch.zeros(_GROUPS, n, dtype=torch.float64)
        self._plain = torch.zeros(_GROUPS, n, dtype=torch.float64)
        self._log_squares = torch.tensor(-torch.inf, dtype=torch.float64)
        self._all: list[Tensor] = []
        self.draws = 0

    @property
    def log_weights(self) -> Tensor:
        """``log w`` of all draws."""
        return torch.cat(self._all)

    def add(self, log_w: Tensor, x: Tensor) -> None:
        """Draws x (n, *event_shape) of log weights (n,), n a multiple of the number of groups."""
        self._all.append(log_w.cpu())
        log_w = log_w.cpu().reshape(_GROUPS, -1)
        apart = (x.double().flatten(1).cpu() - self._centre).reshape(*log_w.shape, -1)
        here = log_w.logsumexp(1)
        total = torch.logaddexp(self._log_weight, here)
        known, new = (self._log_weight - total).exp(), (here - total).exp()
        mean = torch.einsum("gs,gsn->gn", log_w.softmax(1), apart)
        self._weighted = known[:, None] * self._weighted + new[:, None] * mean
        self._plain = self._plain + apart.sum(1)
        self._log_squares = torch.logaddexp(self._log_squares, (2 * log_w).logsumexp((0, 1)))
        self._log_weight, self.draws = total, self.draws + log_w.numel()

    def reference(self) -> Reference:
        ess = float((2 * self._log_weight.logsumexp(0) - self._log_squares).exp())
        mean = self._plain * (_GROUPS / self.draws)
        return Reference(self._log_weight, self._weighted, mean, math.log(self.draws), ess, self.draws)

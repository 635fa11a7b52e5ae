r"""What ``p(y | x_t)`` and its score are, from groups of weighted images, with errors by the jackknife.

By Bayes' rule and Tweedie's formula the likelihood of ``x_t`` and its score are

    p(y | x_t)                  = E[w],    w = p(y | x_0),  x_0 ~ p(x_0 | x_t)
    grad_{x_t} log p(y | x_t)   = (a / b^2) delta,    delta = E[x_0 | x_t, y] - E[x_0 | x_t] = E[w x_0] / E[w] - E[x_0].

Draws are put in G groups of equal share, each known by its sums.  With ``f`` any of the figures below as a function of
all groups and ``f_g`` the same without group g, the jackknife gives

    bias corrected   G f - (G - 1) mean_g f_g
    standard error   ((G - 1) / G sum_g (f_g - mean f_g)^2)^{1/2}.

Of the figures only ``log E[w]`` (a log of a mean) and ``|delta|^2`` (a square of a mean) are biased to first order, and
these are corrected; all others follow from them.  One group of no error stands for an exact answer.

Source: Efron 1982, chapter 2 (the jackknife of groups); Owen 2013, chapter 9 (effective sample size).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Comparison", "Estimate", "Reference", "jackknife"]


class Estimate(NamedTuple):
    """A figure and its standard error."""

    value: float
    error: float


class Comparison(NamedTuple):
    """How far an approximation of the score is from the score."""

    norm_ratio: Estimate  # |s_q| / |s|
    cosine: Estimate
    relative_error: Estimate  # |s_q - s| / |s|


@dataclass(frozen=True)
class Reference:
    """Sums over groups of images at one ``x_t``, float64; divided by the size of a group or not, all alike.

    Attributes:
        log_weight: ``log sum w`` of every group, (G,).
        weighted: ``sum w (x_0 - c)`` divided by ``exp(log_weight)``, (G, N), for any centre c.
        mean: ``E[x_0] - c``, estimated by every group or the same for all, (G, N).
        log_size: log of what to divide the sum of all weights by.
        ess: effective number of draws, ``(sum w)^2 / sum w^2``; infinite for an exact answer.
        draws: number of draws; 0 for an exact answer.
    """

    log_weight: Tensor
    weighted: Tensor
    mean: Tensor
    log_size: float = 0.0
    ess: float = math.inf
    draws: int = 0

    @property
    def log_likelihood(self) -> Estimate:
        """``log p(y | x_t)``, corrected for the bias of the logarithm."""
        groups = len(self.log_weight)
        whole = self.log_weight.logsumexp(0)
        if groups == 1:
            return Estimate(float(whole) - self.log_size, 0.0)
        left = _without(self.log_weight[:, None])[..., 0] + math.log(groups / (groups - 1))
        found = jackknife(whole, left)
        return Estimate(found.value - self.log_size, found.error)

    @property
    def delta(self) -> Tensor:
        """``E[x_0 | x_t, y] - E[x_0 | x_t]``, (N,)."""
        return self._deltas()[0]

    def score_norm(self, scale: float) -> Estimate:
        """``|grad_{x_t} log p(y | x_t)|`` with ``scale = a / b^2``; NaN where the noise hides it."""
        squared = self._squared()
        if not squared.value > 0:
            return Estimate(math.nan, math.nan)
        norm = math.sqrt(squared.value)
        return Estimate(scale * norm, scale * squared.error / (2 * norm))

    def compare(self, shift: Tensor) -> Comparison:
        """Compare with an approximation of ``delta``, (N,).

        An approximation of no score at all, as that of a channel that says nothing, has no direction: its cosine is
        NaN.
        """
        whole, left = self._deltas()
        squared = self._squared()
        if not squared.value > 0:
            nothing = Estimate(math.nan, math.nan)
            return Comparison(nothing, nothing, nothing)
        q = shift.double()
        size = q.norm()
        corrected = torch.as_tensor(squared.value, dtype=torch.float64)

        def figures(inner: Tensor, norm2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            apart = (size**2 - 2 * inner + norm2).clamp(min=0)
            return size / norm2.sqrt(), inner / (size * norm2.sqrt()), (apart / norm2).sqrt()

        # <q, delta> is linear in delta: its bias, that of the weights' normalisation, goes by the jackknife too.
        inner = whole @ q if left is None else _corrected(whole @ q, left @ q)
        values = figures(inner, corrected)
        if left is None:
            return Comparison(*(Estimate(float(value), 0.0) for value in values))
        spread = figures(left @ q, left.square().sum(1))
        errors = [jackknife(value, leave).error for value, leave in zip(values, spread, strict=True)]
        return Comparison(
            *(Estimate(float(value), error) for value, error in zip(values, errors, strict=True))
        )

    def _squared(self) -> Estimate:
        """``|delta|^2``, corrected for the noise of delta."""
        whole, left = self._deltas()
        if left is None:
            return Estimate(float(whole.square().sum()), 0.0)
        return jackknife(whole.square().sum(), left.square().sum(1))

    def _deltas(self) -> tuple[Tensor, Tensor | None]:
        """``delta`` of all groups, and without each of them in turn, (G, N)."""
        share = self.log_weight.softmax(0)[:, None]
        whole = (share * self.weighted).sum(0) - self.mean.mean(0)
        groups = len(self.log_weight)
        if groups == 1:
            return whole, None
        kept = torch.ones(groups, groups, dtype=torch.float64) - torch.eye(groups, dtype=torch.float64)
        shares = (self.log_weight + kept.log()).softmax(1)
        return whole, shares @ self.weighted - kept @ self.mean / (groups - 1)


def jackknife(whole: Tensor, left: Tensor) -> Estimate:
    """Bias-corrected value and standard error from a figure of all groups and those without each, (G,)."""
    groups = len(left)
    error = ((groups - 1) / groups * (left - left.mean()).square().sum()).sqrt()
    return Estimate(float(_corrected(whole, left)), float(error))


def _corrected(whole: Tensor, left: Tensor) -> Tensor:
    groups = len(left)
    return groups * whole - (groups - 1) * left.mean()


def _without(log_values: Tensor) -> Tensor:
    """``log sum`` of the rows without each row in turn, for (G, K)."""
    groups = len(log_values)
    kept = torch.ones(groups, groups, dtype=torch.float64) - torch.eye(groups, dtype=torch.float64)
    return (log_values[None] + kept.log()[..., None]).logsumexp(1)

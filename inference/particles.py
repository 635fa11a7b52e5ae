r"""Particles: weights, resampling, evidence and genealogies of clouds that are run side by side.

A cloud of N particles with weights ``w_i`` (kept as logarithms) stands for a law; C clouds are independent of each
other and every function takes them together, (C, N).  Where the effective sample size

    ESS = (sum_i w_i)^2 / sum_i w_i^2

has fallen below a share of N, the cloud is resampled: particle i is kept ``n_i`` times with ``E[n_i] = N W_i``,
``W_i = w_i / sum_j w_j``, and the weights become one.  Either from one uniform number u (systematic: the particles in
whose interval of the cumulative weights ``(u + k) / N`` falls, so that ``|n_i - N W_i| < 1``) or from N of them
(multinomial: independent draws).  The evidence

    Z_hat = prod over resamplings of mean_i w_i, times mean_i w_i at the end

is unbiased where every cloud is resampled at fixed times, and consistent in any case.  With ``E_i`` the particle of the
start that i descends from ("Eve") and R the number of multinomial resamplings, its relative variance is estimated from
one run of the cloud by

    var(Z_hat) / Z^2  ~  1 - (N / (N - 1))^{R + 1} (1 - S),    S = sum over Eves e of (sum_{i : E_i = e} W_i)^2.

Systematic resampling adds less to S than it would have to for this: with R = 0, ``var ~ S - 1 / N``, the estimate is on
the safe side.  Where all particles descend from one it is 1 and says only that the variance is not known.

Sources: Liu and Chen 1995 (ESS); Kitagawa 1996 (systematic resampling); Chan and Lai 2013 (variance from genealogies);
Lee and Whiteley 2018 (arXiv 1509.00394; the factor in front).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bayes_ir.inference.ordering import like_beside_like

__all__ = [
    "Clouds",
    "effective_sample_size",
    "multinomial",
    "normalised",
    "resample_where_needed",
    "share",
    "systematic",
    "take",
]


def normalised(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Weights that sum to one, and ``log mean_i w_i``.

    NaN counts as no weight.  Where no particle has weight all have the same, and the mean is ``-inf``.

    Args:
        log_w: logarithms of weights, (*clouds, N).

    Returns:
        W, (*clouds, N), and log means, (*clouds,), both float64.
    """
    log_w = log_w.double()
    log_w = torch.where(log_w.isnan(), -torch.inf, log_w)
    total = log_w.logsumexp(-1, keepdim=True)
    log_w = torch.where(total == -torch.inf, 0.0, log_w)
    return log_w.softmax(-1), total[..., 0] - math.log(log_w.shape[-1])


def effective_sample_size(log_w: Tensor) -> Tensor:
    """``(sum w)^2 / sum w^2`` of weights (*clouds, N): (*clouds,), float64, between 1 and N."""
    return 1 / normalised(log_w)[0].square().sum(-1)


def systematic(weights: Tensor, u: Tensor, count: int) -> Tensor:
    """Ancestors from one uniform number a cloud.

    Args:
        weights: non-negative, (C, N), normalised or not.
        u: uniform on [0, 1), (C,).
        count: number of ancestors.

    Returns:
        Numbers of particles, (C, count), int64, ascending.
    """
    grid = torch.arange(count, dtype=torch.float64, device=weights.device)
    return _cells(weights, (u.double()[:, None] + grid) / count)


def multinomial(weights: Tensor, u: Tensor) -> Tensor:
    """Independent ancestors from uniform numbers (C, count), as :func:`systematic`, in no order."""
    return _cells(weights, u.double())


def resample_where_needed(
    log_w: Tensor, threshold: float, u: Tensor, like: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Resample the clouds whose effective sample size is below ``threshold * N``.

    Args:
        log_w: logarithms of weights, (C, N).
        threshold: share of N; at 1 every cloud is resampled, at 0 none.
        u: uniform numbers: (C,) for systematic resampling, (C, N) for multinomial.
        like: what places particles beside each other in systematic resampling, (C, N, *shape); by default their number.

    Returns:
        Ancestors (C, N), int64, of a cloud that is left alone ``0 .. N - 1``; the log weights after, (C, N); what is
        to be added to the log evidence, (C,); which clouds were resampled, (C,).
    """
    count = log_w.shape[-1]
    weights, log_mean = normalised(log_w)
    resampled = (effective_sample_size(log_w) < threshold * count) | (threshold >= 1)
    drawn = torch.arange(count, device=log_w.device).expand_as(log_w)
    if resampled.any():
        drawn = _ordered(weights, u, count, like) if u.ndim == 1 else multinomial(weights, u)
    rows = resampled[:, None]
    ancestors = torch.where(rows, drawn, torch.arange(count, device=log_w.device))
    return ancestors, torch.where(rows, 0.0, log_w.double()), torch.where(resampled, log_mean, 0.0), resampled


def _ordered(weights: Tensor, u: Tensor, count: int, like: Tensor | None) -> Tensor:
    """:func:`systematic` with like particles beside each other; the ancestors ascend all the same."""
    if like is None:
        return systematic(weights, u, count)
    order = like_beside_like(like)
    return order.gather(1, systematic(weights.gather(1, order), u, count)).sort(dim=1).values


def take(x: Tensor, ancestors: Tensor) -> Tensor:
    """The particles of x (C, N, ...) that descend from ancestors (C, count): (C, count, ...)."""
    return x[torch.arange(len(x), device=x.device)[:, None], ancestors]


def share(log_w: Tensor, u: Tensor, draws: int, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Draws from all clouds, systematically and as evenly as goes: the first clouds give one more.

    Args:
        log_w: logarithms of weights, (C, N).
        u: uniform numbers, (C,).
        draws: number of draws, at least C.
        like: as in :func:`resample_where_needed`.

    Returns:
        Cloud and particle of every draw, (draws,) each, int64.
    """
    weights, _ = normalised(log_w)
    clouds = len(weights)
    counts = [(draws + clouds - 1 - c) // clouds for c in range(clouds)]
    rows = [slice(c, c + 1) for c in range(clouds)]
    found = [
        _ordered(weights[c], u[c], n, None if like is None else like[c])[0]
        for c, n in zip(rows, counts, strict=True)
    ]
    cloud = torch.repeat_interleave(torch.arange(clouds), torch.tensor(counts)).to(log_w.device)
    return cloud, torch.cat(found)


@dataclass(frozen=True)
class Clouds:
    """Weights and genealogies of C clouds of N particles; the particles themselves are kept by their owner.

    Attributes:
        log_w: logarithms of the weights since the last resampling, (C, N), float64.
        eve: the particle of the start that each descends from, (C, N), int64.
        collected: log evidence up to the last resampling, (C,).
        least: smallest effective sample size so far, (C,).
        redrawn: number of multinomial resamplings so far, (C,), int64.
    """

    log_w: Tensor
    eve: Tensor
    collected: Tensor
    least: Tensor
    redrawn: Tensor

    @classmethod
    def start(cls, clouds: int, particles: int, device: torch.device | str = "cpu") -> Clouds:
        """Equal weights; every particle is its own Eve."""
        log_w = torch.zeros(clouds, particles, dtype=torch.float64, device=device)
        eve = torch.arange(particles, device=device).expand(clouds, -1)
        none = log_w[:, 0]
        return cls(log_w, eve, none, none + particles, none.long())

    def weighted(self, log_factor: Tensor) -> Clouds:
        """The same particles with their weights multiplied by ``exp(log_factor)``, (C, N)."""
        log_w = self.log_w + log_factor.double()
        return replace(self, log_w=log_w, least=torch.minimum(self.least, effective_sample_size(log_w)))

    def resampled(self, threshold: float, u: Tensor, like: Tensor | None = None) -> tuple[Clouds, Tensor]:
        """:func:`resample_where_needed`: the clouds after, and the ancestors (C, N) for :func:`take`."""
        ancestors, log_w, increment, resampled = resample_where_needed(self.log_w, threshold, u, like)
        after = Clouds(
            log_w,
            take(self.eve, ancestors),
            self.collected + increment,
            self.least,
            self.redrawn + resampled if u.ndim == 2 else self.redrawn,
        )
        return after, ancestors

    @property
    def log_evidence(self) -> Tensor:
        """``log Z_hat`` of every cloud, (C,)."""
        return self.collected + normalised(self.log_w)[1]

    @property
    def log_evidence_error(self) -> Tensor:
        """Standard error of ``log Z_hat`` from the genealogy, (C,); near 1 it says only that it is large."""
        weights, _ = normalised(self.log_w)
        families = torch.zeros_like(weights).scatter_add_(1, self.eve, weights)
        count = weights.shape[-1]
        kept = (count / (count - 1)) ** (self.redrawn + 1)
        return (1 - kept * (1 - families.square().sum(-1))).clamp(min=0).sqrt()


def _cells(weights: Tensor, position: Tensor) -> Tensor:
    """The particles in whose interval of the cumulative weights (C, N) positions (C, count) on [0, 1) fall."""
    cumulative = weights.double().cumsum(-1)
    cumulative = cumulative / cumulative[:, -1:]
    inside = position.clamp(max=1 - 2.0**-53).contiguous()  # u + k rounds
    return torch.searchsorted(cumulative.contiguous(), inside, right=True)

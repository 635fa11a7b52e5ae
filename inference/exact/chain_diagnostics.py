r"""How well Markov chains mix: split R-hat and the effective number of states.

Every chain is cut in two, which gives ``m`` sequences of ``n`` states.  With W the mean of their variances and B the
variance of their means,

    rhat = sqrt((n - 1) / n + B / W)

is near one where the halves of all chains agree, and about ``sqrt(1 + 1 / e)`` for sequences worth e independent states
each: many short chains have a large rhat however well each has forgotten its start.  With ``c_t`` the mean
autocovariance at lag t (divided by n) and ``v = c_0 + B``,

    rho_t = 1 - (n c_0 / (n - 1) - c_t) / v,       P_k = rho_2k + rho_2k+1
    ess   = m n / (2 sum_k P_k - 1),

the sum running while P_k is positive, each P_k taken no larger than the one before (Geyer's initial monotone
sequence).

Source: Gelman et al. 2013 (Bayesian Data Analysis, third edition), section 11.4; Geyer 1992; Vehtari et al. 2021
(arXiv 1903.08008), equations 1 to 4 and 10 to 13, without their ranks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["effective_size", "split_rhat"]


def split_rhat(chains: Tensor) -> Tensor:
    """Split R-hat of every coordinate, (D,).

    Args:
        chains: (chains, states, D), at least four states; of an odd number the middle one is left out.
    """
    halves = _halves(chains)
    n = halves.shape[1]
    between, within = halves.mean(1).var(0), halves.var(1).mean(0)
    return ((n - 1) / n + between / within).sqrt()


def effective_size(chains: Tensor) -> Tensor:
    """Effective number of states of all chains together, of every coordinate, (D,).

    Args:
        chains: as for :func:`split_rhat`.

    The number is at most ``m n log10(m n)``, for chains whose states alternate.
    """
    halves = _halves(chains)
    m, n, _ = halves.shape
    spectrum = torch.fft.rfft(halves - halves.mean(1, keepdim=True), n=2 * n, dim=1)
    covariance = torch.fft.irfft(spectrum.abs().square(), n=2 * n, dim=1)[:, :n].mean(0) / n  # c_t, (n, D)
    total = covariance[0] + halves.mean(1).var(0)
    rho = 1 - (covariance[0] * n / (n - 1) - covariance) / total
    rho[0] = 1.0
    pairs = rho[: n - n % 2].unflatten(0, (-1, 2)).sum(1)
    pairs = pairs.cummin(0).values.clamp(min=0)
    time = (2 * pairs.sum(0) - 1).clamp(min=1 / math.log10(m * n))
    return m * n / time


def _halves(chains: Tensor) -> Tensor:
    """(2 chains, states // 2, D)."""
    half = chains.shape[1] // 2
    return torch.cat([chains[:, :half], chains[:, -half:]])

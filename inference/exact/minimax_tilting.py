r"""A Gaussian restricted to a box: independent exact draws, and the probability of the box, by minimax tilting.

Let ``z ~ N(m, S)`` on ``lower <= z < upper``, with coordinates ordered so that ``S = L L^T``, ``L`` lower triangular.
In ``z = m + L v`` the box is a chain of intervals,

    a_k(v) <= v_k < b_k(v),     a_k(v) = (lower_k - m_k - sum_{j<k} L_kj v_j) / L_kk,     b_k alike with upper_k.

Drawing one v_k after the other from ``N(mu_k, 1)`` on its interval gives a point of the box the weight ``exp(psi)``,

    psi(v, mu) = sum_k  mu_k^2 / 2 - v_k mu_k + log P_k,     P_k = Phi(b_k - mu_k) - Phi(a_k - mu_k),

so that ``P(lower <= z < upper) = E exp(psi(v, mu))`` for any mu.  With ``mu_M = 0`` psi depends on ``v_1 .. v_{M-1}``
only, in which it is concave; it is convex in mu.  Its saddle point

    psi* = min_mu max_v psi(v, mu):     mu_k - v_k + d_k = 0,     sum_{i>k} L_ik d_i / L_ii - mu_k = 0,

with ``d_k`` the mean of a standard normal on ``[a_k - mu_k, b_k - mu_k)``, is thus the least upper bound of the weights
that a tilting can have: a draw kept with probability ``exp(psi - psi*)`` is an exact one, and ``exp(psi*)`` bounds the
probability of the box.  Here the saddle point is found by Newton's method with the analytic derivatives of d.

For a mixture ``sum_i w_i N(m_i, S_i)`` restricted to the box, proposing component i with probability proportional to
``w_i exp(psi*_i)`` and keeping with ``exp(psi - psi*_i)`` is exact as well, without the probabilities being known.

The coordinate whose cell is least probable given the means of those before comes first, which makes ``exp(psi)`` vary
less (Gibson, Glasbey and Elston 1994).

Source: Botev 2017 (JRSS B 79(1); arXiv 1603.04166), section 2.  The paper also constrains v to the box; that need
not be imposed, for the first of the two equations puts ``v_1 .. v_{M-1}`` inside their intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr, logsumexp, ndtri_exp

from bayes_ir.models.channels.box import box

__all__ = ["Draws", "Estimate", "TruncatedNormal", "sample_mixture"]

Array = NDArray[np.float64]

# Keeping less than this share of its proposals, judged after a trial of them, is refused.
_HOPELESS, _TRIAL, _BATCH = 1e-6, 50_000, 16_384


class Estimate(NamedTuple):
    """A Monte Carlo estimate and its standard error."""

    value: float
    standard_error: float


class Draws(NamedTuple):
    """Exact draws, and the estimated share of proposals that are kept."""

    z: Array  # (n, M)
    component: NDArray[np.intp]  # (n,), number of the law that each comes from
    acceptance: float


class TruncatedNormal:
    """``N(mean, covariance)`` restricted to ``[lower, upper)``; float64.

    Args:
        mean: m, (M,).
        covariance: S, (M, M), positive definite.
        lower: lower bounds, (M,), ``-inf`` allowed.
        upper: upper bounds, (M,), above the lower ones, ``inf`` allowed.

    Attributes:
        log_bound: ``psi*``, an upper bound of the log probability of the box.

    Raises:
        ValueError: if a cell is empty, the covariance is not positive definite, or no saddle point is found.
    """

    def __init__(self, mean: ArrayLike, covariance: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> None:
        self._mean = np.asarray(mean, dtype=np.float64)
        self._lower, self._upper = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
        if not (self._lower < self._upper).all():
            raise ValueError("TruncatedNormal: every lower bound must lie below its upper bound.")
        low, high = self._lower - self._mean, self._upper - self._mean
        self._order, factor, v = _reordered(np.asarray(covariance, dtype=np.float64), low, high)
        scale = factor.diagonal()
        self._factor, self._slopes = factor, np.tril(factor, -1) / scale[:, None]
        self._low, self._high = low[self._order] / scale, high[self._order] / scale
        v, self._tilt = self._saddle_point(v)
        mass = self._cells(v, self._tilt)[0].sum()
        self.log_bound = float((self._tilt * (0.5 * self._tilt - v)).sum() + mass)

    def log_probability(self, samples: int, generator: np.random.Generator) -> Estimate:
        """``log P(lower <= z < upper)``, the log of an unbiased estimate, and its standard error.

        Args:
            samples: number of proposals.
            generator: source of the proposals.
        """
        batches = [min(_BATCH, samples - start) for start in range(0, samples, _BATCH)]
        log_weight = np.concatenate([self.propose(count, generator)[1] for count in batches])
        weight, largest = np.exp(log_weight - log_weight.max()), log_weight.max()
        value = self.log_bound + largest + np.log(weight.mean())
        return Estimate(float(value), float(weight.std() / (weight.mean() * np.sqrt(samples))))

    def sample(self, draws: int, generator: np.random.Generator) -> Draws:
        """Independent draws; the arguments and the refusal are those of :func:`sample_mixture`."""
        return sample_mixture(np.zeros(1), [self], draws, generator)

    def propose(self, count: int, generator: np.random.Generator) -> tuple[Array, Array]:
        """Proposals z, (count, M), and the log probability ``psi - psi*`` of keeping each, (count,).

        Args:
            count: number of proposals.
            generator: source of the proposals.
        """
        uniform = generator.random((len(self._mean), count))
        v, psi = np.empty_like(uniform), np.full(count, -self.log_bound)
        for k, mu in enumerate(self._tilt):
            centre = self._slopes[k, :k] @ v[:k] + mu
            n, log_mass = _truncated_normal(self._low[k] - centre, self._high[k] - centre, uniform[k])
            v[k] = mu + n
            psi += log_mass - mu * (0.5 * mu + n)
        z = np.empty((count, len(v)))
        z[:, self._order] = (self._factor @ v).T
        return np.clip(z + self._mean, self._lower, self._upper), psi

    def _cells(self, v: Array, mu: Array) -> tuple[Array, Array, Array]:
        """``log P_k``, ``d_k`` and ``q_k = 1 - Var`` of a standard normal on ``[a_k - mu_k, b_k - mu_k)``."""
        shift = self._slopes @ v + mu
        return _box(self._low - shift, self._high - shift)

    def _saddle_point(self, v: Array) -> tuple[Array, Array]:
        """Newton's method from v and mu = 0, with the step halved until the gradient shrinks."""
        free = len(v) - 1  # v_M has no part in psi, and mu_M = 0
        slopes, one = self._slopes[:, :free], np.eye(free)

        def gradient(point: Array) -> tuple[Array, Array]:
            """Of psi in mu and v, and the curvatures q of log P; point holds the free entries of v and mu."""
            _, d, q = self._cells(np.append(point[:free], 0.0), np.append(point[free:], 0.0))
            in_mu = point[free:] - point[:free] + d[:free]
            return np.concatenate([in_mu, slopes.T @ d - point[free:]]), q

        point = np.append(v[:free], np.zeros(free))
        residual, q = gradient(point)
        for _ in range(100):
            size = np.linalg.norm(residual)
            if size <= 1e-11 * (1 + np.linalg.norm(point)):
                break
            bent = q[:, None] * slopes
            mixed = -one - bent[:free]
            jacobian = np.block([[mixed, one - np.diag(q[:free])], [-slopes.T @ bent, mixed.T]])
            step = np.linalg.solve(jacobian, -residual)
            for halvings in range(40):
                nearer = point + 0.5**halvings * step
                left, q_nearer = gradient(nearer)
                if np.linalg.norm(left) < (1 - 1e-4 * 0.5**halvings) * size:
                    break
            else:
                break  # rounding: the gradient does not get smaller
            point, residual, q = nearer, left, q_nearer
        if not np.linalg.norm(residual) <= 1e-8 * (1 + np.linalg.norm(point)):
            raise ValueError(
                f"TruncatedNormal: no saddle point was found, the gradient is left at {np.linalg.norm(residual):.2g}. "
                "The covariance is too close to singular for this box. Use truncated_gaussian_gibbs."
            )
        return np.append(point[:free], 0.0), np.append(point[free:], 0.0)


def sample_mixture(
    log_weights: ArrayLike, laws: Sequence[TruncatedNormal], draws: int, generator: np.random.Generator
) -> Draws:
    """Independent draws of ``sum_i w_i N(m_i, S_i)`` restricted to a box.

    Args:
        log_weights: log w, (K,), of the components before they are restricted; normalised or not.
        laws: the K restricted components, on one box.
        draws: number of draws.
        generator: source of the draws.

    Raises:
        ValueError: if fewer than one proposal in a million is kept.
    """
    log_weights = np.asarray(log_weights, dtype=np.float64) + [law.log_bound for law in laws]
    probabilities = np.exp(log_weights - logsumexp(log_weights))
    kept, component = np.empty((draws, len(laws[0]._mean))), np.empty(draws, dtype=np.intp)
    found, proposed, total = 0, 0, 0.0
    count = min(2 * draws + 500, _BATCH)
    while found < draws:
        label = generator.choice(len(laws), size=count, p=probabilities)
        z, log_accept = np.empty((count, kept.shape[1])), np.empty(count)
        for k in np.unique(label):
            rows = label == k
            z[rows], log_accept[rows] = laws[k].propose(int(rows.sum()), generator)
        # The first to be kept, in the order they were proposed: whichever law comes first has no advantage.
        rows = np.flatnonzero(np.log1p(-generator.random(count)) < log_accept)[: draws - found]
        filled = slice(found, found + len(rows))
        kept[filled], component[filled] = z[rows], label[rows]
        found, proposed, total = filled.stop, proposed + count, total + np.exp(log_accept).sum()
        if proposed >= _TRIAL and total < _HOPELESS * proposed:
            raise ValueError(
                f"minimax tilting keeps {total / proposed:.1g} of its proposals for this box in {z.shape[1]} "
                f"dimensions, where {_HOPELESS:g} is the least that is of use. Use truncated_gaussian_gibbs."
            )
        count = int(np.clip(1.1 * (draws - found) * proposed / max(total, 1e-300), 500, _BATCH))
    return Draws(kept, component, float(total / proposed))


def _reordered(covariance: Array, low: Array, high: Array) -> tuple[NDArray[np.intp], Array, Array]:
    """The order of the coordinates, the Cholesky factor in it, and the means of v by which it was chosen."""
    size = len(low)
    factor, order, v = np.zeros((size, size)), np.zeros(size, dtype=np.intp), np.zeros(size)
    variance, shift = covariance.diagonal().copy(), np.zeros(size)
    rest = np.arange(size)
    for j in range(size):
        if not (variance[rest] > 1e-13 * covariance.diagonal()[rest]).all():
            raise ValueError(
                "TruncatedNormal: the covariance is not positive definite; add a small multiple of the identity."
            )
        std = np.sqrt(variance[rest])
        log_mass, mean, _ = _box((low - shift)[rest] / std, (high - shift)[rest] / std)
        first = np.argmin(log_mass)
        k, order[j], v[j] = rest[first], rest[first], mean[first]
        rest = np.delete(rest, first)
        factor[k, j] = std[first]
        factor[rest, j] = (covariance[rest, k] - factor[rest, :j] @ factor[k, :j]) / std[first]
        variance[rest] -= factor[rest, j] ** 2
        shift[rest] += factor[rest, j] * v[j]
    return order, factor[order], v


def _truncated_normal(alpha: Array, gamma: Array, uniform: Array) -> tuple[Array, Array]:
    """Draws of a standard normal on ``[alpha, gamma)`` and its log probability, formed in the lower tail."""
    flip = alpha > 0
    left, right = np.where(flip, -gamma, alpha), np.where(flip, -alpha, gamma)
    log_right = log_ndtr(right)
    outside = np.expm1(log_ndtr(left) - log_right)  # -(1 - Phi(left) / Phi(right))
    draw = np.clip(ndtri_exp(log_right + np.log1p(np.maximum(uniform, 2.0**-54) * outside)), left, right)
    return np.where(flip, -draw, draw), log_right + np.log(-outside)


def _box(alpha: Array, gamma: Array) -> tuple[Array, Array, Array]:
    """Log probability, mean and 1 - variance of a standard normal on ``[alpha, gamma)``."""
    log_z, d, q = box(torch.from_numpy(alpha), torch.from_numpy(gamma))
    return log_z.numpy(), d.numpy(), q.numpy()

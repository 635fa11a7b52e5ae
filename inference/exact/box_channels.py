r"""The posterior of a Gaussian-mixture prior under one-bit or quantized linear measurements, by exact draws.

Such measurements tell of ``u = A x + n``, ``n ~ N(0, D^2)``, only its cells: ``y`` means ``lower <= u < upper``.  With
``x ~ sum_k w_k N(mu_k, C_k)`` and ``S_k = A C_k A^T + D^2``,

    p(x | y) = sum_k w_k(y) int N(x; mu_k + G_k (u - A mu_k), C_k - G_k A C_k) p(u | y, k) du,    G_k = C_k A^T S_k^-1
    w_k(y)   proportional to  w_k P_k,    P_k = P(lower <= u < upper | k),    p(y) = sum_k w_k P_k,

and ``p(u | y, k)`` is ``N(A mu_k, S_k)`` restricted to the cells.  The pair (k, u) is drawn exactly by minimax tilting
(see :mod:`bayes_ir.inference.exact.minimax_tilting`), for which no P_k need be known, or by the Markov chains of
:mod:`bayes_ir.inference.exact.linear_elliptical_slice`.  Then x given (k, u) is a draw
``(x', n')`` from the prior of component k, moved to the drawn u: ``x = x' + G_k (u - A x' - n')``.

Source: the unified skew-normal posterior of probit models, Durante 2019 (arXiv 1802.09565); moving a draw from the
prior, Hoffman and Ribak 1991.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bayes_ir.inference.exact.minimax_tilting import TruncatedNormal, sample_mixture
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.models.channels import OneBit, Quantized
from bayes_ir.models.operators import LinearOperator
from bayes_ir.models.priors.gaussian_mixture import GaussianMixturePrior

__all__ = ["BoxPosterior", "LogWeights", "box_posterior", "cell_posterior", "cells_of"]

_MOST = 100  # measurements
_NEGLIGIBLE = 40.0  # nats below the largest bound


class LogWeights(NamedTuple):
    """``log w_k + log P_k`` of all components and standard errors, (K,) each; ``-inf`` for those left out."""

    value: Tensor
    standard_error: Tensor


class BoxPosterior:
    """``p(x | y)`` of a Gaussian-mixture prior whose measurements are cells.

    A component whose ``w_k`` times the bound of ``P_k`` lies 40 nats below the largest such product is left out.

    Args:
        problem: Gaussian or Gaussian-mixture prior, linear A, one-bit or quantized channel.

    Attributes:
        components: numbers of the K' components that are not left out.
        log_weights_prior: their ``log w_k``, (K',), normalised over all components.
        means: their ``A mu_k``, (K', M).
        covariances: their ``S_k``, (K', M, M).
        lower: lower bounds of the cells, (M,).
        upper: upper bounds of the cells, (M,).

    Raises:
        ValueError: if a restricted component cannot be tilted.
    """

    def __init__(self, problem: Problem) -> None:
        prior, dtype = problem.prior, torch.float64
        assert isinstance(prior, GaussianMixturePrior) and isinstance(problem.operator, LinearOperator)
        self._law, self._event_shape, self._dtype = prior.components, prior.event_shape, problem.dtype
        self._a = problem.operator.to(dtype=dtype).to_matrix()  # (M, N)
        self._noise = problem.channel.noise_std.to(dtype).expand(problem.y.shape).reshape(-1)
        self.lower, self.upper = cells_of(problem)
        rows = self._a @ self._law.basis  # (K, M, N)
        means = self._law.means @ self._a.T
        covariances = (rows * self._law.variances[:, None]) @ rows.mT + self._noise.square().diag()
        cells = self.lower.cpu().numpy(), self.upper.cpu().numpy()
        laws = [
            TruncatedNormal(mean.cpu().numpy(), covariance.cpu().numpy(), *cells)
            for mean, covariance in zip(means, covariances, strict=True)
        ]
        bounds = [float(w) + law.log_bound for w, law in zip(self._law.log_weights, laws, strict=True)]
        self.components = [k for k, bound in enumerate(bounds) if bound > max(bounds) - _NEGLIGIBLE]
        self.means, self.covariances = means[self.components], covariances[self.components]
        self.log_weights_prior = self._law.log_weights[self.components]
        self._laws = [laws[k] for k in self.components]
        self._gains = [self._gain(k) for k in self.components]

    def log_weights(self, samples: int, generator: np.random.Generator) -> LogWeights:
        """``log w_k + log P_k``, whose logsumexp over k is ``log p(y)``.  The draws do not depend on them.

        Args:
            samples: proposals per component.
            generator: source of the proposals.
        """
        value = torch.full((len(self._law.means),), -torch.inf, dtype=torch.float64)
        error = torch.zeros_like(value)
        for k, law in zip(self.components, self._laws, strict=True):
            log_probability, error[k] = law.log_probability(samples, generator)
            value[k] = float(self._law.log_weights[k]) + log_probability
        return LogWeights(value, error)

    def transport(
        self, normal: Tensor, noise: Tensor, generator: np.random.Generator
    ) -> tuple[Tensor, float]:
        """Turn standard normal numbers into draws (n, *event_shape), and say what share of proposals was kept.

        Args:
            normal: of x' given its component, (n, N), float64.
            noise: of n', (n, M), float64.
            generator: source of the components and of u.

        Raises:
            ValueError: if fewer than one proposal in a million is kept.
        """
        drawn = sample_mixture(self.log_weights_prior.cpu().numpy(), self._laws, len(normal), generator)
        u, component = (torch.from_numpy(part).to(normal.device) for part in (drawn.z, drawn.component))
        return self.lift(u, component, normal, noise), drawn.acceptance

    def lift(self, u: Tensor, component: Tensor, normal: Tensor, noise: Tensor) -> Tensor:
        """Draws of ``x | k, u``, (n, *event_shape).

        Args:
            u: latent measurements, (n, M), float64.
            component: their components, positions in ``components``, (n,).
            normal: of x' given its component, (n, N), float64.
            noise: of n', (n, M), float64.
        """
        x = torch.empty_like(normal)
        for number, k in enumerate(self.components):
            rows = component == number
            prior = self._law.means[k] + (self._law.variances[k].sqrt() * normal[rows]) @ self._law.basis[k].T
            residual = u[rows] - prior @ self._a.T - self._noise * noise[rows]
            x[rows] = prior + residual @ self._gains[number].T
        return x.reshape(-1, *self._event_shape).to(self._dtype)

    def near_draws(self, count: int, tries: int, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Points u of the cells, (count, M), and their components, each the best of ``tries`` proposals of its own.

        Tilted proposals, one of them chosen with probability proportional to its weight ``exp(psi)``: nearer to
        draws the more tries, and independent of each other.
        """
        log_bounds = np.array([law.log_bound for law in self._laws]) + self.log_weights_prior.cpu().numpy()
        shares = np.exp(log_bounds - log_bounds.max())
        label = generator.choice(len(self._laws), size=count * tries, p=shares / shares.sum())
        u, log_keep = np.empty((count * tries, len(self.lower))), np.empty(count * tries)
        for k in np.unique(label):
            rows = label == k
            u[rows], log_keep[rows] = self._laws[k].propose(int(rows.sum()), generator)
        gumbel = generator.gumbel(size=(count, tries))
        chosen = np.arange(count) * tries + (log_keep.reshape(count, tries) + gumbel).argmax(1)
        device = self.lower.device
        return torch.from_numpy(u[chosen]).to(device), torch.from_numpy(label[chosen]).to(device)

    def _gain(self, k: int) -> Tensor:
        """``G_k = C_k A^T S_k^-1``, (N, M)."""
        cross = (self._a @ self._law.basis[k] * self._law.variances[k]) @ self._law.basis[k].T  # A C_k
        return torch.linalg.solve(cross @ self._a.T + self._noise.square().diag(), cross).T


@lru_cache(maxsize=1)
def cell_posterior(problem: Problem) -> BoxPosterior:
    """The posterior of one-bit or quantized measurements, of whatever number.

    Args:
        problem: Gaussian or Gaussian-mixture prior, linear A, one-bit or quantized channel.

    Raises:
        ModelError: for any other prior, channel or operator, or where the tilting has no saddle point.
    """
    if not isinstance(problem.prior, GaussianMixturePrior) or not isinstance(
        problem.channel, (OneBit, Quantized)
    ):
        raise ModelError(
            "the exact posterior of cells needs a GaussianPrior or GaussianMixturePrior and a OneBit or Quantized "
            f"channel; this model has {type(problem.prior).__name__} and {type(problem.channel).__name__}. "
            "Use QCSSGMPlus(), which serves every prior and channel."
        )
    if not isinstance(problem.operator, LinearOperator):
        raise ModelError(
            f"the exact posterior needs a linear operator, and {problem.operator!r} is not linear. Use DPS()."
        )
    try:
        return BoxPosterior(problem)
    except ValueError as error:
        raise _out_of_reach(problem, error) from error


@lru_cache(maxsize=1)
def box_posterior(problem: Problem) -> BoxPosterior:
    """The same where independent draws can be had, tried out on one of them.

    Args:
        problem: as for :func:`cell_posterior`, of at most 100 measurements.

    Raises:
        ModelError: as :func:`cell_posterior`, and for more measurements or where exact draws are too rare.
    """
    measurements = problem.y.numel()
    if isinstance(problem.channel, (OneBit, Quantized)) and measurements > _MOST:
        raise ModelError(
            f"the exact posterior of {type(problem.channel).__name__} data takes at most {_MOST} measurements, and "
            f"site {problem.observed_site!r} has {measurements}. Use QCSSGMPlus(), or the Markov chains of "
            "Exact(method='slice')."
        )
    posterior = cell_posterior(problem)
    one = torch.zeros(1, problem.prior.event_shape.numel(), dtype=torch.float64, device=problem.device)
    try:
        posterior.transport(one, one.new_zeros(1, measurements), np.random.default_rng(0))
    except ValueError as error:
        raise _out_of_reach(problem, error) from error
    return posterior


def _out_of_reach(problem: Problem, error: ValueError) -> ModelError:
    return ModelError(
        f"the exact posterior of site {problem.observed_site!r} is out of reach: {error} "
        "In place of Exact() use QCSSGMPlus(), or the Markov chains of Exact(method='slice')."
    )


def cells_of(problem: Problem) -> tuple[Tensor, Tensor]:
    """Bounds of the cells that the measurements name, flat: (M,) each or (B, M), float64."""
    y = problem.y.double()
    channel = problem.channel.with_location(y)
    if isinstance(channel, Quantized):
        lower, upper = channel.cells(y)
    else:
        assert isinstance(channel, OneBit)
        threshold = channel.threshold.expand_as(y)
        lower, upper = threshold.where(y > 0, -torch.inf), threshold.where(y < 0, torch.inf)
    flat = problem.system.y.shape
    return lower.reshape(flat), upper.reshape(flat)

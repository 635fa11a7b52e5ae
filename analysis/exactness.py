r"""Errors of a set of draws against an exact posterior: moments, and the weights of its modes.

With mean m, sd s and covariance S of n draws, and the exact mu, sigma, Sigma over the N coordinates with sigma > 0:

    mean error        ( mean_j ((m_j - mu_j) / sigma_j)^2 )^{1/2}     floor  (1/n)^{1/2}
    sd ratio          mean_j s_j / sigma_j                            floor  (1 / 2n)^{1/2} for one coordinate
    covariance error  |S - Sigma|_F / |Sigma|_F                       floor  ((1 + tr(Sigma)^2 / |Sigma|_F^2) / n)^{1/2}

A floor is the root mean square of n independent exact draws (of the last two, if Gaussian). Where the exact moments
are themselves of n' exact draws, 1/n is 1/n + 1/n'. The weights of K modes, shares w_k of the draws against exact pi_k:

    total variation   (1/2) sum_k |w_k - pi_k|                        floor  sum_k (pi_k (1 - pi_k) / (2 pi n))^{1/2}

with the floor its mean for n independent exact draws, in the normal approximation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bayes_ir.analysis.draw_sets import as_draws
from bayes_ir.analysis.posterior import as_array

__all__ = ["ModeWeightDistance", "MomentErrors", "mode_weight_distance", "moment_errors"]

_LARGEST = 4096  # coordinates up to which a covariance matrix is made


@dataclass(frozen=True)
class MomentErrors:
    """Outcome of `moment_errors`; each error stands beside its floor.

    Attributes:
        mean_error: root mean square error of the mean, in posterior sd.
        mean_floor: what independent exact draws leave.
        sd_ratio: mean over the coordinates of sd over exact sd.
        sd_floor: Monte Carlo sd of that ratio in one coordinate.
        covariance_error: relative Frobenius error; NaN for more than 4096 coordinates.
        covariance_floor: what independent Gaussian draws leave.
        coordinates: coordinates compared, those with an exact sd above zero.
    """

    mean_error: float
    mean_floor: float
    sd_ratio: float
    sd_floor: float
    covariance_error: float
    covariance_floor: float
    coordinates: int


def moment_errors(draws: Any, exact: Any = None, *, mean: Any = None, covariance: Any = None) -> MomentErrors:
    """Errors of mean, sd and covariance against exact draws, or against exact moments.

    Args:
        draws: draws of the sampler, (n, *event_shape) or what `bir.sample` gave.
        exact: independent draws of the exact law; or else
        mean: the exact mean, `event_shape`, and
        covariance: the exact covariance of the flattened image, (N, N).

    Raises:
        ValueError: both or neither of the two were given, shapes differ, or there are fewer than 2 draws.
    """
    where = "moment_errors"
    if (exact is None) == (mean is None and covariance is None) or (mean is None) != (covariance is None):
        raise ValueError(f"{where}: give either exact draws, or both mean= and covariance=.")
    x = as_draws(where, draws, 2)
    shape, n = x.shape[1:], len(x)
    x = x.reshape(n, -1)
    size = x.shape[1]
    if exact is not None:
        e = as_draws(where, exact, 2)
        if e.shape[1:] != shape:
            raise ValueError(
                f"{where}: draws have shape {shape}, the exact ones {e.shape[1:]}; expected one shape."
            )
        e = e.reshape(len(e), -1)
        mu, sigma = e.mean(axis=0), e.std(axis=0, ddof=1)
        matrix = np.atleast_2d(np.cov(e.T)) if size <= _LARGEST else None
        share = 1 / n + 1 / len(e)
    else:
        mu, matrix = np.asarray(as_array(mean), float).reshape(-1), np.asarray(as_array(covariance), float)
        if mu.size != size or matrix.shape != (size, size):
            raise ValueError(
                f"{where}: mean has {mu.size} values and covariance shape {matrix.shape}; the draws have {size} "
                f"coordinates, so expected {size} and {(size, size)}."
            )
        sigma, share = np.sqrt(np.diag(matrix)), 1 / n
    used = sigma > 0
    if not used.any():
        raise ValueError(f"{where}: the exact sd is 0 everywhere; there is nothing to compare with.")
    wrong = ((x.mean(axis=0) - mu)[used] / sigma[used]) ** 2
    covariance_error = covariance_floor = float("nan")
    if matrix is not None and size <= _LARGEST:
        norm = np.linalg.norm(matrix)
        covariance_error = float(np.linalg.norm(np.atleast_2d(np.cov(x.T)) - matrix) / norm)
        covariance_floor = float(np.sqrt((1 + (np.trace(matrix) / norm) ** 2) * share))
    return MomentErrors(
        mean_error=float(np.sqrt(wrong.mean())),
        mean_floor=float(np.sqrt(share)),
        sd_ratio=float((x.std(axis=0, ddof=1)[used] / sigma[used]).mean()),
        sd_floor=float(np.sqrt(share / 2)),
        covariance_error=covariance_error,
        covariance_floor=covariance_floor,
        coordinates=int(used.sum()),
    )


class ModeWeightDistance(NamedTuple):
    """Outcome of `mode_weight_distance`.

    Attributes:
        distance: total variation, in [0, 1].
        floor: its mean for as many independent exact draws.
        weights: shares of the draws, (K,).
    """

    distance: float
    floor: float
    weights: np.ndarray


def mode_weight_distance(assignments: Any, weights: Any) -> ModeWeightDistance:
    """Total variation between the shares of draws in K modes and the exact weights.

    Args:
        assignments: responsibilities of the K components for every draw, (n, K), as a mixture prior gives them; or
            labels 0..K-1, (n,).
        weights: exact weights of the components in the posterior, (K,).

    Raises:
        ValueError: labels outside 0..K-1, or rows of responsibilities or weights that do not sum to one.
    """
    where = "mode_weight_distance"
    given, exact = as_array(assignments), np.asarray(as_array(weights), dtype=float)
    modes = exact.size
    if exact.ndim != 1 or not (exact >= 0).all() or not np.isclose(exact.sum(), 1, atol=1e-4):
        raise ValueError(f"{where}: weights are {exact.tolist()}; expected K numbers >= 0 that sum to 1.")
    if given.ndim == 1 and given.size and np.issubdtype(given.dtype, np.integer):
        if given.min() < 0 or given.max() >= modes:
            raise ValueError(
                f"{where}: labels run from {given.min()} to {given.max()}; expected 0 to {modes - 1}."
            )
        found = np.bincount(given, minlength=modes) / given.size
    elif given.ndim == 2 and len(given) and given.shape[1] == modes:
        if not (given >= -1e-6).all() or not np.allclose(given.sum(axis=1), 1, atol=1e-4):
            raise ValueError(f"{where}: some rows of responsibilities are no probabilities that sum to 1.")
        found = given.astype(float).mean(axis=0)
    else:
        raise ValueError(
            f"{where}: assignments have shape {given.shape} and type {given.dtype}; expected labels (n,) of whole "
            f"numbers or responsibilities (n, {modes})."
        )
    floor = np.sqrt(exact * (1 - exact) / (2 * np.pi * len(given))).sum()
    return ModeWeightDistance(float(0.5 * np.abs(found - exact).sum()), float(floor), found)

r"""Importance weights of draws, smoothed, and whether they can be trusted.

A kernel that weighs its draws instead of resampling them (``TwistedSMC(weighted=True, kept=1.0)``) leaves ``log w_i``
in ``sample_stats``.  Posterior expectations are ``sum_i W_i f(x_i)`` with ``W_i = w_i / sum_j w_j``; the largest
weights are replaced by the quantiles of a generalised Pareto law fitted to their tail, whose shape k says how heavy
that is:

    k < 0.5         weights of finite variance
    0.5 <= k < 0.7  usable, the error falls more slowly than n^{-1/2}
    k >= 0.7        a few draws carry everything; the answer is not to be trusted

Source: Vehtari, Simpson, Gelman, Yao and Gabry 2024 (arXiv 1507.02646).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["ImportanceWeights", "importance_weights"]


@dataclass(frozen=True)
class ImportanceWeights:
    """Smoothed weights that sum to one.

    Attributes:
        weights: W, shaped as the log weights.
        pareto_k: shape of the tail.
        effective_sample_size: ``1 / sum W^2``.
    """

    weights: np.ndarray
    pareto_k: float
    effective_sample_size: float

    @property
    def trusted(self) -> bool:
        """Whether ``pareto_k < 0.7``."""
        return self.pareto_k < 0.7


def importance_weights(posterior: Any) -> ImportanceWeights:
    """Pareto-smoothed weights.

    Args:
        posterior: a DataTree whose ``sample_stats`` hold ``log_weight``, or an array of log weights of any shape.

    Raises:
        ValueError: for a tree without weights, fewer than 25 of them, or weights that are not numbers.
    """
    from arviz_stats.base import array_stats

    log_w = np.asarray(_log_weights(posterior), dtype=float)
    if log_w.size < 25 or np.isnan(log_w).any() or not np.isfinite(log_w.max()):
        raise ValueError(
            f"importance_weights: got {log_w.size} log weights from {log_w.min() if log_w.size else None} to "
            f"{log_w.max() if log_w.size else None}; expected at least 25 numbers, the largest finite."
        )
    smoothed, k = array_stats.psislw(
        log_w.max() - log_w.ravel()
    )  # it takes the negative, as of a log likelihood
    weights = np.exp(smoothed - smoothed.max()).reshape(log_w.shape)
    weights /= weights.sum()
    return ImportanceWeights(weights, float(k), float(1 / np.square(weights).sum()))


def _log_weights(posterior: Any) -> Any:
    if not hasattr(posterior, "children"):
        return posterior
    stats = posterior.children.get("sample_stats")
    if stats is None or "log_weight" not in stats:
        raise ValueError(
            "importance_weights: the tree has no sample_stats/log_weight; sample with a kernel that weighs its draws, "
            "such as TwistedSMC(weighted=True, kept=1.0, ess_threshold=0.0)."
        )
    return stats["log_weight"].values

r"""What a belief about the image says of the measurements: ``z' ~ N(m, K)``, ``K = D^-1 A V A^T D^-1``.

Everything a likelihood score needs is ``diag(K)``, solves with ``I + K``, or K = U diag(kappa) U^T itself, which
expectation propagation works in.  How they are had depends on V:

    V = v I                    kappa = v S^2 from the decomposition of D^-1 A, none per step
    V in a basis, M <= 2048    K as a matrix, its eigenvalues once per noise level and operator
    V = (b^2 / a) J            K by conjugate gradients, or as one matrix per draw by M products with J^T
    anything larger            conjugate gradients
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.covariances import (
    BasisCovariance,
    ImageCovariance,
    JacobianCovariance,
    ScalarCovariance,
)
from bayes_ir.inference.predictive_laws import Eigen, Inverted, MatrixFree, Predictive, Scaled, eigen
from bayes_ir.inference.problem import ModelError
from bayes_ir.inference.system import System

__all__ = ["predictive"]

_LARGEST_MATRIX = 2048  # measurements whose K is decomposed as a matrix
_LARGEST_PER_DRAW = 512  # the same for one matrix per draw
_LARGEST_CACHE = 2**26  # numbers kept for the levels of an operator


def predictive(
    system: System,
    covariance: ImageCovariance,
    like: Tensor,
    *,
    spectral: bool = False,
    tolerance: float = 1e-5,
    max_iterations: int = 300,
) -> Predictive:
    """The predictive law of a system under a belief.

    Args:
        system: ``D^-1 A`` and the channel.
        covariance: V.
        like: images (B, *event_shape) whose batch and type it serves.
        spectral: whether U and kappa are needed.
        tolerance: relative residual of conjugate gradients.
        max_iterations: cap on their iterations.

    Raises:
        ModelError: when U and kappa are needed and K is too large to decompose.
    """
    m, n = system.measurements, system.operator.event_shape.numel()
    if isinstance(covariance, ScalarCovariance) and system.spectral:
        return Scaled(system, covariance.variance)
    fits = system.shared and m <= _LARGEST_MATRIX and m * n <= 2**24
    if isinstance(covariance, BasisCovariance) and fits:
        return _kept(system, covariance, spectral)
    if isinstance(covariance, JacobianCovariance) and spectral and system.shared and m <= _LARGEST_PER_DRAW:
        return Eigen(system, *eigen(_matrix_per_draw(system, covariance, like)))
    if spectral and not system.shared:
        raise ModelError(
            f"expectation propagation needs a linear operator, and {system.operator!r} is not linear; use DAPS(), "
            "which serves every channel, or Point() for the denoising posterior."
        )
    if spectral:
        raise ModelError(
            f"expectation propagation needs A V A^T decomposed, and {system.operator!r} with {m} measurements is too "
            f"large for that under {type(covariance).__name__}; use Calibrated(basis='scalar') or Flat() with an "
            "operator with structure (A.has_svd), or QCSSGM(), which treats one measurement at a time."
        )
    return MatrixFree(system, covariance, like.dtype, tolerance, max_iterations)


class _Level(NamedTuple):
    """``A V A^T`` of one V, decomposed, for ``D^-1 A = gain A``."""

    covariance: BasisCovariance
    kappa: Tensor
    u: Tensor
    variance: Tensor


def _kept(system: System, covariance: BasisCovariance, spectral: bool) -> Predictive:
    """The law of a noise level, decomposed once per operator as long as there is room to keep it.

    What is kept belongs to A alone, so that other data, and another noise of the same A, find it there.
    """
    levels, name = system.cache, covariance.name
    system.asked.add(name)
    level = levels.get(name)
    if level is None or not _same(level.covariance, covariance):
        level = _Level(covariance, *eigen(_matrix(system, covariance)))
        if _has_room(system):
            levels[name] = level
    kappa, variance = system.gain**2 * level.kappa, system.gain**2 * level.variance
    if spectral:
        return Eigen(system, kappa, level.u, variance)
    if name not in system.inverses:
        inverse = (level.u / (1 + kappa)) @ level.u.mT
        if (len(system.inverses) + 1) * system.measurements**2 > _LARGEST_CACHE:
            return Inverted(system, inverse, variance)
        system.inverses[name] = inverse
    return Inverted(system, system.inverses[name], variance)


def _has_room(system: System) -> bool:
    """Whether one level more may be kept; levels that other systems of the operator asked for make way."""
    levels, most = system.cache, _LARGEST_CACHE // system.measurements**2
    for other in [key for key in levels if key != "rows" and key not in system.asked]:
        if len(levels) < most:
            break
        del levels[other]
    return len(levels) < most


def _same(one: BasisCovariance, two: BasisCovariance) -> bool:
    """Whether two V of one name are one: names do not tell priors apart."""
    return one is two or (
        one.basis is two.basis and one.rest == two.rest and torch.equal(one.variances, two.variances)
    )


def _matrix(system: System, covariance: BasisCovariance) -> Tensor:
    """``A V A^T``, (M, M)."""
    basis, complete = covariance.basis, covariance.basis.complete
    known = system.cache.get("rows")
    if known is None or known[0] is not basis:
        eye = torch.eye(system.measurements, dtype=torch.float64, device=system.y.device)
        rows = system.adjoint(eye, torch.float64) / system.gain
        known = (basis, rows.flatten(1), basis.to(dtype=torch.float64).analyse(rows))
        system.cache["rows"] = known
    _, rows, analysed = known
    rest = 0.0 if complete else covariance.rest
    k = (analysed * (covariance.variances - rest)) @ analysed.mT
    return k if complete else k + rest * rows @ rows.mT


def _matrix_per_draw(system: System, covariance: JacobianCovariance, like: Tensor) -> Tensor:
    """``K`` row by row, (B, M, M): one vector-Jacobian product per measurement."""
    eye = torch.eye(system.measurements, dtype=torch.float64, device=system.y.device)
    rows = system.adjoint(eye, like.dtype)
    products = [system.apply(covariance(row.expand(len(like), *row.shape))) for row in rows]
    return torch.stack(products, dim=1)

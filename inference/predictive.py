r"""What a belief about the image says of the measurements: ``z' ~ N(m, K)``, ``K = D^-1 A V A^T D^-1``.

Everything a likelihood score needs is ``diag(K)``, solves with ``I + K``, or K = U diag(kappa) U^T itself, which
expectation propagation works in.  How they are had depends on V:

    V = v I                    kappa = v S^2 from the decomposition of D^-1 A, none per step
    V in a basis, M <= 2048    K as a matrix, its eigenvalues once per noise level and run
    V = (b^2 / a) J            K by conjugate gradients, or as one matrix per draw by M products with J^T
    anything larger            conjugate gradients
"""

from __future__ import annotations

import copy

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.covariances import (
    BasisCovariance,
    ImageCovariance,
    JacobianCovariance,
    ScalarCovariance,
)
from bayes_ir.inference.problem import ModelError
from bayes_ir.inference.system import System
from bayes_ir.models.channels.base import TiltedNormaliser
from bayes_ir.models.operators.conjugate_gradients import conjugate_gradients

__all__ = ["MatrixFree", "Predictive", "PredictiveCache", "PulledSolution", "Spectral", "predictive"]

PredictiveCache = dict[Any, Any]

_LARGEST_MATRIX = 2048  # measurements whose K is decomposed as a matrix
_LARGEST_PER_DRAW = 512  # the same for one matrix per draw
_LARGEST_CACHE = 2**26  # numbers kept for the levels of a run


class PulledSolution(NamedTuple):
    """``(D^-1 A)^T (I + K)^-1 r`` and how it was found."""

    image: Tensor  # (B, *event_shape)
    solved: Tensor | None  # (I + K)^-1 r, (B, M), a start for the next call; None if none is needed
    info: dict[str, Tensor]  # each (B,)


class Predictive(ABC):
    """``z' ~ N(., K)`` for a batch of draws.

    Args:
        system: ``D^-1 A`` and the channel.
    """

    def __init__(self, system: System) -> None:
        self.system = system

    @property
    @abstractmethod
    def variance(self) -> Tensor:
        """``diag(K)``, (M,) or (B, M)."""

    @abstractmethod
    def pulled_solve(
        self, residual: Tensor, dtype: torch.dtype, start: Tensor | None = None
    ) -> PulledSolution:
        """``(D^-1 A)^T (I + K)^-1 r`` for r (B, M), as images of a dtype."""


class Spectral(Predictive):
    """``K = U diag(kappa) U^T``; what is outside of U is zero.

    Attributes:
        kappa: eigenvalues, (r,) or (B, r), float64, non-negative.
        measurements: M.
    """

    kappa: Tensor

    @property
    def measurements(self) -> int:
        """M."""
        return self.system.measurements

    @abstractmethod
    def left(self, c: Tensor) -> Tensor:
        """``U c``: (B, r) to (B, M)."""

    @abstractmethod
    def left_adjoint(self, z: Tensor) -> Tensor:
        """``U^T z``: (B, M) to (B, r)."""

    @abstractmethod
    def left_matrix(self) -> Tensor:
        """U, (M, r) or (B, M, r), float64."""

    @abstractmethod
    def pull(self, c: Tensor, dtype: torch.dtype) -> Tensor:
        """``(D^-1 A)^T U c``: (B, r) to images (B, *event_shape)."""

    def tilt(self, mean: Tensor, variance: Tensor) -> TiltedNormaliser:
        """Tilted normaliser of the channel, see :meth:`System.tilt`."""
        return self.system.tilt(mean, variance)

    def pulled_solve(
        self, residual: Tensor, dtype: torch.dtype, start: Tensor | None = None
    ) -> PulledSolution:
        return PulledSolution(self.pull(self.left_adjoint(residual) / (1 + self.kappa), dtype), None, {})


class _Scaled(Spectral):
    """``V = v I``: U is that of ``D^-1 A = U S V^T`` and ``kappa = v S^2``."""

    def __init__(self, system: System, variance: Tensor) -> None:
        super().__init__(system)
        self._v, self.kappa = variance, variance * system.svd.singular_values**2

    @property
    def variance(self) -> Tensor:
        return self._v * self.system.row_energy

    def left(self, c: Tensor) -> Tensor:
        return self.system.svd.left(c).reshape(len(c), -1)

    def left_adjoint(self, z: Tensor) -> Tensor:
        return self.system.svd.left_adjoint(z.reshape(len(z), *self.system.operator.measurement_shape))

    def left_matrix(self) -> Tensor:
        return self.system.svd.left_matrix()

    def pull(self, c: Tensor, dtype: torch.dtype) -> Tensor:
        return self.system.svd.right(c * self.system.svd.singular_values).to(dtype)


class _Eigen(Spectral):
    """K decomposed as a matrix (M, M), or as one matrix per draw (B, M, M)."""

    def __init__(self, system: System, k: Tensor) -> None:
        super().__init__(system)
        self._variance = k.diagonal(dim1=-2, dim2=-1)
        kappa, self._u = torch.linalg.eigh((k + k.mT) / 2)
        self.kappa = kappa.clamp(min=0)

    @property
    def variance(self) -> Tensor:
        return self._variance

    def left(self, c: Tensor) -> Tensor:
        return (self._u @ c[..., None])[..., 0] if self._u.ndim == 3 else c @ self._u.mT

    def left_adjoint(self, z: Tensor) -> Tensor:
        return (self._u.mT @ z[..., None])[..., 0] if self._u.ndim == 3 else z @ self._u

    def left_matrix(self) -> Tensor:
        return self._u

    def pull(self, c: Tensor, dtype: torch.dtype) -> Tensor:
        return self.system.adjoint(self.left(c), dtype)


class MatrixFree(Predictive):
    """K as a product, solved by conjugate gradients.

    ``info`` carries ``cg_iterations`` and ``cg_residual``; a solve that stops at its cap shows there.
    """

    def __init__(
        self, system: System, covariance: ImageCovariance, dtype: torch.dtype, tolerance: float, cap: int
    ) -> None:
        super().__init__(system)
        self._covariance, self._dtype, self._tolerance, self._cap = covariance, dtype, tolerance, cap

    @property
    def variance(self) -> Tensor:
        if isinstance(self._covariance, ScalarCovariance):
            return self._covariance.variance * self.system.row_energy
        raise ModelError(
            f"{self.system.operator!r} is too large for the variances of its single measurements under this "
            "denoising posterior; use Flat(), Isotropic() or Calibrated(basis='scalar')."
        )

    def apply(self, r: Tensor) -> Tensor:
        """``K r`` for r (B, M)."""
        return self.system.apply(self._covariance(self.system.adjoint(r, self._dtype)))

    def pulled_solve(
        self, residual: Tensor, dtype: torch.dtype, start: Tensor | None = None
    ) -> PulledSolution:
        found = conjugate_gradients(
            lambda r: r + self.apply(r),
            residual,
            1,
            start=start,
            tolerance=self._tolerance,
            max_iterations=self._cap,
        )
        info = {"cg_iterations": found.iterations, "cg_residual": found.residual}
        return PulledSolution(self.system.adjoint(found.solution, dtype), found.solution, info)


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
        return _Scaled(system, covariance.variance)
    fits = system.shared and m <= _LARGEST_MATRIX and m * n <= 2**24
    if isinstance(covariance, BasisCovariance) and fits:
        return _kept(system, covariance)
    if isinstance(covariance, JacobianCovariance) and spectral and system.shared and m <= _LARGEST_PER_DRAW:
        return _Eigen(system, _matrix_per_draw(system, covariance, like))
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


def _kept(system: System, covariance: BasisCovariance) -> _Eigen:
    """The decomposition of a noise level, made once per run as long as there is room to keep it."""
    if covariance.name not in system.cache:
        if "rows" not in system.cache:
            eye = torch.eye(system.measurements, dtype=torch.float64, device=system.y.device)
            rows = system.adjoint(eye, torch.float64)
            basis = covariance.basis.to(dtype=torch.float64)
            system.cache["rows"] = (rows.flatten(1), basis.analyse(rows))
        rows, analysed = system.cache["rows"]
        rest = torch.zeros_like(covariance.rest) if covariance.basis.complete else covariance.rest
        k = (analysed * (covariance.variances - rest)) @ analysed.mT
        if not covariance.basis.complete:
            k = k + rest * rows @ rows.mT
        found = _Eigen(system, k)
        if (len(system.cache) + 1) * system.measurements**2 > _LARGEST_CACHE:
            return found
        system.cache[covariance.name] = found
    found = copy.copy(system.cache[covariance.name])
    found.system = system  # kept levels serve other data of the same noise too
    return found


def _matrix_per_draw(system: System, covariance: JacobianCovariance, like: Tensor) -> Tensor:
    """``K`` row by row, (B, M, M): one vector-Jacobian product per measurement."""
    eye = torch.eye(system.measurements, dtype=torch.float64, device=system.y.device)
    rows = system.adjoint(eye, like.dtype)
    products = [system.apply(covariance(row.expand(len(like), *row.shape))) for row in rows]
    return torch.stack(products, dim=1)

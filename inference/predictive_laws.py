r"""The predictive laws ``z' ~ N(m, K)`` by how K is held: scaled singular values, a matrix, or a product.

Which of them serves a belief, :mod:`bayes_ir.inference.predictive` says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.covariances import ImageCovariance, ScalarCovariance
from bayes_ir.inference.problem import ModelError
from bayes_ir.inference.system import System
from bayes_ir.models.channels.base import TiltedNormaliser
from bayes_ir.models.operators.conjugate_gradients import conjugate_gradients

__all__ = ["Eigen", "Inverted", "MatrixFree", "Predictive", "PulledSolution", "Scaled", "Spectral", "eigen"]


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


class Scaled(Spectral):
    """``V = v I``: U is that of ``D^-1 A = U S V^T`` and ``kappa = v S^2``."""

    def __init__(self, system: System, variance: float) -> None:
        super().__init__(system)
        self._v = variance

    @cached_property
    def kappa(self) -> Tensor:  # type: ignore[override]
        return self._v * self.system.svd.singular_values**2

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

    def pulled_solve(
        self, residual: Tensor, dtype: torch.dtype, start: Tensor | None = None
    ) -> PulledSolution:
        # S (1 + v S^2)^-1 = (S^-1 + v S)^-1
        svd = self.system.svd
        damped = torch.add(self.system.direction_noise, svd.singular_values, alpha=self._v)
        return PulledSolution(svd.right(self.left_adjoint(residual) / damped).to(dtype), None, {})


class Eigen(Spectral):
    """K decomposed as a matrix, ``U diag(kappa) U^T``, or as one matrix per draw.

    Args:
        system: ``D^-1 A`` and the channel.
        kappa: eigenvalues, (M,) or (B, M).
        u: U, (M, M) or (B, M, M).
        variance: ``diag(K)``, as kappa.
    """

    def __init__(self, system: System, kappa: Tensor, u: Tensor, variance: Tensor) -> None:
        super().__init__(system)
        self.kappa, self._u, self._variance = kappa, u, variance

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


def eigen(k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``kappa``, U and ``diag(K)`` of matrices K."""
    kappa, u = torch.linalg.eigh((k + k.mT) / 2)
    return kappa.clamp(min=0), u, k.diagonal(dim1=-2, dim2=-1)


class Inverted(Predictive):
    """``(I + K)^-1`` as a matrix (M, M), for solves alone."""

    def __init__(self, system: System, inverse: Tensor, variance: Tensor) -> None:
        super().__init__(system)
        self._inverse, self._variance = inverse, variance

    @property
    def variance(self) -> Tensor:
        return self._variance

    def pulled_solve(
        self, residual: Tensor, dtype: torch.dtype, start: Tensor | None = None
    ) -> PulledSolution:
        return PulledSolution(self.system.adjoint(residual @ self._inverse, dtype), None, {})


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

r"""The measurement system ``z' = D^-1 A x``, every measurement divided by its noise.

With ``D = diag(noise_std)`` the noise is one everywhere, and what a likelihood score needs is

    D^-1 A x,    (D^-1 A)^T r,    (D^-1 A)^T (I + v D^-1 A A^T D^-1)^-1 r.

Where the singular value decomposition ``D^-1 A = U S V^T`` can be had, the last is ``V S (I + v S^2)^-1 U^T r``
and the system is a :class:`SpectralSystem`; otherwise it is solved by conjugate gradients.  If the noise is the
same everywhere, U and V are those of A; otherwise ``D^-1 A`` is decomposed as a matrix, or solved, once more.

Measurement-space arithmetic is float64 and flat: (B, M); images keep their own type.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from bayes_ir.models.channels import Channel
from bayes_ir.models.channels.base import TiltedNormaliser
from bayes_ir.models.operators import Diagonal, LinearOperator
from bayes_ir.models.operators.conjugate_gradients import conjugate_gradients

__all__ = ["MatrixFreeSystem", "PulledSolution", "SpectralSystem", "System", "measurement_system"]


class PulledSolution(NamedTuple):
    """``(D^-1 A)^T (I + v D^-1 A A^T D^-1)^-1 r`` and how it was found."""

    image: Tensor  # (B, *event_shape)
    solved: Tensor | None  # (I + v ...)^-1 r, (B, M), a start for the next call; None if none is needed
    info: dict[str, Tensor]  # each (B,)


def measurement_system(operator: LinearOperator, channel: Channel, y: Tensor) -> System:
    """The system of an operator and a channel: by decomposition where there is one, else matrix-free."""
    noise = (
        torch.as_tensor(channel.noise_std, dtype=torch.float64, device=y.device).expand(y.shape).reshape(-1)
    )
    whitened: LinearOperator = operator.to(dtype=torch.float64)
    if bool((noise == noise[0]).all()):
        whitened = whitened * (1 / float(noise[0]))
    else:
        whitened = Diagonal(1 / noise.reshape(operator.measurement_shape)) @ whitened  # type: ignore[assignment]
    kind = SpectralSystem if whitened.has_svd else MatrixFreeSystem
    return kind(operator, whitened, channel, y, noise)


class System(ABC):
    """``z' = D^-1 A x`` with its channel.

    Args:
        operator: ``A``.
        whitened: ``D^-1 A``, float64.
        channel: ``p(y | z)``.
        y: measurements, shaped as ``operator.measurement_shape``.
        noise: the diagonal of D, (M,), float64.

    Attributes:
        measurements: M.
        channel: the channel at y.
    """

    def __init__(
        self, operator: LinearOperator, whitened: LinearOperator, channel: Channel, y: Tensor, noise: Tensor
    ) -> None:
        self.operator = operator
        self.whitened = whitened
        self.measurements = operator.measurement_shape.numel()
        self.y = y.to(torch.float64).reshape(-1)
        self.noise = noise
        self.channel = channel.with_location(y.to(torch.float64))

    @cached_property
    def row_energy(self) -> Tensor:
        """Squared norms of the rows of ``D^-1 A``, (M,), float64."""
        return self.whitened.gram_diagonal().reshape(-1)

    @property
    @abstractmethod
    def largest_eigenvalue(self) -> Tensor:
        """Upper bound of the eigenvalues of ``D^-1 A A^T D^-1``, a float64 scalar."""

    @abstractmethod
    def pulled_solve(
        self, residual: Tensor, variance: Tensor, dtype: torch.dtype, start: Tensor | None = None
    ) -> PulledSolution:
        """``(D^-1 A)^T (I + v D^-1 A A^T D^-1)^-1 r`` for r (B, M) and a scalar v, as images of a dtype."""

    def apply(self, x: Tensor) -> Tensor:
        """``D^-1 A x`` for images (B, *event_shape): (B, M), float64."""
        return self.operator(x).to(torch.float64).reshape(len(x), -1) / self.noise

    def adjoint(self, r: Tensor, dtype: torch.dtype) -> Tensor:
        """``(D^-1 A)^T r``: (B, M) to images (B, *event_shape) of a dtype."""
        return self.whitened.adjoint(r.reshape(len(r), *self.operator.measurement_shape)).to(dtype)

    def residual(self, x: Tensor) -> Tensor:
        """``D^-1 (y - A x)``, (B, M)."""
        return self.y / self.noise - self.apply(x)

    def tilt(self, mean: Tensor, variance: Tensor) -> TiltedNormaliser:
        """Tilted normaliser of the channel in whitened coordinates, all (B, M)."""
        shape = (len(mean), *self.operator.measurement_shape)
        y = self.y.reshape(self.operator.measurement_shape)
        log_z, slope, curvature = self.channel.tilt(
            y, (mean * self.noise).reshape(shape), (variance * self.noise**2).expand_as(mean).reshape(shape)
        )
        flat = mean.shape
        return TiltedNormaliser(
            log_z.reshape(flat), slope.reshape(flat) * self.noise, curvature.reshape(flat) * self.noise**2
        )


class SpectralSystem(System):
    """A system with its singular value decomposition ``D^-1 A = U S V^T``."""

    @cached_property
    def singular_values(self) -> Tensor:
        """Of ``D^-1 A``, (r,), float64, positive."""
        return self.whitened.svd.singular_values

    @property
    def largest_eigenvalue(self) -> Tensor:
        """``s_1^2``."""
        return self.singular_values[0] ** 2

    def left(self, c: Tensor) -> Tensor:
        """``U c``: (B, r) to (B, M)."""
        return self.whitened.svd.left(c).reshape(len(c), -1)

    def left_adjoint(self, z: Tensor) -> Tensor:
        """``U^T z``: (B, M) to (B, r)."""
        return self.whitened.svd.left_adjoint(z.reshape(len(z), *self.operator.measurement_shape))

    def left_matrix(self) -> Tensor:
        """U, (M, r), float64."""
        return self.whitened.svd.left_matrix()

    def pull(self, c: Tensor, dtype: torch.dtype) -> Tensor:
        """``(D^-1 A)^T U c = V S c``: (B, r) to images (B, *event_shape)."""
        return self.whitened.svd.right(c * self.singular_values).to(dtype)

    def pulled_solve(
        self, residual: Tensor, variance: Tensor, dtype: torch.dtype, start: Tensor | None = None
    ) -> PulledSolution:
        """``V S (I + v S^2)^-1 U^T r``."""
        slope = self.left_adjoint(residual) / (1 + variance * self.singular_values**2)
        return PulledSolution(self.pull(slope, dtype), None, {})


class MatrixFreeSystem(System):
    """A system without a decomposition, solved by conjugate gradients to a relative residual of 1e-5.

    ``info`` carries ``cg_iterations`` and ``cg_residual``; a solve that stops at the cap of 300 iterations
    shows there.
    """

    @cached_property
    def largest_eigenvalue(self) -> Tensor:
        """Squared norm by power iteration, which comes from below: 2 % are added."""
        norm = self.whitened.norm(tolerance=1e-3)
        return torch.tensor(1.02 * norm**2, dtype=torch.float64, device=self.y.device)

    def pulled_solve(
        self, residual: Tensor, variance: Tensor, dtype: torch.dtype, start: Tensor | None = None
    ) -> PulledSolution:
        """By conjugate gradients in measurement space, from ``start``."""
        shape = self.operator.measurement_shape

        def system(r: Tensor) -> Tensor:
            return r + variance * self.whitened.forward(
                self.whitened.adjoint(r.unflatten(-1, shape))
            ).flatten(1)

        found = conjugate_gradients(system, residual, 1, start=start, tolerance=1e-5, max_iterations=300)
        info = {"cg_iterations": found.iterations, "cg_residual": found.residual}
        return PulledSolution(self.adjoint(found.solution, dtype), found.solution, info)

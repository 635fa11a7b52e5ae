r"""The measurement system in whitened singular coordinates.

Dividing every measurement by its noise standard deviation gives ``z' = D^-1 A x`` with
``D = diag(noise_std)`` and unit noise.  With the singular value decomposition
``D^-1 A = U S V^T`` everything a likelihood score needs is a product with U or V and
arithmetic on the singular values.  If the noise is the same everywhere, U and V are those of A;
otherwise the scaled matrix is decomposed once.

Measurement-space arithmetic is float64 and flat: (B, M); images keep their own type.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayes_ir.models.channels import Channel
from bayes_ir.models.channels.base import TiltedNormaliser
from bayes_ir.models.operators import DenseOperator, LinearOperator

__all__ = ["System"]

_LARGEST_DENSE = 50_000_000


class System:
    """``z' = D^-1 A x`` with its singular value decomposition and its channel.

    Args:
        operator: ``A``.
        channel: ``p(y | z)``; its ``noise_std`` is the diagonal of D.
        y: measurements, shaped as ``operator.measurement_shape``.

    Attributes:
        singular_values: of ``D^-1 A``, (r,), float64, positive.
        measurements: M.
        row_energy: squared norms of the rows of ``D^-1 A``, (M,), float64.

    Raises:
        ValueError: when the noise differs between measurements and ``D^-1 A`` is too large to hold.
    """

    def __init__(self, operator: LinearOperator, channel: Channel, y: Tensor) -> None:
        self.operator = operator
        self.measurements = operator.measurement_shape.numel()
        self.y = y.to(torch.float64).reshape(-1)
        self._channel = channel.with_location(y.to(torch.float64))
        self.noise = (
            torch.as_tensor(channel.noise_std, dtype=torch.float64, device=y.device)
            .expand(y.shape)
            .reshape(-1)
        )
        if bool((self.noise == self.noise[0]).all()):
            self._svd = operator.to(dtype=torch.float64).svd
            self.singular_values = self._svd.singular_values / self.noise[0]
            self.row_energy = self._svd.gram_diagonal().reshape(-1) / self.noise[0] ** 2
        else:
            self._svd = self._whitened_matrix().svd
            self.singular_values = self._svd.singular_values
            self.row_energy = self._svd.gram_diagonal().reshape(-1)

    def _whitened_matrix(self) -> DenseOperator:
        operator = self.operator.to(dtype=torch.float64)
        n = operator.event_shape.numel()
        if n * self.measurements > _LARGEST_DENSE:
            raise ValueError(
                f"noise_std differs between the {self.measurements} measurements, and a matrix of "
                f"{self.measurements} x {n} is too large to decompose; use one noise_std for all of them."
            )
        return DenseOperator(operator.to_matrix() / self.noise[:, None])

    def apply(self, x: Tensor) -> Tensor:
        """``D^-1 A x`` for images (B, *event_shape): (B, M), float64."""
        return self.operator(x).to(torch.float64).reshape(len(x), -1) / self.noise

    def left(self, c: Tensor) -> Tensor:
        """``U c``: (B, r) to (B, M)."""
        return self._svd.left(c).reshape(len(c), -1)

    def left_adjoint(self, z: Tensor) -> Tensor:
        """``U^T z``: (B, M) to (B, r)."""
        shape = self._svd.measurement_shape
        return self._svd.left_adjoint(z.reshape(len(z), *shape))

    def left_matrix(self) -> Tensor:
        """U, (M, r), float64."""
        return self._svd.left_matrix()

    def pull(self, c: Tensor, dtype: torch.dtype) -> Tensor:
        """``(D^-1 A)^T U c = V S c``: (B, r) to images (B, *event_shape)."""
        image = self._svd.right(c * self.singular_values)
        return image.reshape(len(c), *self.operator.event_shape).to(dtype)

    def tilt(self, mean: Tensor, variance: Tensor) -> TiltedNormaliser:
        """Tilted normaliser of the channel in whitened coordinates, all (B, M)."""
        shape = (len(mean), *self.operator.measurement_shape)
        y = self.y.reshape(self.operator.measurement_shape)
        log_z, slope, curvature = self._channel.tilt(
            y, (mean * self.noise).reshape(shape), (variance * self.noise**2).expand_as(mean).reshape(shape)
        )
        flat = mean.shape
        return TiltedNormaliser(
            log_z.reshape(flat), slope.reshape(flat) * self.noise, curvature.reshape(flat) * self.noise**2
        )

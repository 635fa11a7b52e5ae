r"""Orthonormal bases of image space, in which the covariance of a denoiser is nearly diagonal.

    c_i = q_i^T x    (analysis),        x = sum_i c_i q_i    (synthesis),        q_i^T q_j = delta_ij.

A basis of rank R < N, the number of pixels, is incomplete: synthesis after analysis is then the projection on its
span, and the orthogonal complement has no coordinates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from bayes_ir.models.operators.transforms import dct, inverse_dct

__all__ = [
    "BASES",
    "Basis",
    "DCTBasis",
    "PCABasis",
    "PixelBasis",
    "make_basis",
    "moved_basis",
    "principal_components",
]

BASES = ("dct", "pca", "pixel", "scalar")


class Basis(ABC):
    """Orthonormal vectors ``q_1 .. q_R`` of image space; both transforms batch, differentiate and keep the type.

    Args:
        event_shape: shape of one image, (C, H, W), (H, W) or (N,).

    Attributes:
        event_shape: as given.
        rank: number of vectors R.
    """

    def __init__(self, event_shape: Sequence[int]) -> None:
        self.event_shape = torch.Size(event_shape)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(event_shape={tuple(self.event_shape)}, rank={self.rank})"

    @property
    def rank(self) -> int:
        """Number of vectors R."""
        return self.event_shape.numel()

    @property
    def complete(self) -> bool:
        """Whether the vectors span image space."""
        return self.rank == self.event_shape.numel()

    @abstractmethod
    def analyse(self, x: Tensor) -> Tensor:
        """Coefficients ``q_i^T x``, (*batch, *event_shape) -> (*batch, R)."""

    @abstractmethod
    def synthesise(self, c: Tensor) -> Tensor:
        """``sum_i c_i q_i``, (*batch, R) -> (*batch, *event_shape); the transpose of :meth:`analyse`."""

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Basis:
        """The same basis with its tensors, if any, on another device or in another type."""
        return self

    def _batch_of(self, x: Tensor) -> torch.Size:
        return x.shape[: x.ndim - len(self.event_shape)]


class PixelBasis(Basis):
    """The pixels themselves, ``q_i`` the i-th unit vector."""

    def analyse(self, x: Tensor) -> Tensor:
        return x.reshape(*self._batch_of(x), -1)

    def synthesise(self, c: Tensor) -> Tensor:
        return c.reshape(*c.shape[:-1], *self.event_shape)


class DCTBasis(PixelBasis):
    """The cosines of the orthonormal two-dimensional DCT-II of each channel, of the one-dimensional one for (N,)."""

    def analyse(self, x: Tensor) -> Tensor:
        c = dct(x)
        if len(self.event_shape) > 1:
            c = dct(c.mT).mT
        return super().analyse(c)

    def synthesise(self, c: Tensor) -> Tensor:
        x = super().synthesise(c)
        if len(self.event_shape) > 1:
            x = inverse_dct(x.mT).mT
        return inverse_dct(x)


class PCABasis(Basis):
    """The columns of a matrix, as a principal component analysis gives them.

    Args:
        components: ``q_1 .. q_R`` as columns, (N, R), orthonormal to 1e-4.
        event_shape: shape of one image, by default (N,).

    Raises:
        ValueError: when the shapes do not fit or the columns are not orthonormal.
    """

    def __init__(self, components: Tensor, event_shape: Sequence[int] | None = None) -> None:
        super().__init__(components.shape[:1] if event_shape is None else event_shape)
        shape, n = tuple(components.shape), self.event_shape.numel()
        if len(shape) != 2 or shape[0] != n or not 1 <= shape[1] <= n:
            raise ValueError(
                f"PCABasis: got components of shape {shape} for images {tuple(self.event_shape)}; expected "
                f"({n}, R) with 1 <= R <= {n}, one component per column."
            )
        gram = components.mT @ components
        error = float((gram - torch.eye(shape[1], dtype=gram.dtype, device=gram.device)).abs().max())
        if not error <= 1e-4:
            raise ValueError(
                f"PCABasis: the columns of components are not orthonormal (their products are off by {error:.1g}); "
                "make them so with torch.linalg.qr."
            )
        self.components = components

    @property
    def rank(self) -> int:
        """Number of components R."""
        return self.components.shape[1]

    def analyse(self, x: Tensor) -> Tensor:
        return x.reshape(*self._batch_of(x), -1) @ self.components.to(x)

    def synthesise(self, c: Tensor) -> Tensor:
        return (c @ self.components.to(c).mT).reshape(*c.shape[:-1], *self.event_shape)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> PCABasis:
        components = self.components.to(device=device, dtype=dtype)
        if components is self.components:
            return self
        other = object.__new__(PCABasis)
        other.event_shape, other.components = self.event_shape, components
        return other


def principal_components(images: Tensor, rank: int | None = None) -> Tensor:
    """Leading eigenvectors of the covariance of images (n, *event_shape) as columns, (N, rank), float64.

    Args:
        images: n of them, at least two.
        rank: number of components, by default ``min(N, 256)``; no more than ``min(N, n - 1)`` exist.
    """
    x = images.flatten(1)
    n, pixels = x.shape
    rank = min(256 if rank is None else rank, pixels, n - 1)
    mean = x.mean(0, dtype=torch.float64)
    if n < pixels:
        return torch.linalg.svd(x - mean, full_matrices=False)[2][:rank].mT.contiguous()
    scatter = torch.zeros(pixels, pixels, dtype=torch.float64, device=x.device)
    for rows in x.split(4096):
        scatter.addmm_((rows - mean).mT, rows - mean)
    return torch.linalg.eigh(scatter)[1].flip(-1)[:, :rank].contiguous()


@lru_cache(maxsize=16)
def moved_basis(basis: Basis, device: torch.device | str | None, dtype: torch.dtype | None) -> Basis:
    """``basis.to(device, dtype)``, remembered: calibrations that share a basis share it there too."""
    return basis.to(device, dtype)


def make_basis(
    name: str,
    event_shape: Sequence[int],
    images: Tensor | None = None,
    components: Tensor | None = None,
    device: torch.device | str | None = None,
) -> Basis | None:
    """The basis called ``name`` for images of one shape; ``None`` for a scalar."""
    if name == "scalar":
        return None
    if name == "pixel":
        return PixelBasis(event_shape)
    if name == "dct":
        return DCTBasis(event_shape)
    if name != "pca":
        raise ValueError(f"calibration: unknown basis {name!r}; expected one of {list(BASES)}.")
    if components is None and images is None:
        raise ValueError("calibration: the basis 'pca' needs images or components.")
    columns = principal_components(images) if components is None else components  # type: ignore[arg-type]
    return PCABasis(columns.to(device, torch.float64), event_shape)

r"""Measurement operators z = A(x), from images to what an instrument would read without noise.

A linear operator is a matrix that is rarely written down.  With N numbers in an image and M in
a measurement, methods ask it for

    A x,    A^T z,    A^+ z = V diag(1/s) U^T z,    diag(A A^T),    A = U diag(s) V^T,

all over leading batch dimensions and differentiable.  Calling an operator announces it to Pyro's
effect handlers: a model that says ``Gaussian(A(x), noise_std)`` has said which operator it uses,
and a handler with a hook ``_pyro_post_operator(self, msg)`` reads it from
``msg["args"] == (A, x)`` and ``msg["value"]``.  Without a handler it is a plain function call.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from pyro.poutine.runtime import effectful
from torch import Tensor

from bayes_ir.models.operators._checks import as_dtype, as_shape, expect
from bayes_ir.models.operators.svd import SVD, DenseSVD

__all__ = ["LinearOperator", "Operator"]


@effectful(type="operator")
def _announce(operator: Operator, x: Tensor) -> Tensor:
    return operator.forward(x)


class Operator(ABC):
    """Any map ``z = A(x)`` from images to noise-free measurements.

    A subclass gives :meth:`forward`.  Tensors it stores as attributes follow :meth:`to`.

    Args:
        event_shape: shape of one image x.
        measurement_shape: shape of one measurement z.
        dtype: floating dtype of x and z.
        device: where they live.

    Attributes:
        rounding: machine epsilon of the coarsest dtype that the stored numbers have passed through.

    Raises:
        TypeError: for a shape that is no tuple, or a dtype that is not floating.
        ValueError: for an empty dimension.
    """

    linear: ClassVar[bool] = False

    def __init__(
        self,
        event_shape: Any,
        measurement_shape: Any,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        where = type(self).__name__
        self.event_shape = as_shape(where, "event_shape", event_shape)
        self.measurement_shape = as_shape(where, "measurement_shape", measurement_shape)
        self.dtype = as_dtype(where, dtype)
        self.device = torch.device(device)
        self.rounding: float = torch.finfo(dtype).eps

    def __call__(self, x: Tensor) -> Tensor:
        """Apply the operator: (*batch, *event_shape) -> (*batch, *measurement_shape).

        Raises:
            ValueError: if the trailing dimensions are not ``event_shape``, or for another device.
            TypeError: if ``x`` is no tensor of the operator's dtype.
        """
        expect(type(self).__name__, "x", x, self.event_shape, self.dtype, self.device)
        return _announce(self, x)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The bare map: neither checked nor announced, for use inside other maps."""

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy on another device or in another dtype; this one stays as it is."""
        where = type(self).__name__
        if isinstance(device, torch.dtype):
            raise TypeError(f"{where}.to: expected a device first, got {device}; try A.to(dtype={device}).")
        other = copy.copy(self)
        if dtype is not None:
            other.dtype = as_dtype(f"{where}.to", dtype)
            other.rounding = max(self.rounding, torch.finfo(dtype).eps)
        if device is not None:
            other.device = torch.empty(0, device=device).device  # "cuda" means "cuda:0"
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                kept = other.dtype if value.is_floating_point() else value.dtype
                setattr(other, name, value.to(other.device, kept))
        return other

    def extra_repr(self) -> str:
        """The settings of the operator as they would be typed into its constructor."""
        return f"event_shape={tuple(self.event_shape)}, measurement_shape={tuple(self.measurement_shape)}"

    def __repr__(self) -> str:
        dtype = "" if self.dtype == torch.float32 else f", dtype={self.dtype}"
        device = "" if self.device.type == "cpu" else f".to(device='{self.device}')"
        return f"{type(self).__name__}({self.extra_repr()}{dtype}){device}"


class LinearOperator(Operator):
    """A linear map ``z = A x``.

    A subclass gives :meth:`forward` and :meth:`adjoint`, and, where its structure is known,
    :meth:`decompose`; without it the decomposition is that of the matrix.
    """

    linear: ClassVar[bool] = True

    @abstractmethod
    def adjoint(self, z: Tensor) -> Tensor:
        """``A^T z``: (*batch, *measurement_shape) -> (*batch, *event_shape)."""

    def pinv(self, z: Tensor, rcond: float = 0.0) -> Tensor:
        """Moore-Penrose inverse ``A^+ z = V diag(1/s) U^T z``.

        Args:
            z: measurement, shape (*batch, *measurement_shape).
            rcond: singular values up to ``rcond`` times the largest count as null, beyond those
                that :attr:`svd` has already left out.

        Raises:
            ValueError: unless ``0 <= rcond < 1``, or for a wrong shape.
        """
        if not 0 <= rcond < 1:
            raise ValueError(f"{type(self).__name__}.pinv: expected 0 <= rcond < 1, got {rcond}.")
        s = self.svd.singular_values
        inverse = torch.where(s > rcond * s[:1], 1 / s, 0.0)
        return self.svd.right(self.svd.left_adjoint(z) * inverse.to(self.dtype))

    @cached_property
    def svd(self) -> SVD:
        """The thin decomposition ``A = U diag(s) V^T``, made at the first use and kept."""
        return self.decompose()

    def decompose(self) -> SVD:
        """Decompose the operator anew; :attr:`svd` keeps the result."""
        return DenseSVD.of_matrix(self.to_matrix(), self.event_shape, self.measurement_shape, self.rounding)

    def to_matrix(self) -> Tensor:
        """``A`` as a matrix (M, N), both sides in row-major order."""
        n = self.event_shape.numel()
        basis = torch.eye(n, dtype=self.dtype, device=self.device).unflatten(-1, self.event_shape)
        return self.forward(basis).reshape(n, -1).mT

    def gram_diagonal(self) -> Tensor:
        """``diag(A A^T)``, the squared norms of the rows of ``A``, shaped measurement_shape."""
        return self.svd.gram_diagonal()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy on another device or in another dtype; a decomposition already made goes along.

        A wider dtype invents no digits: the copy keeps the rounded entries, and decomposes them anew
        at the first use, because rounded factors are not orthonormal to the wider precision.
        """
        other = super().to(device, dtype)
        made = vars(other).pop("svd", None)
        wider = torch.finfo(other.dtype).eps < torch.finfo(self.dtype).eps
        if isinstance(made, DenseSVD) and not wider:
            other.svd = made.to(other.device, other.dtype)
        return other

    def _expect_measurement(self, z: Tensor) -> None:
        expect(f"{type(self).__name__}.adjoint", "z", z, self.measurement_shape, self.dtype, self.device)

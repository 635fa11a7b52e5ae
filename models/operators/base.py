r"""Measurement operators z = A(x), from images to what an instrument would read without noise.

Calling an operator announces it to Pyro's effect handlers: a model that says ``Gaussian(A(x), noise_std)``
has said which operator it uses, and a handler with a hook ``_pyro_post_operator(self, msg)`` reads it from
``msg["args"] == (A, x)`` and ``msg["value"]``.  Without a handler it is a plain function call.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch
from pyro.poutine.runtime import effectful
from torch import Tensor

from bayes_ir.models.operators._checks import as_dtype, as_shape, expect, follow

__all__ = ["Operator"]


@effectful(type="operator")
def _announce(operator: Operator, x: Tensor) -> Tensor:
    return operator.forward(x)


class Operator(ABC):
    """Any map ``z = A(x)`` from images to noise-free measurements.

    A subclass gives :meth:`forward`.  Tensors and operators it stores as attributes follow :meth:`to`.

    Args:
        event_shape: shape of one image x.
        measurement_shape: shape of one measurement z.
        dtype: floating dtype of x and z.
        device: where they live.

    Attributes:
        linear: whether the map is linear.
        differentiable: whether its derivative means anything; methods that follow the likelihood's gradient ask.
        rounding: machine epsilon of the coarsest dtype that the stored numbers have passed through.

    Raises:
        TypeError: for a shape that is no tuple, or a dtype that is not floating.
        ValueError: for an empty dimension.
    """

    linear: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True

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

    def pinv(self, z: Tensor) -> Tensor:
        """A pseudo-inverse with ``A(A.pinv(A(x))) = A(x)``, such as the decoding of an encoding.

        Raises:
            TypeError: for an operator that has none.
        """
        raise TypeError(
            f"{type(self).__name__} has no pseudo-inverse; kernels that need one cannot serve it."
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy on another device or in another dtype; this one stays as it is, and is returned where it fits."""
        where = type(self).__name__
        if isinstance(device, torch.dtype):
            raise TypeError(f"{where}.to: expected a device first, got {device}; try A.to(dtype={device}).")
        if dtype in (None, self.dtype) and (
            device is None or torch.empty(0, device=device).device == self.device
        ):
            return self
        other = copy.copy(self)
        if dtype is not None:
            other.dtype = as_dtype(f"{where}.to", dtype)
            other.rounding = max(self.rounding, torch.finfo(dtype).eps)
        if device is not None:
            other.device = torch.empty(0, device=device).device  # "cuda" means "cuda:0"
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(other, name, follow(value, other.device, other.dtype))
            elif isinstance(value, Operator):
                setattr(other, name, value.to(device, dtype))
            elif isinstance(value, tuple) and any(isinstance(part, Operator) for part in value):
                setattr(other, name, tuple(part.to(device, dtype) for part in value))
        return other

    def __matmul__(self, inner: Operator) -> Operator:
        """``A @ B``, the operator ``x -> A(B(x))``; linear if both are."""
        from bayes_ir.models.operators.composition import compose

        return compose(self, inner) if isinstance(inner, Operator) else NotImplemented

    def extra_repr(self) -> str:
        """The settings of the operator as they would be typed into its constructor."""
        return f"event_shape={tuple(self.event_shape)}, measurement_shape={tuple(self.measurement_shape)}"

    def __repr__(self) -> str:
        dtype = "" if self.dtype == torch.float32 else f", dtype={self.dtype}"
        device = "" if self.device.type == "cpu" else f".to(device='{self.device}')"
        return f"{type(self).__name__}({self.extra_repr()}{dtype}){device}"

r"""Direct observation: z = x, for denoising and dequantisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.svd import SVD, OrthonormalRowsSVD

__all__ = ["Identity"]


class Identity(LinearOperator):
    """``z = x``: every pixel is seen as it is.

    Args:
        event_shape: shape of an image, and of a measurement.
        dtype: dtype of the operator.
    """

    structured = True

    def __init__(self, event_shape: Any, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(event_shape, event_shape, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``z = x``."""
        # A new tensor object: who reads a model tells image and measurement apart by identity.
        return x.view_as(x)

    def adjoint(self, z: Tensor) -> Tensor:
        """``x = z``."""
        self._expect_measurement(z)
        return z.view_as(z)

    def decompose(self) -> SVD:
        """``U = V = I``, ``s = 1``."""
        return OrthonormalRowsSVD(self)

    def extra_repr(self) -> str:
        """The one setting."""
        return f"event_shape={tuple(self.event_shape)}"

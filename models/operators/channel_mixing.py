r"""Mixtures of the channels of every pixel: z_p = B x_p for the C numbers x_p of pixel p.

The operator is A = B kron I kron I; with B = U diag(s) V^T its singular values are those of B, each as often as
there are pixels, and neither A nor an identity is ever formed.  Colorization is the case of one row,
z_p = k^T x_p, with the single singular value |k|.
"""

from __future__ import annotations

from typing import Any

import torch

from bayes_ir.models.operators._checks import as_image_shape, as_real
from bayes_ir.models.operators.kronecker import Kronecker

__all__ = ["ChannelMixing", "Colorization"]


class ChannelMixing(Kronecker):
    """``z_p = B x_p``: the channels of every pixel p are mixed by the same matrix.

    Args:
        event_shape: shape (C, H, W) of an image; a measurement has shape (K, H, W).
        matrix: ``B``, shape (K, C).
        dtype: dtype of the operator.

    Raises:
        TypeError: for a complex matrix.
        ValueError: if the matrix is no matrix, is not finite, or has another number of columns than C.
    """

    def __init__(self, event_shape: Any, matrix: Any, dtype: torch.dtype = torch.float32) -> None:
        where = type(self).__name__
        shape = as_image_shape(where, event_shape)
        matrix = as_real(where, "matrix", matrix, 2)
        if matrix.shape[1] != shape[0]:
            raise ValueError(
                f"{where}: a matrix of shape {tuple(matrix.shape)} takes {matrix.shape[1]} channels, but "
                f"event_shape={tuple(shape)} has {shape[0]}; expected a matrix ({matrix.shape[0]}, {shape[0]})."
            )
        super().__init__(None, None, matrix, shape, dtype)

    def extra_repr(self) -> str:
        """The size of the matrix stands for the matrix."""
        k, c = self.measurement_shape[0], self.event_shape[0]
        return f"event_shape={tuple(self.event_shape)}, matrix=<{k} x {c}>"


class Colorization(ChannelMixing):
    """``z_p = k^T x_p``: the grey value of every pixel p, from which its colours are to be restored.

    Args:
        event_shape: shape (C, H, W) of an image; a measurement has shape (1, H, W).
        weights: ``k``, shape (C,), not normalised; by default ``1/C`` each, (1/3, 1/3, 1/3) for colour images as
            in DDRM.  The luma of Rec. 601 is (0.299, 0.587, 0.114).
        dtype: dtype of the operator.

    Raises:
        ValueError: if the number of weights is not C, or all are zero.

    Source: Kawar et al. 2022 (DDRM, arXiv 2201.11793).
    """

    def __init__(self, event_shape: Any, weights: Any = None, dtype: torch.dtype = torch.float32) -> None:
        where = type(self).__name__
        shape = as_image_shape(where, event_shape)
        weights = [1 / shape[0]] * shape[0] if weights is None else weights
        k = as_real(where, "weights", weights, 1)
        if len(k) != shape[0]:
            raise ValueError(
                f"{where}: expected one weight for each of the {shape[0]} channels of event_shape={tuple(shape)}, "
                f"got {len(k)}."
            )
        if not k.any():
            raise ValueError(f"{where}: all {len(k)} weights are zero: nothing would be observed.")
        super().__init__(shape, k[None], dtype)
        self.weights = tuple(k.tolist())

    def extra_repr(self) -> str:
        """The settings."""
        return f"event_shape={tuple(self.event_shape)}, weights={self.weights}"

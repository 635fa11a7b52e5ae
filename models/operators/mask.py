r"""Missing pixels: z = (x_j : pixel j is observed), for inpainting.

The rows of A are those of the identity that belong to observed pixels, in row-major order, so
A A^T = I and A^T fills the missing pixels with zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayes_ir.models.operators._gather import take
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.svd import SVD, OrthonormalRowsSVD

__all__ = ["Mask"]


class Mask(LinearOperator):
    """``z = x[mask]``: the observed pixels, in row-major order.

    Args:
        mask: True where a pixel is observed, bool, shape event_shape (channels included).
        dtype: dtype of the operator.

    Raises:
        TypeError: if the mask is not boolean.
        ValueError: if no pixel is observed.
    """

    structured = True

    def __init__(self, mask: Tensor, dtype: torch.dtype = torch.float32) -> None:
        mask = torch.as_tensor(mask)
        if mask.dtype != torch.bool:
            raise TypeError(f"Mask: expected a bool tensor, got {mask.dtype}; try mask > 0.")
        if not mask.any():
            raise ValueError(f"Mask: none of the {mask.numel()} pixels is observed; True means observed.")
        super().__init__(mask.shape, (int(mask.sum()),), dtype, mask.device)
        self.mask = mask  # (*event_shape)
        self.observed = mask.flatten().nonzero().squeeze(-1)  # (M,)

    def forward(self, x: Tensor) -> Tensor:
        """The observed pixels."""
        return take(x.flatten(-len(self.event_shape)), self.observed)

    def adjoint(self, z: Tensor) -> Tensor:
        """The image with zeros where nothing was observed."""
        self._expect_measurement(z)
        blank = z.new_zeros(*z.shape[:-1], self.event_shape.numel())
        return blank.index_copy(-1, self.observed, z).unflatten(-1, self.event_shape)

    def decompose(self) -> SVD:
        """``U = I``, ``s = 1``, ``V = A^T``."""
        return OrthonormalRowsSVD(self)

    def extra_repr(self) -> str:
        """The number of observed pixels stands for the mask."""
        seen = f"{len(self.observed)} of {self.mask.numel()}"
        return f"mask=<{seen} observed>, event_shape={tuple(self.event_shape)}"

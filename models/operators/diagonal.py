r"""A gain for every number: z_m = g_m x_m."""

from __future__ import annotations

import torch
from torch import Tensor

from bayes_ir.models.operators._gather import take
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.svd import SVD

__all__ = ["Diagonal", "DiagonalSVD"]


class Diagonal(LinearOperator):
    """``z = g x``: a known gain for every pixel, such as a flat field, exposure times or coil gains.

    Args:
        gain: ``g``, shaped as the image; zeros make dead pixels.
        dtype: dtype of the operator; that of the gain (float32 for whole numbers) if not given.

    Raises:
        TypeError: if the gain is complex.
        ValueError: if it is not finite, or zero everywhere.
    """

    structured = True

    def __init__(self, gain: Tensor, dtype: torch.dtype | None = None) -> None:
        gain = torch.as_tensor(gain)
        if gain.is_complex():
            raise TypeError("Diagonal: expected a real gain, got a complex one.")
        if not gain.isfinite().all() or not gain.any():
            raise ValueError(f"Diagonal: expected finite gains, not all zero, of shape {tuple(gain.shape)}.")
        dtype = dtype or (gain.dtype if gain.is_floating_point() else torch.float32)
        super().__init__(tuple(gain.shape), tuple(gain.shape), dtype, gain.device)
        self.gain = gain.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``g x``."""
        return self.gain * x

    def adjoint(self, z: Tensor) -> Tensor:
        """``g z``."""
        self._expect_measurement(z)
        return self.gain * z

    def decompose(self) -> SVD:
        """``s = |g|`` in descending order, U and V columns of the identity."""
        return DiagonalSVD(self)

    def gram_diagonal(self) -> Tensor:
        """``g^2``."""
        return self.gain**2

    def extra_repr(self) -> str:
        """The shape stands for the gains."""
        return f"gain=<{self.gain.numel()} gains>, event_shape={tuple(self.event_shape)}"


class DiagonalSVD(SVD):
    """``V`` picks the pixels in descending order of ``|g|``, ``U`` does so with the sign of g.

    Args:
        operator: the diagonal operator.
    """

    def __init__(self, operator: Diagonal) -> None:
        gain = operator.gain.flatten().double()
        s, order = gain.abs().sort(descending=True, stable=True)
        rank = int((s > 0).sum()) if s.device.type != "meta" else len(s)
        super().__init__(s[:rank], operator.event_shape, operator.measurement_shape, operator.dtype)
        self.pixels = order[:rank]
        self.signs = gain[self.pixels].sign().to(operator.dtype)

    def left(self, c: Tensor) -> Tensor:
        """``U c``."""
        self._expect("c", c, self.singular_values.shape)
        return self.right(c * self.signs)

    def left_adjoint(self, z: Tensor) -> Tensor:
        """``U^T z``."""
        self._expect("z", z, self.measurement_shape)
        return self._pick(z) * self.signs

    def right(self, c: Tensor) -> Tensor:
        """``V c``."""
        self._expect("c", c, self.singular_values.shape)
        blank = c.new_zeros(*c.shape[:-1], self.event_shape.numel())
        return blank.index_copy(-1, self.pixels, c).unflatten(-1, self.event_shape)

    def right_adjoint(self, x: Tensor) -> Tensor:
        """``V^T x``."""
        self._expect("x", x, self.event_shape)
        return self._pick(x)

    def gram_diagonal(self) -> Tensor:
        """``g^2``."""
        s = self.singular_values.to(self.dtype)
        return self.left(s**2 * self.signs)

    def _pick(self, x: Tensor) -> Tensor:
        return take(x.flatten(-len(self.event_shape)), self.pixels)

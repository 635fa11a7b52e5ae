r"""Operators that are a product over channels, rows and columns.

For an image X of shape (C, H, W) the operator A = A_c kron A_h kron A_w mixes the channels by A_c (K, C),
every column of pixels by A_h (P, H) and every row of pixels by A_w (Q, W):

    Y_l = A_h X_l A_w^T  for every channel l,    Z_k = sum_l (A_c)_kl Y_l,    Z of shape (K, P, Q).

A factor that is left out is the identity and is not stored.  With factors A_i = U_i diag(s_i) V_i^T

    U = (U_c kron U_h kron U_w) P,    s = P^T (s_c kron s_h kron s_w),    V = (V_c kron V_h kron V_w) P,

where the permutation P puts the products in descending order and leaves the null ones out.  One stored
permutation serves singular values and coefficients alike, so the k-th coefficient always belongs to s_k.
The blur of DDRM, which later projects copied, holds s channel by channel but the coefficients pixel by pixel:
with three channels it is self-adjoint and consistent with itself, but not the blur it is named after.

Applying A costs O(C H W (H + W)) operations, the decomposition three small ones, and the memory is linear in
the pixels beyond the factors.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_image_shape, as_real
from bayes_ir.models.operators._gather import take
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.svd import SVD

__all__ = ["Kronecker", "KroneckerSVD"]


def _multiply(x: Tensor, factors: tuple[Tensor | None, ...], transpose: bool = False) -> Tensor:
    """``(channels kron rows kron columns) x`` or its transpose, (*batch, C, H, W) -> (*batch, K, P, Q)."""
    channels, rows, columns = (f.mT if transpose and f is not None else f for f in factors)
    if rows is not None:
        x = rows @ x
    if columns is not None:
        x = x @ columns.mT
    if channels is not None:
        x = (channels @ x.flatten(-2)).unflatten(-1, x.shape[-2:])
    return x


class KroneckerSVD(SVD):
    """Decomposition of a :class:`Kronecker` operator from those of its factors, computed in float64.

    The rank counts the products that can be told from zero: ``s_k > n eps s_1``, with ``n`` the largest side of
    a factor and ``eps`` the rounding error of its entries.  A copy in a narrower dtype cuts them anew.

    Args:
        operator: the operator, whose factors are copied and carry no gradient back to it.
    """

    def __init__(self, operator: Kronecker) -> None:
        factors = operator._factors
        left: list[Tensor | None] = [None, None, None]
        right: list[Tensor | None] = [None, None, None]
        values = [torch.ones(n, dtype=torch.float64, device=operator.device) for n in operator.event_shape]
        for i, factor in enumerate(factors):
            if factor is not None:
                u, values[i], vt = torch.linalg.svd(factor.detach().double(), full_matrices=False)
                left[i], right[i] = u.to(operator.dtype), vt.mT.to(operator.dtype)
        products = values[0][:, None, None] * values[1][:, None] * values[2]
        singular_values, order = products.flatten().sort(descending=True, stable=True)
        super().__init__(singular_values, operator.event_shape, operator.measurement_shape, operator.dtype)
        self.u_channels, self.u_rows, self.u_columns = left  # (K, r_c), (P, r_h), (Q, r_w)
        self.v_channels, self.v_rows, self.v_columns = right  # (C, r_c), (H, r_h), (W, r_w)
        self.order = order  # (r,), place of the k-th coefficient in the grid (r_c, r_h, r_w) of products
        self._grid = products.shape
        self._side = max(max(factor.shape) for factor in factors if factor is not None)
        self._rounding = operator.rounding
        self._cut()

    def _cut(self) -> None:
        """Leave out what cannot be told from zero."""
        s = self.singular_values
        keep = slice(int((s > self._side * self._rounding * s[:1]).sum()))
        self.singular_values, self.order = s[keep], self.order[keep]

    def to(self, operator: LinearOperator) -> KroneckerSVD:
        """The same decomposition for a copy of the operator; a narrower dtype cuts the rank anew."""
        here = copy.copy(self)
        here._rounding = max(self._rounding, torch.finfo(operator.dtype).eps)
        here._cut()  # before the copy, which may have shapes but no numbers
        return SVD.to(here, operator)

    def _spread(self, c: Tensor) -> Tensor:
        """Coefficients in the grid of products, (*batch, r) -> (*batch, r_c, r_h, r_w)."""
        blank = c.new_zeros(*c.shape[:-1], self._grid.numel())
        return blank.index_copy(-1, self.order, c).unflatten(-1, self._grid)

    def _gather(self, grid: Tensor) -> Tensor:
        """The inverse of :meth:`_spread`."""
        return take(grid.flatten(-3), self.order)

    @property
    def _left(self) -> tuple[Tensor | None, ...]:
        return self.u_channels, self.u_rows, self.u_columns

    @property
    def _right(self) -> tuple[Tensor | None, ...]:
        return self.v_channels, self.v_rows, self.v_columns

    def left(self, c: Tensor) -> Tensor:
        """``U c``."""
        self._expect("c", c, self.singular_values.shape)
        return _multiply(self._spread(c), self._left)

    def left_adjoint(self, z: Tensor) -> Tensor:
        """``U^T z``."""
        self._expect("z", z, self.measurement_shape)
        return self._gather(_multiply(z, self._left, transpose=True))

    def right(self, c: Tensor) -> Tensor:
        """``V c``."""
        self._expect("c", c, self.singular_values.shape)
        return _multiply(self._spread(c), self._right)

    def right_adjoint(self, x: Tensor) -> Tensor:
        """``V^T x``."""
        self._expect("x", x, self.event_shape)
        return self._gather(_multiply(x, self._right, transpose=True))

    def gram_diagonal(self) -> Tensor:
        """``sum_k (U_mk s_k)^2``, summed in float64."""
        squares = tuple(None if u is None else u.double().square() for u in self._left)
        return _multiply(self._spread(self.singular_values.square()), squares).to(self.dtype)


class Kronecker(LinearOperator):
    """``z = (channels kron rows kron columns) x``: every channel becomes ``rows X columns^T``, then they are mixed.

    Args:
        rows: factor that mixes the rows of the image, that is along its height, shape (P, H); None for the
            identity.
        columns: factor that mixes its columns, along the width, shape (Q, W), or None.
        channels: factor that mixes the channels, shape (K, C), or None.
        event_shape: shape (C, H, W) of an image; without it ``rows`` and ``columns`` tell the sides, and
            ``channels`` the number of channels, which is one if they are not mixed.
        dtype: dtype of the operator.

    Raises:
        TypeError: for complex factors.
        ValueError: for a factor that is no matrix, is not finite or does not fit ``event_shape``, if all three
            are left out, or if a size is not told.

    Source: Van Loan 2000, "The ubiquitous Kronecker product".
    """

    structured = True

    def __init__(
        self,
        rows: Any,
        columns: Any,
        channels: Any = None,
        event_shape: Any = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        given = {"channels": channels, "rows": rows, "columns": columns}
        devices = sorted({str(getattr(f, "device", "cpu")) for f in given.values() if f is not None})
        if len(devices) > 1:
            raise ValueError(f"{where}: expected all factors on one device, got {' and '.join(devices)}.")
        factors = {name: None if f is None else as_real(where, name, f, 2) for name, f in given.items()}
        stored = [factor for factor in factors.values() if factor is not None]
        if not stored:
            raise ValueError(f"{where}: expected at least one factor, got None for all three; try Identity.")
        if event_shape is None:
            if rows is None or columns is None:
                raise ValueError(f"{where}: rows=None or columns=None is the identity; give event_shape too.")
            event_shape = [1 if f is None else f.shape[1] for f in factors.values()]
        shape = as_image_shape(where, event_shape)
        for (name, factor), size in zip(factors.items(), shape, strict=True):
            if factor is not None and factor.shape[1] != size:
                raise ValueError(
                    f"{where}: {name} of shape {tuple(factor.shape)} does not fit event_shape={tuple(shape)}; "
                    f"expected ({factor.shape[0]}, {size})."
                )
        sizes = [n if f is None else len(f) for f, n in zip(factors.values(), shape, strict=True)]
        super().__init__(shape, sizes, dtype, stored[0].device)
        self.rounding = max(torch.finfo(f.dtype).eps for f in (*stored, torch.empty(0, dtype=dtype)))
        cast = {name: None if f is None else f.to(dtype) for name, f in factors.items()}
        self.channels = cast["channels"]  # (K, C)
        self.rows = cast["rows"]  # (P, H)
        self.columns = cast["columns"]  # (Q, W)

    @property
    def _factors(self) -> tuple[Tensor | None, ...]:
        return self.channels, self.rows, self.columns

    def forward(self, x: Tensor) -> Tensor:
        """``rows X columns^T`` of every channel, then their mixture."""
        return _multiply(x, self._factors)

    def adjoint(self, z: Tensor) -> Tensor:
        """``rows^T Z columns`` of every channel, mixed by the transpose."""
        self._expect_measurement(z)
        return _multiply(z, self._factors, transpose=True)

    def decompose(self) -> SVD:
        """Decompose the factors."""
        return KroneckerSVD(self)

    def gram_diagonal(self) -> Tensor:
        """The outer product of the squared row norms of the factors."""
        c, h, w = (
            torch.ones(n, dtype=self.dtype, device=self.device) if f is None else f.square().sum(-1)
            for f, n in zip(self._factors, self.event_shape, strict=True)
        )
        return c[:, None, None] * h[:, None] * w

    def extra_repr(self) -> str:
        """The sizes of the factors stand for the factors."""
        factors = {"rows": self.rows, "columns": self.columns, "channels": self.channels}
        parts = (f"{k}={None if f is None else f'<{f.shape[0]} x {f.shape[1]}>'}" for k, f in factors.items())
        return f"{', '.join(parts)}, event_shape={tuple(self.event_shape)}"

r"""Several sensors on one image, and one sensor for each of several images.

    Stack           z = (A_1 x, ..., A_K x)             A^T z = sum_k A_k^T z_k
    BlockDiagonal   z = (A_1 x_1, ..., A_K x_K)         A^T z = (A_1^T z_1, ..., A_K^T z_K)

The decomposition of a block-diagonal operator is that of its blocks, put in one descending order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from bayes_ir.models.operators._gather import take
from bayes_ir.models.operators.composition import check_alike
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.svd import SVD

__all__ = ["BlockDiagonal", "BlockDiagonalSVD", "Stack"]


def _checked(where: str, operators: Sequence[LinearOperator]) -> tuple[LinearOperator, ...]:
    operators = tuple(operators)
    if not operators or not all(isinstance(part, LinearOperator) for part in operators):
        found = [type(part).__name__ for part in operators]
        raise TypeError(f"{where}: expected at least one linear operator, got {found or 'none'}.")
    for part in operators[1:]:
        check_alike(where, operators[0], part)
        if part.event_shape != operators[0].event_shape:
            raise ValueError(
                f"{where}: the operators take images of different shapes, {tuple(operators[0].event_shape)} and "
                f"{tuple(part.event_shape)}."
            )
    return operators


class Stack(LinearOperator):
    """``z = (A_1 x, ..., A_K x)``: several sensors that see the same image, their measurements in a row.

    The measurement is flat: (M_1 + ... + M_K,); :meth:`split` takes it apart again.

    Args:
        operators: the sensors.

    Raises:
        TypeError: for parts that are no linear operators, or differ in dtype or device.
        ValueError: for parts that take images of different shapes.
    """

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        parts = _checked("Stack", operators)
        sizes = [part.measurement_shape.numel() for part in parts]
        super().__init__(parts[0].event_shape, (sum(sizes),), parts[0].dtype, parts[0].device)
        self.operators, self.sizes = parts, sizes
        self.rounding = max(part.rounding for part in parts)

    def split(self, z: Tensor) -> list[Tensor]:
        """The measurement of each sensor, in its own shape."""
        self._expect_measurement(z)
        parts = z.split(self.sizes, dim=-1)
        return [
            part.unflatten(-1, operator.measurement_shape)
            for part, operator in zip(parts, self.operators, strict=True)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """``(A_1 x, ..., A_K x)``."""
        return torch.cat([a.forward(x).flatten(-len(a.measurement_shape)) for a in self.operators], dim=-1)

    def adjoint(self, z: Tensor) -> Tensor:
        """``sum_k A_k^T z_k``."""
        pulled = [a.adjoint(part) for a, part in zip(self.operators, self.split(z), strict=True)]
        return torch.stack(pulled).sum(0)

    def gram_diagonal(self) -> Tensor:
        """Those of the sensors in a row."""
        return torch.cat([a.gram_diagonal().flatten() for a in self.operators])

    def extra_repr(self) -> str:
        """The sensors."""
        return f"[{', '.join(map(repr, self.operators))}], event_shape={tuple(self.event_shape)}"


class BlockDiagonal(LinearOperator):
    """``z = (A_1 x_1, ..., A_K x_K)``: a batch of images, each measured by its own operator.

    Args:
        operators: one for each image; all of the same shapes.

    Raises:
        TypeError: for parts that are no linear operators, or differ in dtype or device.
        ValueError: for parts of different shapes.
    """

    def __init__(self, operators: Sequence[LinearOperator]) -> None:
        parts = _checked("BlockDiagonal", operators)
        shapes = sorted({tuple(part.measurement_shape) for part in parts})
        if len(shapes) > 1:
            raise ValueError(
                f"BlockDiagonal: the operators measure different shapes, {shapes[0]} and {shapes[1]}."
            )
        count = len(parts)
        super().__init__(
            (count, *parts[0].event_shape),
            (count, *parts[0].measurement_shape),
            parts[0].dtype,
            parts[0].device,
        )
        self.operators = parts
        self.rounding = max(part.rounding for part in parts)

    @property
    def has_svd(self) -> bool:
        """Whether every block has its decomposition."""
        return all(part.has_svd for part in self.operators)

    def forward(self, x: Tensor) -> Tensor:
        """``A_k x_k`` for every image."""
        images = x.unbind(-len(self.event_shape))
        seen = [a.forward(image) for a, image in zip(self.operators, images, strict=True)]
        return torch.stack(seen, dim=-len(self.measurement_shape))

    def adjoint(self, z: Tensor) -> Tensor:
        """``A_k^T z_k`` for every image."""
        self._expect_measurement(z)
        seen = z.unbind(-len(self.measurement_shape))
        images = [a.adjoint(part) for a, part in zip(self.operators, seen, strict=True)]
        return torch.stack(images, dim=-len(self.event_shape))

    def decompose(self) -> SVD:
        """Those of the blocks, merged."""
        return BlockDiagonalSVD(self)

    def gram_diagonal(self) -> Tensor:
        """Those of the blocks."""
        return torch.stack([a.gram_diagonal() for a in self.operators])

    def extra_repr(self) -> str:
        """The blocks."""
        return f"[{', '.join(map(repr, self.operators))}], event_shape={tuple(self.event_shape)}"


class BlockDiagonalSVD(SVD):
    """The decompositions of the blocks, their singular values in one descending order.

    Args:
        operator: the block-diagonal operator.
    """

    def __init__(self, operator: BlockDiagonal) -> None:
        self.blocks = [part.svd for part in operator.operators]
        s, self.order = torch.cat([b.singular_values for b in self.blocks]).sort(descending=True, stable=True)
        super().__init__(s, operator.event_shape, operator.measurement_shape, operator.dtype)
        self.back = self.order.argsort()

    def to(self, operator: LinearOperator) -> Self:
        """That of the copy, whose blocks took their decompositions along."""
        assert isinstance(operator, BlockDiagonal)
        return type(self)(operator)

    def left(self, c: Tensor) -> Tensor:
        """``U_k c_k`` for every block."""
        self._expect("c", c, self.singular_values.shape)
        seen = [b.left(part) for b, part in zip(self.blocks, self._split(c), strict=True)]
        return torch.stack(seen, dim=-len(self.measurement_shape))

    def left_adjoint(self, z: Tensor) -> Tensor:
        """``U_k^T z_k`` for every block, in descending order of s."""
        self._expect("z", z, self.measurement_shape)
        parts = z.unbind(-len(self.measurement_shape))
        return self._join([b.left_adjoint(part) for b, part in zip(self.blocks, parts, strict=True)])

    def right(self, c: Tensor) -> Tensor:
        """``V_k c_k`` for every block."""
        self._expect("c", c, self.singular_values.shape)
        images = [b.right(part) for b, part in zip(self.blocks, self._split(c), strict=True)]
        return torch.stack(images, dim=-len(self.event_shape))

    def right_adjoint(self, x: Tensor) -> Tensor:
        """``V_k^T x_k`` for every block, in descending order of s."""
        self._expect("x", x, self.event_shape)
        parts = x.unbind(-len(self.event_shape))
        return self._join([b.right_adjoint(part) for b, part in zip(self.blocks, parts, strict=True)])

    def gram_diagonal(self) -> Tensor:
        """Those of the blocks."""
        return torch.stack([b.gram_diagonal() for b in self.blocks])

    def _split(self, c: Tensor) -> tuple[Tensor, ...]:
        return take(c, self.back).split([b.rank for b in self.blocks], dim=-1)

    def _join(self, parts: list[Tensor]) -> Tensor:
        return take(torch.cat(parts, dim=-1), self.order)

r"""A linear map and its transpose as one differentiable function.

The derivative of y = L x is L forwards and L^T backwards, whatever x is, so automatic differentiation need not look
inside: it stores nothing of a computation done piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["linear_map"]


class _LinearMap(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor, apply: Callable[[Tensor], Tensor], transpose: Callable[[Tensor], Tensor]
    ) -> Tensor:
        return apply(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, ctx.map, ctx.transpose = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return linear_map(gradients[0], ctx.transpose, ctx.map), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return linear_map(tangents[0], ctx.map, ctx.transpose)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, apply: Any, transpose: Any) -> Any:
        return linear_map(x.movedim(in_dims[0], 0), apply, transpose), 0


def linear_map(x: Tensor, apply: Callable[[Tensor], Tensor], transpose: Callable[[Tensor], Tensor]) -> Tensor:
    """``L x``, differentiable any number of times in both modes, and under ``torch.func.vmap``.

    Args:
        x: the argument, over leading batch dimensions.
        apply: ``L``, linear, over leading batch dimensions.
        transpose: ``L^T``, likewise.
    """
    return _LinearMap.apply(x, apply, transpose)

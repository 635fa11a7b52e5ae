r"""Operators in a row: (A B)(x) = A(B(x)).

Linear ones have the adjoint ``B^T A^T``; the Moore-Penrose inverse of a product is not the product of inverses, so
a linear composition is decomposed (small) or solved by conjugate gradients (large).  Of a composition with nonlinear
parts, ``B.pinv(A.pinv(z))`` is offered where every part has a ``pinv``: the decoding of an encoding.  It meets
``A(B(B.pinv(A.pinv(z)))) = z`` for a measured z where B can make whatever A decodes (an averaging can, a mask cannot).
"""

from __future__ import annotations

from torch import Tensor

from bayes_ir.models.operators.base import Operator
from bayes_ir.models.operators.linear import LinearOperator

__all__ = ["Composition", "LinearComposition", "compose"]


def compose(outer: Operator, inner: Operator) -> Operator:
    """``outer @ inner``, linear if both are."""
    if isinstance(outer, LinearOperator) and isinstance(inner, LinearOperator):
        return LinearComposition(outer, inner)
    return Composition(outer, inner)


def check_chain(where: str, outer: Operator, inner: Operator) -> None:
    """Refuse two operators that do not fit behind one another."""
    for name, part in (("outer", outer), ("inner", inner)):
        if not isinstance(part, Operator):
            raise TypeError(f"{where}: expected an operator as {name}, got {type(part).__name__}.")
    if outer.event_shape != inner.measurement_shape:
        raise ValueError(
            f"{where}: {type(inner).__name__} measures shape {tuple(inner.measurement_shape)} but "
            f"{type(outer).__name__} takes shape {tuple(outer.event_shape)}; in A @ B the right one is applied first."
        )
    check_alike(where, outer, inner)


def check_alike(where: str, one: Operator, two: Operator) -> None:
    """Refuse two operators in different precisions or on different devices."""
    if (one.dtype, one.device) != (two.dtype, two.device):
        raise TypeError(
            f"{where}: {type(one).__name__} is {one.dtype} on {one.device} but {type(two).__name__} is {two.dtype} "
            f"on {two.device}; bring them together with .to(device='{one.device}', dtype={one.dtype})."
        )


class Composition(Operator):
    """``z = A(B(x))`` with nonlinear parts.

    Args:
        outer: ``A``, applied last.
        inner: ``B``, applied first.

    Raises:
        TypeError: for parts that are no operators, or differ in dtype or device.
        ValueError: if A does not take what B measures.
    """

    def __init__(self, outer: Operator, inner: Operator) -> None:
        check_chain("A @ B", outer, inner)
        super().__init__(inner.event_shape, outer.measurement_shape, outer.dtype, outer.device)
        self.outer, self.inner = outer, inner
        self.rounding = max(outer.rounding, inner.rounding)

    def forward(self, x: Tensor) -> Tensor:
        """``A(B(x))``."""
        return self.outer.forward(self.inner.forward(x))

    def pinv(self, z: Tensor) -> Tensor:
        """``B^+(A^+(z))``, with the pseudo-inverses of the parts.

        Raises:
            TypeError: when a part has none.
        """
        return self.inner.pinv(self.outer.pinv(z))

    def __repr__(self) -> str:
        return f"{self.outer!r} @ {self.inner!r}"


class LinearComposition(Composition, LinearOperator):
    """``z = A B x`` for linear A and B.

    Args:
        outer: ``A``, applied last.
        inner: ``B``, applied first.

    Raises:
        TypeError: for parts that are no operators, or differ in dtype or device.
        ValueError: if A does not take what B measures.
    """

    outer: LinearOperator
    inner: LinearOperator
    pinv = LinearOperator.pinv
    __repr__ = LinearOperator.__repr__

    def adjoint(self, z: Tensor) -> Tensor:
        """``B^T(A^T z)``."""
        self._expect_measurement(z)
        return self.inner.adjoint(self.outer.adjoint(z))

    def extra_repr(self) -> str:
        """The parts and the shape of an image."""
        return f"{self.outer!r}, {self.inner!r}, event_shape={tuple(self.event_shape)}"

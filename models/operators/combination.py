r"""Multiples and sums of linear operators: c A and A + B.

With ``A = U diag(s) V^T`` the multiple is ``c A = (sign(c) U) diag(|c| s) V^T``.
"""

from __future__ import annotations

import math
from typing import Self

from torch import Tensor

from bayes_ir.models.operators.composition import check_alike
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.svd import SVD

__all__ = ["Scaled", "ScaledSVD", "Sum"]


class Scaled(LinearOperator):
    """``z = c A x`` for a number c.

    Args:
        operator: ``A``.
        factor: ``c``, finite and not zero; a tensor of one number, such as a gain that is sampled, lets gradients
            through.

    Raises:
        TypeError: if the factor is no number.
        ValueError: if it is zero or not finite.
    """

    def __init__(self, operator: LinearOperator, factor: float | Tensor) -> None:
        try:
            number = float(factor.detach() if isinstance(factor, Tensor) else factor)
        except (TypeError, ValueError) as error:
            raise TypeError(f"c * A: expected a number c, got {factor!r}.") from error
        if not math.isfinite(number) or number == 0:
            raise ValueError(f"c * A: expected a finite c other than zero, got {number}.")
        super().__init__(operator.event_shape, operator.measurement_shape, operator.dtype, operator.device)
        self.operator, self.factor, self.rounding = operator, number, operator.rounding
        self.multiplier = factor.reshape(()) if isinstance(factor, Tensor) else number

    @property
    def has_svd(self) -> bool:
        """Whether A has its decomposition."""
        return self.operator.has_svd

    def forward(self, x: Tensor) -> Tensor:
        """``c A x``."""
        return self.multiplier * self.operator.forward(x)

    def adjoint(self, z: Tensor) -> Tensor:
        """``c A^T z``."""
        self._expect_measurement(z)
        return self.multiplier * self.operator.adjoint(z)

    def decompose(self) -> SVD:
        """That of A, with ``|c| s`` and the sign of c in U."""
        return ScaledSVD(self.operator, self.factor)

    def gram_diagonal(self) -> Tensor:
        """``c^2 diag(A A^T)``."""
        return self.factor**2 * self.operator.gram_diagonal()

    def extra_repr(self) -> str:
        """The operator and the number."""
        return f"{self.operator!r}, {self.factor}"


class ScaledSVD(SVD):
    """``c A = (sign(c) U) diag(|c| s) V^T``.

    Args:
        operator: ``A``.
        factor: ``c``.
    """

    def __init__(self, operator: LinearOperator, factor: float) -> None:
        s = abs(factor) * operator.svd.singular_values
        super().__init__(s, operator.event_shape, operator.measurement_shape, operator.dtype)
        self.inner, self.factor, self.sign = operator.svd, factor, math.copysign(1.0, factor)

    def to(self, operator: LinearOperator) -> Self:
        """That of the copy, whose A took its decomposition along."""
        assert isinstance(operator, Scaled)
        return type(self)(operator.operator, operator.factor)

    def left(self, c: Tensor) -> Tensor:
        """``sign(c) U c``."""
        return self.inner.left(c if self.sign > 0 else -c)

    def left_adjoint(self, z: Tensor) -> Tensor:
        """``sign(c) U^T z``."""
        return self.inner.left_adjoint(z if self.sign > 0 else -z)

    def right(self, c: Tensor) -> Tensor:
        """``V c``."""
        return self.inner.right(c)

    def right_adjoint(self, x: Tensor) -> Tensor:
        """``V^T x``."""
        return self.inner.right_adjoint(x)

    def gram_diagonal(self) -> Tensor:
        """``c^2 diag(A A^T)``."""
        return self.factor**2 * self.inner.gram_diagonal()


class Sum(LinearOperator):
    """``z = A x + B x``.

    Args:
        one: ``A``.
        two: ``B``.

    Raises:
        TypeError: if they differ in dtype or device.
        ValueError: if they differ in their shapes.
    """

    def __init__(self, one: LinearOperator, two: LinearOperator) -> None:
        shapes = [(tuple(part.event_shape), tuple(part.measurement_shape)) for part in (one, two)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"A + B: {type(one).__name__} takes {shapes[0][0]} to {shapes[0][1]}, {type(two).__name__} takes "
                f"{shapes[1][0]} to {shapes[1][1]}; a sum needs the same shapes."
            )
        check_alike("A + B", one, two)
        super().__init__(one.event_shape, one.measurement_shape, one.dtype, one.device)
        self.one, self.two = one, two
        self.rounding = max(one.rounding, two.rounding)

    def forward(self, x: Tensor) -> Tensor:
        """``A x + B x``."""
        return self.one.forward(x) + self.two.forward(x)

    def adjoint(self, z: Tensor) -> Tensor:
        """``A^T z + B^T z``."""
        self._expect_measurement(z)
        return self.one.adjoint(z) + self.two.adjoint(z)

    def extra_repr(self) -> str:
        """The two terms."""
        return f"{self.one!r}, {self.two!r}"

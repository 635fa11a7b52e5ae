r"""Compressive sensing with orthonormal rows: A = S T D, A A^T = I.

D flips the sign of every pixel at random, T is a fast orthonormal transform of the flattened
image and S keeps M of its N coefficients, chosen at random.  Without D the rows would be plain
cosines or Walsh functions: an image has nearly all of its energy in a few smooth ones, the
constant row (k = 0) before all, and the measurements would be one huge number and many small
ones.  The signs spread the energy evenly over the coefficients.

The matrix is never formed: A x costs O(N log N), and U = I, s = 1, V = A^T is its decomposition.
The rows have unit norm, so ||A||_F^2 = M where the other sensing matrices have N: the same
noise_std is sqrt(N/M) times more noise, relative to the signal, than with GaussianSensing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_count, as_shape, seeded_generator
from bayes_ir.models.operators._gather import take
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.svd import SVD, OrthonormalRowsSVD
from bayes_ir.models.operators.transforms import dct, inverse_dct, walsh_hadamard

__all__ = ["RowOrthogonalSensing"]


class _Transform(NamedTuple):
    apply: Callable[[Tensor], Tensor]
    invert: Callable[[Tensor], Tensor]
    powers_of_two_only: bool


_TRANSFORMS = {
    "dct": _Transform(dct, inverse_dct, powers_of_two_only=False),
    "hadamard": _Transform(walsh_hadamard, walsh_hadamard, powers_of_two_only=True),
}


class RowOrthogonalSensing(LinearOperator):
    """``z = S T D x``: M random coefficients of an orthonormal transform of the sign-flipped image.

    Args:
        measurements: number of measurements ``M <= N``.
        event_shape: shape of an image with N numbers.
        seed: seed of the signs and of the rows; more measurements keep the rows of fewer.
        transform: ``"dct"``, the DCT-II of the flattened image, or ``"hadamard"``, the
            Walsh-Hadamard transform, for N a power of two.
        dtype: dtype of the operator.

    Raises:
        ValueError: if there are more measurements than pixels, if the transform is unknown, or if
            N is not a power of two and the transform is ``"hadamard"`` (the rows of a zero-padded
            transform are not orthogonal).

    Source: Do, Gan, Nguyen and Tran 2012, "Fast and efficient compressive sensing using
    structurally random matrices".
    """

    structured = True

    def __init__(
        self,
        measurements: int,
        event_shape: Any,
        seed: int,
        transform: str = "dct",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        m = as_count(where, "measurements", measurements)
        n = as_shape(where, "event_shape", event_shape).numel()
        if m > n:
            raise ValueError(f"{where}: {m} rows of length {n} cannot be orthogonal; measurements <= {n}.")
        if transform not in _TRANSFORMS:
            raise ValueError(f"{where}: expected transform in {sorted(_TRANSFORMS)}, got {transform!r}.")
        if _TRANSFORMS[transform].powers_of_two_only and n & (n - 1):
            raise ValueError(
                f"{where}: transform={transform!r} needs a power of two, got images of {n} numbers (the next "
                f"is {1 << n.bit_length()}); try transform='dct', which takes any size."
            )
        super().__init__(event_shape, (m,), dtype)
        self.seed, self.transform = seed, transform
        self._transform = _TRANSFORMS[transform]
        generator = seeded_generator(where, seed)
        self.signs = torch.randint(2, (n,), generator=generator).mul(2).sub(1).to(dtype)  # (N,)
        self.rows = torch.randperm(n, generator=generator)[:m]  # (M,)

    def forward(self, x: Tensor) -> Tensor:
        """Flip signs, transform, select."""
        c = self._transform.apply(self.signs * x.flatten(-len(self.event_shape)))
        return take(c, self.rows)

    def adjoint(self, z: Tensor) -> Tensor:
        """Put the coefficients back, transform back, flip signs."""
        self._expect_measurement(z)
        c = z.new_zeros(*z.shape[:-1], len(self.signs)).index_copy(-1, self.rows, z)
        return (self.signs * self._transform.invert(c)).unflatten(-1, self.event_shape)

    def decompose(self) -> SVD:
        """``U = I``, ``s = 1``, ``V = A^T``."""
        return OrthonormalRowsSVD(self)

    def extra_repr(self) -> str:
        """The settings, not the signs and rows."""
        return (
            f"measurements={len(self.rows)}, event_shape={tuple(self.event_shape)}, seed={self.seed}, "
            f"transform={self.transform!r}"
        )

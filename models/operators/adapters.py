r"""Operators made from what a user already has: a torch function, a SciPy operator, a physics object.

The adjoint of a torch function is its vector-Jacobian product, which autograd gives; of the others it is the one
they come with.  Linearity and the identity ``<A x, z> = <x, A^T z>`` are checked on random vectors when the operator
is made, because everything downstream relies on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_dtype, as_shape, seeded_generator
from bayes_ir.models.operators._linear_map import linear_map
from bayes_ir.models.operators.linear import LinearOperator

__all__ = ["FunctionOperator", "from_physics", "from_scipy", "to_scipy"]

Map = Callable[[Tensor], Tensor]


class FunctionOperator(LinearOperator):
    """``z = f(x)`` for a linear torch function f.

    Args:
        function: ``f``, over one leading batch dimension: (B, *event_shape) -> (B, *measurement_shape).
        event_shape: shape of one image.
        adjoint: ``f^T``, over one leading batch dimension; by autograd if not given.
        dtype: dtype of the operator.
        device: device the function works on.

    Raises:
        TypeError: if the function returns no tensor of the operator's dtype.
        ValueError: if the function is not linear, does not treat the images of a batch one by one, or is not
            the transpose of the given adjoint.
    """

    def __init__(
        self,
        function: Map,
        event_shape: Any,
        adjoint: Map | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        where = type(self).__name__
        event_shape = as_shape(where, "event_shape", event_shape)
        dtype = as_dtype(where, dtype)
        z = function(torch.zeros(2, *event_shape, dtype=dtype, device=device))
        if not isinstance(z, Tensor) or z.dtype != dtype or z.ndim < 2 or z.shape[0] != 2:
            found = f"{z.dtype} of shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
            raise TypeError(
                f"{where}: given two images, shape (2, {', '.join(map(str, event_shape))}), the function returned "
                f"{found}; expected {dtype} of shape (2, *measurement_shape)."
            )
        super().__init__(event_shape, tuple(z.shape[1:]), dtype, device)
        self.function = function
        self.given_adjoint = adjoint
        self._check()

    def forward(self, x: Tensor) -> Tensor:
        """``f(x)``."""
        images = x.reshape(-1, *self.event_shape)
        return self.function(images).reshape(
            *x.shape[: x.ndim - len(self.event_shape)], *self.measurement_shape
        )

    def adjoint(self, z: Tensor) -> Tensor:
        """``f^T(z)``: the given adjoint, or the vector-Jacobian product of f."""
        self._expect_measurement(z)
        batch = z.shape[: z.ndim - len(self.measurement_shape)]
        flat = z.reshape(-1, *self.measurement_shape)
        if self.given_adjoint is not None:
            return self.given_adjoint(flat).reshape(*batch, *self.event_shape)
        at = torch.zeros(len(flat), *self.event_shape, dtype=z.dtype, device=z.device)
        pull = torch.func.vjp(self.function, at)[1]
        return pull(flat)[0].reshape(*batch, *self.event_shape)

    def _check(self) -> None:
        where, generator = type(self).__name__, seeded_generator(type(self).__name__, 0)

        def normal(shape: torch.Size) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(self.device, self.dtype)

        x, w = normal(self.event_shape), normal(self.event_shape)
        z = normal(self.measurement_shape)
        both, apart = self.forward(torch.stack([x, w])), torch.stack([self.forward(x), self.forward(w)])
        tolerance = 1000 * torch.finfo(self.dtype).eps
        size = float(apart.norm()) or 1.0
        if float((both - apart).norm()) > tolerance * size:
            raise ValueError(
                f"{where}: the function gives other values for a batch of two images than for each alone; it has to "
                "treat the images of a batch one by one (torch.func.vmap makes such a function)."
            )
        error = float((self.forward(2 * x - 3 * w) - (2 * apart[0] - 3 * apart[1])).norm())
        if error > tolerance * size:
            raise ValueError(
                f"{where}: the function is not linear: f(2 x - 3 w) differs from 2 f(x) - 3 f(w) by "
                f"{error / size:.2g} of its size; a constant added to a linear map belongs into the channel or into y."
            )
        image = self.adjoint(z) if self.given_adjoint is None else self.given_adjoint(z[None])[0]
        if image.shape != self.event_shape:
            raise ValueError(
                f"{where}: the adjoint returns images of shape {tuple(image.shape)}; "
                f"expected {tuple(self.event_shape)}."
            )
        there, back = float((apart[0] * z).sum()), float((x * image).sum())
        if abs(there - back) > tolerance * size * float(z.norm()):
            raise ValueError(
                f"{where}: the adjoint does not match: <f(x), z> = {there:.6g} but <x, adjoint(z)> = {back:.6g} for "
                "random x and z; leave `adjoint` out to have it made by autograd."
            )

    def extra_repr(self) -> str:
        """The function by name."""
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"{name}, event_shape={tuple(self.event_shape)}"


def from_scipy(
    operator: Any, event_shape: Any = None, measurement_shape: Any = None, dtype: torch.dtype = torch.float64
) -> FunctionOperator:
    """``z = A x`` for a ``scipy.sparse.linalg.LinearOperator``, a sparse or a dense array, on the CPU.

    Args:
        operator: ``A``, real, with ``matmat`` and ``rmatmat`` (M, N).
        event_shape: shape of an image with N numbers; (N,) if not given.
        measurement_shape: shape of a measurement with M numbers; (M,) if not given.
        dtype: dtype of the operator.

    Raises:
        TypeError: for a complex operator, or what SciPy does not take for one.
        ValueError: for shapes that do not fit, or an adjoint that does not match.
    """
    import numpy as np
    from scipy.sparse.linalg import aslinearoperator

    linear = aslinearoperator(operator)
    if np.issubdtype(linear.dtype, np.complexfloating):
        raise TypeError(
            f"from_scipy: expected a real operator, got {linear.dtype}; stack real and imaginary parts."
        )
    m, n = linear.shape
    events = as_shape("from_scipy", "event_shape", (n,) if event_shape is None else event_shape)
    measured = as_shape(
        "from_scipy", "measurement_shape", (m,) if measurement_shape is None else measurement_shape
    )
    if (measured.numel(), events.numel()) != (m, n):
        raise ValueError(
            f"from_scipy: an operator of shape ({m}, {n}) does not take images of shape {tuple(events)} to "
            f"measurements of shape {tuple(measured)}."
        )

    def rows(product: Callable) -> Map:
        def apply(x: Tensor) -> Tensor:
            columns = x.detach().flatten(0, -2).numpy().T
            return (
                torch.from_numpy(np.ascontiguousarray(product(columns).T))
                .to(x.dtype)
                .unflatten(0, x.shape[:-1])
            )

        return apply

    apply, transpose = rows(linear.matmat), rows(linear.rmatmat)
    return FunctionOperator(
        lambda x: linear_map(x.flatten(1), apply, transpose).unflatten(1, measured),
        events,
        lambda z: linear_map(z.flatten(1), transpose, apply).unflatten(1, events),
        dtype,
    )


def to_scipy(operator: LinearOperator) -> Any:
    """A ``scipy.sparse.linalg.LinearOperator`` (M, N) of a linear operator, on flat NumPy arrays."""
    import numpy as np
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

    precision = np.float64 if operator.dtype == torch.float64 else np.float32

    def flat(apply: Map, shape: torch.Size) -> Callable:
        def product(columns: Any) -> Any:
            x = torch.as_tensor(np.asarray(columns, dtype=precision).T.copy(), device=operator.device)
            return apply(x.reshape(-1, *shape)).reshape(len(x), -1).T.cpu().numpy()

        return product

    forward = flat(operator.forward, operator.event_shape)
    adjoint = flat(operator.adjoint, operator.measurement_shape)
    return ScipyOperator(
        dtype=precision,
        shape=(operator.measurement_shape.numel(), operator.event_shape.numel()),
        matvec=lambda x: forward(x.reshape(-1, 1))[:, 0],
        rmatvec=lambda z: adjoint(z.reshape(-1, 1))[:, 0],
        matmat=forward,
        rmatmat=adjoint,
    )


def from_physics(
    physics: Any, event_shape: Any, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> FunctionOperator:
    """``z = A x`` for an object with ``A(x)`` and ``A_adjoint(y)`` on batches, such as a linear physics of deepinv.

    Args:
        physics: the object; its noise model is not used, the channel says what the noise is.
        event_shape: shape of one image, such as (1, 64, 64).
        dtype: dtype it works in.
        device: device it works on.

    Raises:
        TypeError: for an object without these two methods.
        ValueError: when they are not linear or not adjoint to one another.
    """
    for name in ("A", "A_adjoint"):
        if not callable(getattr(physics, name, None)):
            raise TypeError(
                f"from_physics: {type(physics).__name__} has no method {name}; expected a linear physics with "
                "A(x) and A_adjoint(y)."
            )
    return FunctionOperator(physics.A, event_shape, physics.A_adjoint, dtype, device)

r"""The measurement system ``z' = D^-1 A x``, every measurement divided by its noise.

With D the diagonal of the noise of every measurement the noise is one everywhere.  What an image is believed to be,
``x ~ N(mu, V)``, says of z' that it is ``N(m, K)`` with

    m = D^-1 A mu,    K = D^-1 A V A^T D^-1,

the predictive law of :mod:`bayes_ir.inference.predictive`.  If the noise is the same everywhere, the singular value
decomposition of ``D^-1 A`` is that of A; otherwise it is decomposed as a matrix, or solved, once more.

Measurement-space arithmetic is float64 and flat: (B, M); images keep their own type.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bayes_ir.models.channels import Channel
from bayes_ir.models.channels.base import TiltedNormaliser
from bayes_ir.models.diffusion import Scalar
from bayes_ir.models.operators import Diagonal, LinearOperator, Operator
from bayes_ir.models.operators.combination import Scaled
from bayes_ir.models.operators.svd import SVD

__all__ = ["PredictiveCache", "System", "measurement_system", "noise_of"]

PredictiveCache = dict[Any, Any]


def measurement_system(operator: LinearOperator, channel: Channel, y: Tensor) -> System:
    """The system of a linear operator and a channel; of a plate of data sets, whose noise must be one for all.

    An operator is decomposed once: systems of the same one, with other data or another noise that is the same for all
    measurements, share what was computed.
    """
    noise = noise_of(channel, y).reshape(-1, operator.measurement_shape.numel())[0]
    if bool((noise == noise[0]).all()):
        inner, factor = (
            (operator.operator, operator.factor) if isinstance(operator, Scaled) else (operator, 1.0)
        )
        double, cache = _known(inner)
        gain = factor / float(noise[0])
        return System(operator, double * gain, channel, y, noise, gain, cache)
    whitened = Diagonal(1 / noise.reshape(operator.measurement_shape)) @ operator.to(dtype=torch.float64)
    return System(operator, whitened, channel, y, noise)  # type: ignore[arg-type]


# Nothing here may hold the operator itself, or it would live for ever: None stands for one that is float64 already.
_KNOWN: WeakKeyDictionary[LinearOperator, tuple[LinearOperator | None, PredictiveCache]] = WeakKeyDictionary()


def _known(operator: LinearOperator) -> tuple[LinearOperator, PredictiveCache]:
    """An operator in float64, which keeps its decomposition, and what was computed with it."""
    if operator not in _KNOWN:
        double = operator.to(dtype=torch.float64)
        _KNOWN[operator] = (None if double is operator else double, {})
    kept, cache = _KNOWN[operator]
    return (operator if kept is None else kept), cache


class System:
    """``z' = D^-1 A x`` with its channel.

    Args:
        operator: ``A``.
        whitened: ``D^-1 A``, float64; of an operator that is not linear, its derivative (see
            :mod:`bayes_ir.inference.linearised`).
        channel: ``p(y | z)``.
        y: measurements, shaped as ``operator.measurement_shape``, or one data set per draw, (B, *measurement_shape).
        noise: the diagonal of D, (M,), float64.
        gain: g where ``D^-1 A = g A_0`` with an operator A_0 that ``cache`` belongs to.
        cache: what is known of A_0, see :mod:`bayes_ir.inference.predictive`; ``inverses`` and ``asked`` are what this
            system made of it, and asked for.

    Attributes:
        measurements: M.
        y: the measurements, flat: (M,) or (B, M), float64.
        channel: the channel at y.
    """

    def __init__(
        self,
        operator: Operator,
        whitened: LinearOperator,
        channel: Channel,
        y: Tensor,
        noise: Tensor,
        gain: float = 1.0,
        cache: PredictiveCache | None = None,
    ) -> None:
        self.operator = operator
        self.whitened = whitened
        self.measurements = operator.measurement_shape.numel()
        self.noise = noise
        self.gain = gain
        self.cache: PredictiveCache = {} if cache is None else cache
        self.inverses: PredictiveCache = {}
        self.asked: set[Hashable] = set()
        self._take(channel, y)

    def _take(self, channel: Channel, y: Tensor) -> None:
        batch = y.shape[: y.ndim - len(self.operator.measurement_shape)]
        self.y = y.to(torch.float64).reshape(*batch, self.measurements)
        self.channel = channel.with_location(y.to(torch.float64))

    def with_data(self, channel: Channel, y: Tensor) -> System:
        """The system of other measurements of the same noise; what was computed so far is shared."""
        other = copy.copy(self)
        other._take(channel, y)
        return other

    @property
    def shared(self) -> bool:
        """Whether ``D^-1 A`` is the same for all draws, as it is for a linear operator."""
        return self.operator.linear

    @property
    def spectral(self) -> bool:
        """Whether the decomposition of ``D^-1 A`` can be had."""
        return self.whitened.has_svd

    @property
    def svd(self) -> SVD:
        """``D^-1 A = U S V^T``."""
        return self.whitened.svd

    @cached_property
    def direction_noise(self) -> Tensor:
        """``S^-1``, the noise of what is read in every singular direction, (r,), float64."""
        return 1 / self.svd.singular_values

    @cached_property
    def row_energy(self) -> Tensor:
        """Squared norms of the rows of ``D^-1 A``, (M,), float64."""
        return self.whitened.gram_diagonal().reshape(-1)

    @cached_property
    def least_row_energy(self) -> float:
        """The smallest of :attr:`row_energy`."""
        return float(self.row_energy.min())

    @cached_property
    def largest_eigenvalue(self) -> float:
        """Upper bound of the eigenvalues of ``D^-1 A A^T D^-1``."""
        if self.spectral:
            return float(self.svd.singular_values[0]) ** 2
        # Power iteration comes from below: 2 % are added.
        norm = self.whitened.norm(tolerance=1e-3)
        return 1.02 * norm**2

    @cached_property
    def largest_channel_curvature(self) -> float:
        """Bound of ``-d^2 log p(y | z') / dz'^2`` over measurements, 1 for additive noise."""
        y = self._shaped(self.y)
        curvature = self.channel.largest_curvature(y).expand(y.shape).double()
        return float((curvature.reshape(self.y.shape) * self.noise**2).max())

    def mean(self, mu: Tensor) -> Tensor:
        """``D^-1 A(mu)`` for images (B, *event_shape): (B, M), float64."""
        return self.operator.forward(mu).to(torch.float64).reshape(len(mu), -1) / self.noise

    def residual(self, mu: Tensor) -> Tensor:
        """``D^-1 (y - A(mu))``, (B, M)."""
        return (self.y - self.operator.forward(mu).to(torch.float64).reshape(len(mu), -1)) / self.noise

    def apply(self, x: Tensor) -> Tensor:
        """``D^-1 A x`` for changes x (B, *event_shape) of an image: (B, M), float64."""
        return self.whitened.forward(x.to(torch.float64)).reshape(len(x), -1)

    def adjoint(self, r: Tensor, dtype: torch.dtype) -> Tensor:
        """``(D^-1 A)^T r``: (B, M) to images (B, *event_shape) of a dtype."""
        return self.whitened.adjoint(r.reshape(len(r), *self.operator.measurement_shape)).to(dtype)

    def tilt(self, mean: Tensor, variance: Scalar) -> TiltedNormaliser:
        """Tilted normaliser of the channel in whitened coordinates, mean and results (B, M)."""
        log_z, slope, curvature = self.channel.tilt(
            self._shaped(self.y),
            self._shaped(mean * self.noise),
            self._shaped((variance * self.noise**2).expand_as(mean)),
        )
        flat = mean.shape
        return TiltedNormaliser(
            log_z.reshape(flat), slope.reshape(flat) * self.noise, curvature.reshape(flat) * self.noise**2
        )

    def _shaped(self, z: Tensor) -> Tensor:
        """Flat measurements (*batch, M) in their own shape."""
        return z.reshape(*z.shape[:-1], *self.operator.measurement_shape)


def noise_of(channel: Channel, y: Tensor) -> Tensor:
    """The noise of every measurement, shaped as y, float64."""
    return channel.scale(y).detach().to(y.device, torch.float64).expand(y.shape)

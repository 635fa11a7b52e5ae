r"""Measurement channels: what is believed about ``y`` given the noise-free measurement ``z = A x``.

A channel is a distribution ``p(y | z)`` that acts on every measurement separately.  Inference asks it
one question beyond its density: with a Gaussian belief ``z ~ N(m, v)``, what does ``y`` say?

    log Z(m, v) = log ∫ p(y | z) N(z; m, v) dz                 (log normaliser)
    slope       =  d   log Z / dm
    curvature   = -d^2 log Z / dm^2

The tilted distribution ``p(y | z) N(z; m, v) / Z`` then has

    mean  m + v slope,        variance  v - v^2 curvature.

At ``v = 0`` these are the log-likelihood of ``z = m`` and its derivatives.  For a log-concave channel the
curvature is never negative.  Source of the identities: Minka 2001 (expectation propagation), section 3.2.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, cast

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from bayes_ir.models.channels.checks import as_location, as_parameter, common_shape, refuse_where

__all__ = ["Channel", "TiltedNormaliser"]


class TiltedNormaliser(NamedTuple):
    """``log Z(m, v)`` with its first and negative second derivative in ``m``, all of one shape."""

    log_normaliser: Tensor
    slope: Tensor
    curvature: Tensor


class Channel(TorchDistribution):
    """A distribution ``p(y | z)`` of measurements, elementwise in ``z``.

    A channel names the arguments that broadcast against ``z`` in ``elementwise`` and its other tensors in
    ``tables``; both follow the dtype and the device of ``z``.  ``batch_shape`` is the broadcast of ``z`` and
    the elementwise arguments, ``event_shape`` is empty.

    Args:
        z: noise-free measurement, shape ``(*batch, *measurement_shape)``; kept as it is in ``location``.
        validate_args: whether values of arguments and measurements are checked; default as in torch.
        arguments: the elementwise arguments and the tables, numbers or tensors.

    Raises:
        TypeError: if an argument is not numeric, or ``z`` is neither float32 nor float64.
        ValueError: if shapes do not broadcast, ``z`` is not finite, or an argument has no meaning.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "location": constraints.real,
        "noise_std": constraints.positive,
    }
    elementwise: ClassVar[tuple[str, ...]] = ("noise_std",)
    tables: ClassVar[tuple[str, ...]] = ()

    location: Tensor
    noise_std: Tensor

    def __init__(self, z: Tensor, *, validate_args: bool | None = None, **arguments: Any) -> None:
        # The very object given by the caller: readers of a model find by identity which operator made it.
        self._origin = z
        self.location = as_location(self._name, z)
        for name, value in arguments.items():
            setattr(self, name, as_parameter(f"{self._name}: {name}", value, self.location))
        batch_shape = common_shape(self._name, {"z": self.location.shape} | self._shapes)
        if self._validate_args if validate_args is None else validate_args:
            self._check_arguments()
        super().__init__(batch_shape, torch.Size(), validate_args=validate_args)

    @abstractmethod
    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        """Draw ``y`` given ``z``, shape ``(*sample_shape, *batch_shape)``."""

    @abstractmethod
    def log_prob(self, y: Tensor) -> Tensor:
        """``log p(y | z)`` of every measurement, in the dtype of ``z`` and differentiable in ``z``.

        Args:
            y: measurements, shape broadcastable against ``batch_shape``.

        Raises:
            ValueError: if ``y`` is not finite or holds values that the channel cannot produce.
        """

    @abstractmethod
    def tilt(self, y: Tensor, mean: Tensor, variance: Tensor | float) -> TiltedNormaliser:
        """``log ∫ p(y | z) N(z; mean, variance) dz``, its slope and its curvature in ``mean``.

        All arguments and the parameters of the channel broadcast; ``location`` plays no part.  Computed in
        float64, returned in the dtype of ``mean`` and without gradient: ``slope`` is the gradient.

        Args:
            y: measurements, shape ``(*batch, *measurement_shape)``.  This being the innermost loop, their
                values are taken on trust: ``log_prob`` is the door where they are checked.
            mean: belief mean ``m``, shape ``(*batch, *measurement_shape)``.
            variance: belief variance ``v >= 0``, in squared units of ``z``.
        """

    def tilted_moments(
        self, y: Tensor, mean: Tensor, variance: Tensor | float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``log Z``, mean and variance of the tilted distribution ``p(y | z) N(z; mean, variance) / Z``.

        Arguments as for ``tilt``.
        """
        # v - v^2 curvature loses v / s^2 units of round-off: in float64 whatever came in.
        m, v = mean.double(), torch.as_tensor(variance, dtype=torch.float64, device=mean.device)
        log_normaliser, slope, curvature = self.tilt(y, m, v)
        tilted_mean, tilted_variance = m + v * slope, v - v.square() * curvature
        return log_normaliser.to(mean.dtype), tilted_mean.to(mean.dtype), tilted_variance.to(mean.dtype)

    def scale(self, y: Tensor) -> Tensor:
        """The noise that measurements y speak of, in units of z: ``noise_std`` where it does not depend on y."""
        return self.noise_std

    def largest_curvature(self, y: Tensor) -> Tensor:
        """The largest value of ``-d^2 log p(y | z) / dz^2`` over z, ``1 / s^2`` for additive Gaussian noise."""
        return 1 / self.noise_std.square()

    def with_location(self, z: Tensor) -> Channel:
        """The same channel at another noise-free measurement, whose values are not validated.

        Args:
            z: shape ``(*batch, *measurement_shape)``; parameters follow its dtype and device and broadcast.
        """
        new = self._copy()
        new._origin, new.location = z, z
        for name in (*self.elementwise, *self.tables):
            setattr(new, name, getattr(self, name).to(z))
        new._batch_shape = common_shape(f"{self._name}.with_location", {"z": z.shape} | self._shapes)
        return new

    def expand(self, batch_shape: Iterable[int], _instance: Channel | None = None) -> Channel:
        """The same channel with a larger ``batch_shape``, as Pyro's plates ask for it.

        Only ``location`` grows: parameters keep broadcasting, so that ``with_location`` may take any batch.
        """
        target = torch.Size(batch_shape)
        sizes = zip(reversed(self.batch_shape), reversed(target), strict=False)
        if len(target) < len(self.batch_shape) or any(old not in (1, new) for old, new in sizes):
            raise ValueError(
                f"{self._name}.expand: got {tuple(target)}, expected a shape that the batch shape"
                f" {tuple(self.batch_shape)} broadcasts to; check the sizes of the plates around this site."
            )
        new = self._copy(_instance)
        new.location = self.location.expand(target)
        new._batch_shape = target
        return new

    def flat(self, measurement_shape: torch.Size, kept: Tensor | None = None) -> Channel:
        """The channel of measurements in a row, (*batch, M), located at zero.

        Args:
            measurement_shape: what is put in a row, the trailing dimensions of the measurements.
            kept: positions in the row that there are measurements of, (M,); by default all.
        """
        new = self._copy()
        for name in self.elementwise:
            value = getattr(self, name)
            value = value.expand(torch.broadcast_shapes(value.shape, measurement_shape))
            value = value.reshape(*value.shape[: value.ndim - len(measurement_shape)], -1)
            setattr(new, name, value if kept is None else value[..., kept])
        size = measurement_shape.numel() if kept is None else len(kept)
        return new.with_location(self.location.new_zeros(size))

    def of_data_set(self, index: int, rank: int) -> Channel:
        """The channel of one data set of a plate, located at zero; ``rank`` is that of a measurement."""
        new = self._copy()
        for name in self.elementwise:
            value = getattr(self, name)
            if value.ndim > rank:
                setattr(new, name, value[index if len(value) > 1 else 0])
        return new.with_location(self.location.new_zeros(self.batch_shape[len(self.batch_shape) - rank :]))

    def serves_all(self, rank: int) -> bool:
        """Whether the arguments are the same for every data set of a plate; ``rank`` is that of a measurement."""
        return all(getattr(self, name).ndim <= rank for name in self.elementwise)

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def _shapes(self) -> dict[str, torch.Size]:
        return {name: getattr(self, name).shape for name in self.elementwise}

    def _copy(self, instance: Channel | None = None) -> Channel:
        new = type(self).__new__(type(self)) if instance is None else instance
        new.__dict__.update(self.__dict__)
        return new

    def _noisy(self, sample_shape: Iterable[int]) -> Tensor:
        """``z + n`` with ``n ~ N(0, noise_std^2)``."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.location.dtype, device=self.location.device)
        return self.location + self.noise_std * noise

    def _total_variance(self, mean: Tensor, variance: Tensor | float) -> Tensor:
        """``v + s^2``, the variance of ``z + n`` under the belief, in float64."""
        v = torch.as_tensor(variance, dtype=torch.float64, device=mean.device)
        return v + self.noise_std.double().square()

    def _measured(self, y: Tensor, method: str) -> Tensor:
        """``y`` in float64, refused if validation is on and it cannot have come from this channel."""
        y = torch.as_tensor(y, device=self.location.device)
        if self._validate_args:
            where = f"{self._name}.{method}: y"
            missing = "finite measurements; leave missing ones out with a Mask operator"
            refuse_where(~torch.isfinite(y), y, where, missing)
            support = cast(constraints.Constraint, self.support)
            refuse_where(~support.check(y), y, where, self._expected())
        return y.double()

    def _measured_here(self, y: Tensor) -> Tensor:
        """``y`` for ``log_prob``, whose shape has to fit ``location``."""
        y = self._measured(y, "log_prob")
        common_shape(f"{self._name}.log_prob", {"y": y.shape, "z": self.location.shape} | self._shapes)
        return y

    def _expected(self) -> str:
        """What ``y`` may be and what to do if it is not, for messages."""
        return str(self.support)

    def _tilted(self, mean: Tensor, *terms: Tensor) -> TiltedNormaliser:
        return TiltedNormaliser(*(term.to(mean.dtype) for term in torch.broadcast_tensors(*terms)))

    def _enumerated(self, values: Tensor, expand: bool) -> Tensor:
        """``values`` along a new first dimension, for ``enumerate_support``."""
        values = values.reshape(-1, *(1 for _ in self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values

    def _check_arguments(self) -> None:
        """Refuse values without meaning."""
        z, s = self.location.detach(), self.noise_std.detach()
        refuse_where(~torch.isfinite(z), z, f"{self._name}: z", "finite values; look for a diverging x")
        refuse_where(
            ~(torch.isfinite(s) & (s > 0)),
            s,
            f"{self._name}: noise_std",
            "finite values above 0 in units of A(x); for nearly noise-free data try a small one",
        )

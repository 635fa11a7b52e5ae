"""What a kernel is given: prior, operator, channel and measurements, read from a Pyro model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bayes_ir.inference.observations import Observation, by_site
from bayes_ir.inference.system import System, measurement_system, noise_of
from bayes_ir.models.channels import Channel
from bayes_ir.models.operators import LinearOperator, Operator
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["ModelError", "Problem"]


class ModelError(ValueError):
    """A model that cannot be read or that a kernel cannot serve."""


@dataclass(frozen=True, eq=False)
class Problem:
    """An inverse problem read from a Pyro model, or a plate of them: many images, each with its own y.

    Attributes:
        site: name of the image site.
        prior: law of the image.
        operator: ``A``.
        channel: ``p(y | z)`` at ``z = A(x)``.
        observed_site: name of the observed site, or of several.
        y: measurements, shaped as ``operator.measurement_shape``; of a plate (P, *measurement_shape).
        observations: how y is made of the observed sites; by default it is the only one as it stands.
        plate: name of the plate over images.
    """

    site: str
    prior: DiffusionPrior
    operator: Operator
    channel: Channel
    observed_site: str
    y: Tensor
    observations: tuple[Observation, ...] = ()
    plate: str | None = None

    def __post_init__(self) -> None:
        if not self.observations:
            whole = Observation(self.observed_site, self.operator.measurement_shape)
            object.__setattr__(self, "observations", (whole,))

    @property
    def data_sets(self) -> torch.Size:
        """``(P,)`` for a plate of P images, ``()`` for one image."""
        return self.y.shape[: self.y.ndim - len(self.operator.measurement_shape)]

    @property
    def one_batch(self) -> bool:
        """Whether draws for all data sets can be made in one batch: the same noise for all of them."""
        noise = noise_of(self.channel, self.y)
        same = not self.data_sets or bool((noise == noise[:1]).all())
        return same and self.channel.serves_all(len(self.operator.measurement_shape))

    def data_set(self, index: int) -> Problem:
        """The problem of one image of a plate."""
        rank = len(self.operator.measurement_shape)
        prior = self.prior.data_set(index)
        if prior is self.prior and self.channel.serves_all(rank):
            return self.with_data(self.y[index])
        channel = self.channel if self.channel.serves_all(rank) else self.channel.of_data_set(index, rank)
        return replace(self, prior=prior, channel=channel, y=self.y[index])

    def with_data(self, y: Tensor) -> Problem:
        """The problem of other measurements; what was computed of the system is shared where the noise is the same."""
        other = replace(self, y=y)
        known: System | None = self.__dict__.get("system")
        if known is not None:
            noise = noise_of(self.channel, y)
            if bool((noise.reshape(-1, known.measurements) == known.noise).all()):
                other.__dict__["system"] = known.with_data(self.channel, y)
        return other

    def rows(self, draws: int) -> Problem:
        """A plate of P images as one batch of ``draws P`` rows, draw d of image p in row ``d P + p``."""
        return self.with_data(self.y.repeat(draws, *(1,) * (self.y.ndim - 1))) if self.data_sets else self

    def measured(self, values: Mapping[str, Tensor]) -> Tensor:
        """The measurements of one data set, from the values of the observed sites."""
        row = torch.cat([o.taken(values[o.name]).to(self.y) for o in self.observations], dim=-1)
        return row.reshape(self.operator.measurement_shape)

    def by_site(self, values: Tensor, missing: float) -> dict[str, Tensor]:
        """One number per measurement, (*batch, *measurement_shape), as a tensor per observed site."""
        return by_site(self.observations, values, len(self.operator.measurement_shape), missing)

    @cached_property
    def system(self) -> System:
        """The measurement system of a linear operator, divided by its noise; built once.

        Raises:
            ModelError: for an operator that is not linear.
        """
        if not isinstance(self.operator, LinearOperator):
            raise ModelError(
                f"site {self.observed_site!r}: {self.operator!r} is not linear and has no matrix."
            )
        return measurement_system(self.operator, self.channel, self.y)

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the images."""
        return self.prior.dtype

    @property
    def device(self) -> torch.device:
        """Device of the images."""
        return self.prior.device

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Problem:
        """The same problem on another device or in another floating point type."""
        dtype = dtype or self.dtype
        y = self.y.to(device, dtype)
        return replace(
            self,
            prior=self.prior.to(device, dtype),
            operator=self.operator.to(device=device, dtype=dtype),
            channel=self.channel.with_location(torch.zeros_like(y)),
            y=y,
        )

    def need_derivative(self, kernel: str) -> None:
        """Refuse an operator without a derivative on behalf of a kernel that follows the likelihood's gradient.

        Raises:
            ModelError: naming the operator and what serves it.
        """
        if not self.operator.differentiable:
            raise ModelError(
                f"{kernel} follows the derivative of the operator, and {self.operator!r} has none that means anything; "
                "use PiGDM(decode=True) or DDNM(), which work with its pseudo-inverse."
            )

    def channel_at(self, x: Tensor) -> Channel:
        """The law of the measurements of images x (*batch, *event_shape)."""
        return self.channel.with_location(self.operator(x))

    def log_likelihood(self, x: Tensor) -> Tensor:
        """``log p(y_m | x)`` of every measurement, (*batch, *measurement_shape)."""
        return self.channel_at(x).log_prob(self.y)

"""What a kernel is given: prior, operator, channel and measurements, read from a Pyro model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bayes_ir.inference.system import System, measurement_system
from bayes_ir.models.channels import Channel
from bayes_ir.models.operators import LinearOperator, Operator
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["ModelError", "Problem"]


class ModelError(ValueError):
    """A model that cannot be read or that a kernel cannot serve."""


@dataclass(frozen=True, eq=False)
class Problem:
    """An inverse problem read from a Pyro model.

    Attributes:
        site: name of the image site.
        prior: law of the image.
        operator: ``A``.
        channel: ``p(y | z)`` at ``z = A(x)``.
        observed_site: name of the observed site.
        y: measurements, shaped as ``operator.measurement_shape``.
    """

    site: str
    prior: DiffusionPrior
    operator: Operator
    channel: Channel
    observed_site: str
    y: Tensor

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

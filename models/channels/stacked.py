r"""Several channels side by side: two instruments that saw one image, each in its own way.

    y = (y_1, ..., y_K),   z = (z_1, ..., z_K),   p(y | z) = prod_k p_k(y_k | z_k)

Measurements are flat, one stretch of the last dimension per channel, in the order of
:class:`~bayes_ir.models.operators.Stack`.  What inference asks of a channel it asks of each part by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from bayes_ir.models.channels.base import Channel, TiltedNormaliser

__all__ = ["StackedChannel"]


class StackedChannel(Channel):
    """Independent channels on neighbouring stretches of a flat measurement.

    Args:
        parts: the channels, each on flat z_k (*batch, M_k) with one batch shape.

    Raises:
        ValueError: for no parts.
    """

    elementwise: ClassVar[tuple[str, ...]] = ()

    def __init__(self, parts: Sequence[Channel]) -> None:
        if not parts:
            raise ValueError("StackedChannel: expected at least one channel, got none.")
        self.parts = tuple(parts)
        self.sizes = [part.location.shape[-1] for part in self.parts]
        super().__init__(torch.cat([part.location for part in self.parts], dim=-1), validate_args=False)

    support = constraints.real

    @property
    def noise_std(self) -> Tensor:  # type: ignore[override]
        """Standard deviations of the noise in a row, (*batch, M)."""
        return self._joined(lambda part: part.noise_std.expand(part.batch_shape))

    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        return self._joined(lambda part: part.sample(sample_shape))

    def log_prob(self, y: Tensor) -> Tensor:
        return self._joined(lambda part, y: part.log_prob(y), y)

    def tilt(self, y: Tensor, mean: Tensor, variance: Tensor | float) -> TiltedNormaliser:
        variance = torch.as_tensor(variance, dtype=torch.float64, device=mean.device).expand(mean.shape)
        stretches = (t.split(self.sizes, dim=-1) for t in (y, mean, variance))
        found = [part.tilt(*given) for part, *given in zip(self.parts, *stretches, strict=True)]
        return TiltedNormaliser(*(torch.cat(terms, dim=-1) for terms in zip(*found, strict=True)))

    def scale(self, y: Tensor) -> Tensor:
        return self._joined(lambda part, y: part.scale(y).expand(y.shape), y)

    def largest_curvature(self, y: Tensor) -> Tensor:
        return self._joined(lambda part, y: part.largest_curvature(y).expand(y.shape), y)

    def with_location(self, z: Tensor) -> StackedChannel:
        stretches = z.split(self.sizes, dim=-1)
        return StackedChannel([p.with_location(part) for p, part in zip(self.parts, stretches, strict=True)])

    def of_data_set(self, index: int, rank: int) -> StackedChannel:
        return StackedChannel([part.of_data_set(index, rank) for part in self.parts])

    def serves_all(self, rank: int) -> bool:
        return all(part.serves_all(rank) for part in self.parts)

    def _joined(self, f: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        stretches = (t.split(self.sizes, dim=-1) for t in tensors)
        return torch.cat([f(*given) for given in zip(self.parts, *stretches, strict=True)], dim=-1)

    def _check_arguments(self) -> None:
        """Each part has checked its own."""

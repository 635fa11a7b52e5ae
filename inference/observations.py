r"""Which of a problem's measurements belong to which observed site of the model.

A kernel sees one operator, one channel and one y.  Where the model observes several sites, or leaves some measurements
out, these are put in a row: site after site, each without what is missing.  An observation knows its stretch of the row
and turns it back into the site's own shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Observation", "by_site"]


@dataclass(frozen=True, eq=False)
class Observation:
    """One observed site as the model has it.

    Attributes:
        name: of the site.
        shape: of its measurements, those of one data set of a plate.
        kept: positions in the flat site that were measured, (M,); ``None`` for all.
    """

    name: str
    shape: torch.Size
    kept: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of measurements in the row."""
        return self.shape.numel() if self.kept is None else len(self.kept)

    def taken(self, value: Tensor) -> Tensor:
        """The stretch (*batch, size) of a site's measurements (*batch, *shape)."""
        row = value.reshape(*value.shape[: value.ndim - len(self.shape)], -1)
        return row if self.kept is None else row[..., self.kept.to(row.device)]

    def restored(self, row: Tensor, missing: float) -> Tensor:
        """The stretch (*batch, size) in the site's shape, (*batch, *shape), with a number for what was left out."""
        if self.kept is not None:
            whole = row.new_full((*row.shape[:-1], self.shape.numel()), missing)
            whole[..., self.kept.to(row.device)] = row
            row = whole
        return row.reshape(*row.shape[:-1], *self.shape)


def by_site(
    observations: Sequence[Observation], values: Tensor, rank: int, missing: float
) -> dict[str, Tensor]:
    """Numbers per measurement, (*batch, *measurement_shape), as one tensor per observed site.

    Args:
        observations: the sites in the order of the row.
        values: one number per measurement of a problem.
        rank: number of dimensions of the problem's measurements.
        missing: stands where a measurement was left out.
    """
    flat = values.reshape(*values.shape[: values.ndim - rank], -1)
    stretches = flat.split([o.size for o in observations], dim=-1)
    return {o.name: o.restored(row, missing) for o, row in zip(observations, stretches, strict=True)}

"""The posterior as an ArviZ tree: which array goes where, and what its axes are called.

    posterior/x           (chain, draw, x_channel, x_row, x_column)     the draws
    sample_stats/nfe ...  (chain, draw)                                 what the kernel says of each draw
    log_likelihood/y      (chain, draw, y_dim_0, ...)                   log p(y_i | x), one per measurement
    observed_data/y       (y_dim_0, ...)                                the measurements
    constant_data/...     any                                           e.g. the back projection A^+ y

An event of three axes is an image (C, H, W); any other event gets the axes `<site>_dim_0, ...`. The i-th
block of a chain holds its draws i*block_size, ..., min((i+1)*block_size, draws) - 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from bayes_ir.inference.run import Block

__all__ = ["Arrays", "PosteriorLayout", "as_array", "assemble", "json_attributes"]

#: Path in the tree, such as "posterior/x" -> names of the axes, values.
Arrays = dict[str, tuple[tuple[str, ...], np.ndarray]]


def as_array(value: Any) -> np.ndarray:
    """`value` (array, list, DataArray or CPU tensor) as a numpy array, without importing torch."""
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)


def json_attributes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they read back from JSON (tuples become lists), so that a stored copy compares equal.

    Raises:
        ValueError: a value has no JSON form, or is NaN or infinite.
    """
    plain = {}
    for name, value in settings.items():
        try:
            plain[str(name)] = json.loads(json.dumps(value, allow_nan=False, default=_scalar))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"setting {name!r} of the posterior is {value!r}, which JSON cannot hold; give a finite "
                "number, a text, a list or None (repr(value) will do)"
            ) from error
    return plain


def _scalar(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(type(value).__name__)


@dataclass(frozen=True)
class PosteriorLayout:
    """Names and sizes of everything that a run of the sampler writes down.

    Args:
        site: name of the image site, x.
        event_shape: shape of one image; (C, H, W) or anything else.
        observed_site: name of the observed site, y.
        measurement_shape: shape of y.
        draws: draws per chain.
        chains: number of chains.
        block_size: draws in a block, the unit of work, storage and resumption.

    Raises:
        ValueError: a count is not a positive integer, or both sites have one name.
    """

    site: str
    event_shape: tuple[int, ...]
    observed_site: str
    measurement_shape: tuple[int, ...]
    draws: int
    chains: int
    block_size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "event_shape", tuple(int(n) for n in self.event_shape))
        object.__setattr__(self, "measurement_shape", tuple(int(n) for n in self.measurement_shape))
        for name in ("draws", "chains", "block_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"PosteriorLayout: {name} must be a positive integer, got {value!r}")
        if self.site == self.observed_site:
            raise ValueError(
                f"PosteriorLayout: image and measurements are both called {self.site!r}; rename one site"
            )
        for name in (self.site, self.observed_site):
            if not name or "/" in name:
                raise ValueError(
                    f"PosteriorLayout: {name!r} cannot name an array of a tree; rename the site without '/'"
                )

    @property
    def event_dims(self) -> tuple[str, ...]:
        """Names of the image's axes."""
        if len(self.event_shape) == 3:
            return f"{self.site}_channel", f"{self.site}_row", f"{self.site}_column"
        return tuple(f"{self.site}_dim_{i}" for i in range(len(self.event_shape)))

    @property
    def measurement_dims(self) -> tuple[str, ...]:
        """Names of the axes of the measurements."""
        return tuple(f"{self.observed_site}_dim_{i}" for i in range(len(self.measurement_shape)))

    @property
    def blocks(self) -> int:
        """Number of blocks in a chain."""
        return -(-self.draws // self.block_size)

    def draws_of(self, index: int) -> slice:
        """The draws of block `index`."""
        return slice(index * self.block_size, min((index + 1) * self.block_size, self.draws))

    def arrays_of(self, block: Block) -> Arrays:
        """The block as numpy arrays under their paths in the tree; axes (draw, ...), the chain's left out.

        Raises:
            ValueError: the block is none of this layout's, or an array of it has another shape.
        """
        where = f"block {block.index} of chain {block.chain}"
        if not (0 <= block.chain < self.chains and 0 <= block.index < self.blocks):
            raise ValueError(
                f"{where} lies outside a run of {self.chains} chains with {self.blocks} blocks each; "
                "sampler and store must be given the same draws, chains and block_size"
            )
        span = self.draws_of(block.index)
        if block.start != span.start:
            raise ValueError(
                f"{where} starts at draw {block.start}, expected {span.start} (block_size={self.block_size})"
            )
        arrays: Arrays = {
            f"posterior/{self.site}": (self.event_dims, as_array(block.draws)),
            f"log_likelihood/{self.observed_site}": (self.measurement_dims, as_array(block.log_likelihood)),
        }
        arrays |= {f"sample_stats/{name}": ((), as_array(value)) for name, value in block.stats.items()}
        tails = {"posterior": self.event_shape, "log_likelihood": self.measurement_shape, "sample_stats": ()}
        for path, (_, array) in arrays.items():
            expected = (span.stop - span.start, *tails[path.split("/")[0]])
            if array.shape != expected:
                raise ValueError(f"{where}: {path} has shape {array.shape}, expected {expected}")
        return {path: (("draw", *dims), array) for path, (dims, array) in arrays.items()}

    def fixed_arrays(self, observed: Any, constants: Mapping[str, tuple[Sequence[str], Any]]) -> Arrays:
        """What is known before the first draw: measurements and constants under their paths in the tree.

        Raises:
            ValueError: the measurements are not of `measurement_shape`, or a constant has not one name per
                axis.
        """
        y = as_array(observed)
        if y.shape != self.measurement_shape:
            raise ValueError(
                f"observed data {self.observed_site!r} has shape {y.shape}, expected {self.measurement_shape}"
            )
        arrays: Arrays = {f"observed_data/{self.observed_site}": (self.measurement_dims, y)}
        sizes = dict(
            zip(
                self.event_dims + self.measurement_dims,
                self.event_shape + self.measurement_shape,
                strict=True,
            )
        )
        for name, (dims, value) in constants.items():
            array = as_array(value)
            if len(dims) != array.ndim:
                raise ValueError(
                    f"constant {name!r} has {array.ndim} axes (shape {array.shape}), but {len(dims)} names "
                    f"for them: {tuple(dims)}"
                )
            for dim, size in zip(dims, array.shape, strict=True):
                if sizes.setdefault(dim, size) != size:
                    raise ValueError(
                        f"constant {name!r} has size {size} along {dim!r}, which has size {sizes[dim]} "
                        "elsewhere"
                    )
            arrays[f"constant_data/{name}"] = (tuple(dims), array)
        return arrays


def assemble(arrays: Arrays, attrs: Mapping[str, Any], chains: Sequence[int] | None = None) -> xr.DataTree:
    """The tree of these arrays, every axis with integer coordinates 0, 1, ... (chains as given)."""
    groups: dict[str, dict[str, Any]] = {}
    for path, (dims, array) in arrays.items():
        group, name = path.split("/")
        groups.setdefault(group, {})[name] = (dims, array)
    datasets = {}
    for group, variables in groups.items():
        sizes = {
            dim: n for dims, array in variables.values() for dim, n in zip(dims, array.shape, strict=True)
        }
        coords = {dim: np.arange(n) for dim, n in sizes.items()}
        if chains is not None and "chain" in coords:
            coords["chain"] = np.asarray(chains)
        datasets[group] = xr.Dataset(variables, coords=coords)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=json_attributes(attrs)), **datasets})

"""The posterior as an ArviZ tree: which array goes where, and what its axes are called.

    posterior/x           (chain, draw, x_channel, x_row, x_column)     the draws
    sample_stats/nfe ...  (chain, draw)                                 what the kernel says of each draw
    posterior/...         (chain, draw, ..._dim_0, ...)                 further sites of the model
    log_likelihood/y      (chain, draw, y_dim_0, ...)                   log p(y_i | x), one per measurement
    observed_data/y       (y_dim_0, ...)                                the measurements
    constant_data/...     any                                           e.g. the back projection A^+ y

An event of three axes is an image (C, H, W); any other event gets the axes `<site>_dim_0, ...`. Of a plate of images
every array but the constants has the plate's axis before its own, under the plate's name. The i-th
block of a chain holds its draws i*block_size, ..., min((i+1)*block_size, draws) - 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        observed: shape of each observed site by its name, of one image's data.
        draws: draws per chain.
        chains: number of chains.
        block_size: draws in a block, the unit of work, storage and resumption.
        plate: name and size of the plate of images, if there is one.
        others: shape of each further site of the model by its name.

    Raises:
        ValueError: a count is not a positive integer, or two sites have one name.
    """

    site: str
    event_shape: tuple[int, ...]
    observed: Mapping[str, tuple[int, ...]]
    draws: int
    chains: int
    block_size: int
    plate: tuple[str, int] | None = None
    others: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "event_shape", _shape(self.event_shape))
        for name in ("observed", "others"):
            shapes = {str(site): _shape(shape) for site, shape in getattr(self, name).items()}
            object.__setattr__(self, name, shapes)
        if self.plate is not None:
            object.__setattr__(self, "plate", (str(self.plate[0]), int(self.plate[1])))
        for name in ("draws", "chains", "block_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"PosteriorLayout: {name} must be a positive integer, got {value!r}")
        names = [self.site, *self.observed, *self.others]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"PosteriorLayout: two sites are called {name!r} (image, measurements and others: {names}); "
                    "rename one"
                )
            if not name or "/" in name:
                raise ValueError(
                    f"PosteriorLayout: {name!r} cannot name an array of a tree; rename the site without '/'"
                )

    @property
    def event_dims(self) -> tuple[str, ...]:
        """Names of the image's own axes."""
        if len(self.event_shape) == 3:
            return f"{self.site}_channel", f"{self.site}_row", f"{self.site}_column"
        return _dims(self.site, self.event_shape)

    @property
    def data_sets(self) -> tuple[int, ...]:
        """``(P,)`` with a plate of P images, else ``()``."""
        return () if self.plate is None else (self.plate[1],)

    @property
    def plate_dims(self) -> tuple[str, ...]:
        """Name of the plate's axis, if there is a plate."""
        return () if self.plate is None else (self.plate[0],)

    def measurement_dims(self, site: str) -> tuple[str, ...]:
        """Names of the axes of an observed site, the plate's not among them."""
        return _dims(site, self.observed[site])

    @property
    def sampled(self) -> dict[str, dict[str, int]]:
        """Axes and sizes of the groups that draws go to, but for `chain` and `draw`."""
        over = dict(zip(self.plate_dims, self.data_sets, strict=True))
        image = [(self.event_dims, self.event_shape)]
        others = [(_dims(name, shape), shape) for name, shape in self.others.items()]
        observed = [(self.measurement_dims(name), shape) for name, shape in self.observed.items()]
        groups: dict[str, list] = {
            "posterior": image + others,
            "log_likelihood": observed,
            "sample_stats": [],
        }
        return {
            group: over | {dim: n for dims, shape in found for dim, n in zip(dims, shape, strict=True)}
            for group, found in groups.items()
        }

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
        if block.log_likelihood.keys() != self.observed.keys() or block.others.keys() != self.others.keys():
            got = [*block.log_likelihood, *block.others]
            raise ValueError(f"{where} has the sites {got}, expected {[*self.observed, *self.others]}")
        over, each = self.plate_dims, self.data_sets
        found: list[tuple[str, tuple[str, ...], tuple[int, ...], Any]] = [
            (f"posterior/{self.site}", over + self.event_dims, each + self.event_shape, block.draws)
        ]
        for name, shape in self.others.items():
            found.append((f"posterior/{name}", _dims(name, shape), shape, block.others[name]))
        for name, shape in self.observed.items():
            dims = over + self.measurement_dims(name)
            found.append((f"log_likelihood/{name}", dims, each + shape, block.log_likelihood[name]))
        found += [(f"sample_stats/{name}", over, each, value) for name, value in block.stats.items()]
        arrays: Arrays = {}
        for path, dims, shape, value in found:
            array, expected = as_array(value), (span.stop - span.start, *shape)
            if array.shape != expected:
                raise ValueError(f"{where}: {path} has shape {array.shape}, expected {expected}")
            arrays[path] = (("draw", *dims), array)
        return arrays

    def fixed_arrays(
        self, observed: Mapping[str, Any], constants: Mapping[str, tuple[Sequence[str], Any]]
    ) -> Arrays:
        """What is known before the first draw: measurements and constants under their paths in the tree.

        Raises:
            ValueError: the measurements are not of the observed shapes, or a constant has not one name per
                axis.
        """
        arrays: Arrays = {}
        over = self.plate_dims
        sizes = dict(zip(over + self.event_dims, self.data_sets + self.event_shape, strict=True))
        for name, shape in self.observed.items():
            y = as_array(observed[name])
            if y.shape != (*self.data_sets, *shape):
                raise ValueError(
                    f"observed data {name!r} has shape {y.shape}, expected {(*self.data_sets, *shape)}"
                )
            dims = self.measurement_dims(name)
            arrays[f"observed_data/{name}"] = ((*over, *dims), y)
            sizes |= dict(zip(dims, shape, strict=True))
        for name, (axes, value) in constants.items():
            array = as_array(value)
            if len(axes) != array.ndim:
                raise ValueError(
                    f"constant {name!r} has {array.ndim} axes (shape {array.shape}), but {len(axes)} names "
                    f"for them: {tuple(axes)}"
                )
            for dim, size in zip(axes, array.shape, strict=True):
                if sizes.setdefault(dim, size) != size:
                    raise ValueError(
                        f"constant {name!r} has size {size} along {dim!r}, which has size {sizes[dim]} "
                        "elsewhere"
                    )
            arrays[f"constant_data/{name}"] = (tuple(axes), array)
        return arrays


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(n) for n in shape)


def _dims(site: str, shape: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{site}_dim_{i}" for i in range(len(shape)))


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

"""What a posterior store looks like on the disk: its arrays, its record of how it was made, its flags.

posterior/<site>, log_likelihood/<observed>, sample_stats/*   chunks (1, block_size, ...): one block, one
file observed_data/*, constant_data/*, coordinates                 one chunk blocks/complete (chain,
block)                                1 where the block is there as a whole blocks, attributes
format, layout, settings
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from bayes_ir.analysis.posterior import Arrays, PosteriorLayout

__all__ = [
    "FIXED",
    "FORMAT",
    "SAMPLED",
    "entries",
    "flush_chunk",
    "make_array",
    "open_store",
    "put_array",
    "put_coordinate",
    "quiet_about_litter",
    "read_flags",
    "read_record",
    "refuse_other_data",
    "refuse_other_settings",
]

FORMAT = "bayes_ir posterior, version 2"
SAMPLED = ("posterior", "log_likelihood", "sample_stats")
FIXED = ("observed_data", "constant_data")


def open_store(path: Path, mode: Any = "r") -> zarr.Group:
    """The root of the store, without its index (which may be older than the arrays)."""
    return zarr.open_group(path, mode=mode, use_consolidated=False)


def read_record(path: Path) -> dict[str, Any]:
    """How the store at `path` was made: {"format", "layout", "settings"}.

    Raises:
        ValueError: what is there is not a posterior store, or one of another version.
    """
    try:
        record = zarr.open_group(path, path="blocks", mode="r", use_consolidated=False).attrs.asdict()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        record = {}
    if record.get("format") != FORMAT:
        found = record.get("format", "something else")
        raise ValueError(
            f"{path} exists and is no posterior store ({FORMAT!r}) but {found}; choose another path"
        )
    return record


def read_flags(root: zarr.Group, layout: PosteriorLayout) -> np.ndarray:
    """Which blocks are complete, (chains, blocks); blocks that the store has no flag for yet are not."""
    stored: Any = root["blocks/complete"]
    flags = np.zeros((layout.chains, layout.blocks), dtype=bool)
    chains, blocks = (min(a, b) for a, b in zip(flags.shape, stored.shape, strict=True))
    flags[:chains, :blocks] = stored[:chains, :blocks] != 0
    return flags


def entries(root: zarr.Group, groups: Sequence[str]) -> dict[str, Any]:
    """The arrays of these groups under their paths, coordinates left out."""
    found: dict[str, Any] = {}
    for group in groups:
        node: Any = root.get(group)
        with quiet_about_litter():
            members = dict(node.arrays()) if node is not None else {}
        found |= {
            f"{group}/{name}": array
            for name, array in members.items()
            if array.metadata.dimension_names != (name,)
        }
    return found


def make_array(
    root: zarr.Group, path: str, dims: Sequence[str], shape: Sequence[int], chunks: Sequence[int], dtype: Any
) -> Any:
    """An empty array; of its checksums a chunk that the disk has garbled is known."""
    return root.create_array(
        path,
        shape=tuple(shape),
        chunks=tuple(max(n, 1) for n in chunks),
        dtype=dtype,
        fill_value=np.nan if np.issubdtype(dtype, np.inexact) else 0,
        dimension_names=tuple(dims),
        chunk_key_encoding={"name": "default", "separator": "."},
        compressors=ZstdCodec(checksum=True),
        overwrite=True,
    )


def put_array(root: zarr.Group, path: str, dims: Sequence[str], array: np.ndarray) -> None:
    """An array in one chunk."""
    make_array(root, path, dims, array.shape, array.shape, array.dtype)[...] = array


def put_coordinate(root: zarr.Group, path: str, size: int) -> None:
    """The coordinate 0, ..., size - 1, unless it is there already."""
    values, found = np.arange(size), root.get(path)
    if not isinstance(found, zarr.Array) or not np.array_equal(np.asarray(found[:]), values):
        put_array(root, path, (path.split("/")[1],), values)


def flush_chunk(store: Path, array: Any, chunk: tuple[int, ...]) -> None:
    """Has the file of this chunk on the disk, name and content, before anything else is written."""
    file = store / array.path / array.metadata.encode_chunk_key(chunk + (0,) * (array.ndim - len(chunk)))
    # A chunk that holds nothing but the fill value has no file; Windows cannot flush a directory.
    for place in (file, file.parent) if os.name == "posix" else (file,):
        if place.exists():
            handle = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def refuse_other_settings(path: Path, made: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Compares how a store was made with what a run asks for; `draws` and `chains` may grow.

    Raises:
        ValueError: names every setting that differs, as it was and as it is asked for.
    """
    absent = object()
    different = []
    for name in {**made, **asked}:
        old, new = made.get(name, absent), asked.get(name, absent)
        grows = name in ("draws", "chains") and absent not in (old, new) and new >= old
        if old != new and not grows:
            was = f"without {name}" if old is absent else f"with {name}={old!r}"
            now = f"has no {name}" if new is absent else f"has {name}={new!r}"
            different.append(f"{was}, this run {now}")
    if different:
        raise ValueError(
            f"{path} was made {'; '.join(different)}. Use the same settings to go on with it (draws and "
            "chains may grow), another path for a new run, or delete that directory yourself"
        )


def refuse_other_data(path: Path, stored: Mapping[str, Any], fixed: Arrays) -> None:
    """Compares measurements bit by bit, constants up to rounding (they are computed, perhaps on another
    device).

    Raises:
        ValueError: names the first array that differs.
    """
    for name in sorted(stored.keys() | fixed.keys()):
        if name not in stored or name not in fixed:
            made, has = ("with", "has not") if name in stored else ("without", "has")
            raise ValueError(
                f"{path} was made {made} the array {name}, this run {has}; use another path for a new run"
            )
        old, new = np.asarray(stored[name][...]), fixed[name][1]
        same = old.shape == new.shape and old.dtype == new.dtype
        if same and name.startswith("constant_data/"):
            same = np.allclose(
                old, new, rtol=0, atol=1e-4 * float(np.abs(old).max(initial=0)), equal_nan=True
            )
        elif same:
            same = old.tobytes() == new.tobytes()
        if not same:
            raise ValueError(
                f"{path} was made from other data: its {name} differs from this run's; use the same data, or "
                "another path for a new run"
            )


@contextmanager
def quiet_about_litter() -> Iterator[None]:
    """Without zarr's remarks on half-written files of a killed run, which lie about until it is finished."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Object at .* is not recognized")
        yield

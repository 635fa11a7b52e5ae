"""A posterior on disk, in zarr, that survives a kill at any instant and can be resumed and extended.

One block of draws is one chunk of each array, one file. The order of writing is what makes it safe: every
file of a block is written beside its place, renamed into it and flushed to the disk; only then the block's
own flag in `blocks/complete` (chain, block), one file per flag, is written the same way. A block without its
flag is made again, and since a block is a function of (settings, seed, chain, block) the store comes out the
same to the bit. A store has one writer at a time.

The group `blocks` also keeps how the store was made (layout and settings). Only `draws` and `chains` may grow
between runs: block i of chain c is the same block however many there are. A last block that was cut short by
the old number of draws is made again.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from bayes_ir.analysis.posterior import Arrays, PosteriorLayout, json_attributes
from bayes_ir.analysis.store import check_same_kind, complete_part
from bayes_ir.analysis.zarr_format import (
    FIXED,
    FORMAT,
    SAMPLED,
    entries,
    flush_chunk,
    make_array,
    open_store,
    put_array,
    put_coordinate,
    read_flags,
    read_record,
    refuse_other_data,
    refuse_other_settings,
)
from bayes_ir.analysis.zarr_reading import open_posterior

if TYPE_CHECKING:
    import xarray as xr

    from bayes_ir.inference.run import Block

__all__ = ["ZarrSink"]

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class ZarrSink:
    """Writes the draws into a zarr store on the local disk, or goes on with one.

    Args:
        path: the directory of the store; made here, or one made by an earlier run with the same settings.
        layout: names and sizes; `draws` and `chains` may be larger than in the earlier run.
        observed: the measurements of every observed site by its name.
        constants: name -> (names of the axes, array), for the group `constant_data`.
        settings: everything that the draws depend on (kernel, prior, seed, ...), JSON values; root attributes
            of the tree. `draws` and `chains` may be among them and may grow.
        resume: whether to go on with a store that is there already.

    Raises:
        ValueError: the path holds something else, or a store made with other settings or data; each is named.
        FileExistsError: there is a store already and `resume` is False.
        OSError: the disk is full.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        layout: PosteriorLayout,
        observed: Mapping[str, Any],
        constants: Mapping[str, tuple[Sequence[str], Any]] | None = None,
        settings: Mapping[str, Any] | None = None,
        resume: bool = True,
    ) -> None:
        self.path = Path(path)
        self.layout = layout
        self._settings = json_attributes(settings or {})
        self._complete = np.zeros((layout.chains, layout.blocks), dtype=bool)
        self._targets: dict[str, Any] = {}
        fixed = layout.fixed_arrays(observed, constants or {})
        with self._full_disk_in_words("while the store was being set up"):
            if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
                self._create(fixed)
            else:
                self._continue(fixed, resume)
        self._root = open_store(self.path, "r+")
        self._complete = read_flags(self._root, layout)

    @property
    def pending(self) -> int:
        """Number of blocks that are still to be made."""
        return int((~self._complete).sum())

    def done(self, chain: int, index: int) -> bool:
        """Whether block `index` of chain `chain` is in the store as a whole."""
        return bool(self._complete[chain, index])

    def write(self, block: Block) -> None:
        """Writes one block, then its flag.

        Raises:
            ValueError: the block does not fit the layout or is not made like the earlier ones.
            OSError: the disk is full; says which block was lost and what is kept.
        """
        arrays = self.layout.arrays_of(block)
        where = f"block {block.index} of chain {block.chain}"
        chunk = (block.chain, block.index)
        with self._full_disk_in_words(f"at {where}"):
            self._targets = self._targets or self._sampled_arrays(arrays)
            check_same_kind({path: target.dtype for path, target in self._targets.items()}, arrays, where)
            for path, (_, array) in arrays.items():
                self._targets[path][block.chain, self.layout.draws_of(block.index)] = array
                flush_chunk(self.path, self._targets[path], chunk)
            flags: Any = self._root["blocks/complete"]
            flags[chunk] = 1
            flush_chunk(self.path, flags, chunk)
        self._complete[chunk] = True

    def finish(self, attrs: Mapping[str, Any], *, partial: bool = False) -> xr.DataTree:
        """Adds root attributes, closes the store and opens it to be read, lazily.

        Args:
            attrs: root attributes that only the end of the run knows, such as its wall time.
            partial: give the complete part of an unfinished run instead of refusing.

        Raises:
            ValueError: blocks are missing and `partial` is not set, or nothing at all is complete.
            OSError: the disk is full.
        """
        complete_part(self._complete, self.layout, partial, str(self.path))
        with self._full_disk_in_words("while the store was being closed"):
            self._root.attrs.update(json_attributes(attrs))
            if not self.pending:
                for litter in self.path.rglob("*.partial"):  # half-written files of killed runs
                    litter.unlink(missing_ok=True)
                with warnings.catch_warnings():
                    # zarr's reminder that other languages may not know this index; the arrays do not need it.
                    warnings.filterwarnings("ignore", message="Consolidated metadata")
                    zarr.consolidate_metadata(self.path)
        return open_posterior(self.path, partial=partial)

    def _create(self, fixed: Arrays) -> None:
        """Makes the store beside its place and moves it there, so that a half-made one is never met.

        A kill in this instant leaves a hidden directory of a few kilobytes behind.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        nest = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        try:
            root = zarr.create_group(nest / "store", attributes=self._settings)
            for path, (dims, array) in fixed.items():
                put_array(root, path, dims, array)
                for dim, size in zip(dims, array.shape, strict=True):
                    put_coordinate(root, f"{path.split('/')[0]}/{dim}", size)
            self._fit(root)
            if self.path.exists():
                self.path.rmdir()
            (nest / "store").rename(self.path)
        finally:
            shutil.rmtree(nest, ignore_errors=True)

    def _continue(self, fixed: Arrays, resume: bool) -> None:
        """Compares with what the store was made from, and makes room where this run asks for more."""
        record = read_record(self.path)
        if not resume:
            raise FileExistsError(
                f"{self.path} already holds a posterior and resume=False was given; choose another path, "
                "delete that directory yourself, or resume the run"
            )
        asked = self._settings | json_attributes(asdict(self.layout))
        refuse_other_settings(self.path, record["settings"] | record["layout"], asked)
        root = open_store(self.path, "r+")
        refuse_other_data(self.path, entries(root, FIXED), fixed)
        old, blocks = record["layout"], root["blocks/complete"]
        if (old["draws"], old["chains"]) != (self.layout.draws, self.layout.chains):
            # This also drops the index of a finished store, which knows the old sizes.
            root.attrs.update(self._settings)
            if self.layout.draws > old["draws"] and old["draws"] % self.layout.block_size:
                blocks[:, old["draws"] // self.layout.block_size] = 0  # type: ignore[index]
        self._fit(root)

    def _fit(self, root: zarr.Group) -> None:
        """Gives everything the sizes of the layout; what has them stays, so that it can be done again."""
        layout = self.layout
        record: dict[str, Any] = {
            "format": FORMAT,
            "layout": json_attributes(asdict(layout)),
            "settings": self._settings,
        }
        blocks = root.require_group("blocks")
        if blocks.attrs.asdict() != record:
            blocks.attrs.update(record)
        flags, shape = blocks.get("complete"), (layout.chains, layout.blocks)
        if not isinstance(flags, zarr.Array):
            make_array(root, "blocks/complete", ("chain", "block"), shape, (1, 1), np.int8)
        elif flags.shape != shape:
            flags.resize(shape)
        for group, tail in layout.sampled.items():
            root.require_group(group)
            for dim, size in ({"chain": layout.chains, "draw": layout.draws} | tail).items():
                put_coordinate(root, f"{group}/{dim}", size)
        for target in entries(root, SAMPLED).values():
            if target.shape[:2] != (layout.chains, layout.draws):
                target.resize((layout.chains, layout.draws, *target.shape[2:]))

    def _sampled_arrays(self, arrays: Arrays) -> dict[str, Any]:
        """The arrays that draws go to; made anew, like this first block, as long as no block is complete."""
        found = entries(self._root, SAMPLED)
        if self._complete.any():
            return found
        for path in found.keys() - arrays.keys():
            del self._root[path]
        made = {}
        for path, (dims, array) in arrays.items():
            shape = (self.layout.chains, self.layout.draws, *array.shape[1:])
            chunks = (1, self.layout.block_size, *array.shape[1:])
            made[path] = make_array(self._root, path, ("chain", *dims), shape, chunks, array.dtype)
        return made

    @contextmanager
    def _full_disk_in_words(self, when: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise OSError(
                error.errno,
                f"the disk is full {when}: {self.path} keeps its {int(self._complete.sum())} complete "
                f"blocks of {self._complete.size}, what was being written is lost. Free some space and run "
                "the same call again; it goes on from there (resume=True)",
            ) from error

"""Where blocks of draws are written down: `write(block)`, `done(chain, index)`, `finish(attrs) -> DataTree`.

    for block in draw_blocks(problem, kernel, ..., skip=sink.done):
        sink.write(block)
    posterior = sink.finish({"wall_time": 12.3})

A block is there as a whole or not at all. Of an unfinished run only a full rectangle (chains x leading draws)
may be looked at: of all such rectangles the one that holds most draws, and of equal ones the one of most
chains. Draws that were never made are never shown as NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bayes_ir.analysis.posterior import Arrays, PosteriorLayout, assemble, json_attributes

if TYPE_CHECKING:
    import xarray as xr

    from bayes_ir.inference.run import Block

__all__ = ["MemorySink", "Sink", "complete_part", "largest_rectangle", "partial_attributes"]


class Sink(Protocol):
    """What a run needs of the place that its blocks go to."""

    @property
    def pending(self) -> int:
        """Number of blocks that are still to be made."""

    def done(self, chain: int, index: int) -> bool:
        """Whether block `index` of chain `chain` is there already."""

    def write(self, block: Block) -> None:
        """Takes one block, as a whole or not at all."""

    def finish(self, attrs: Mapping[str, Any], *, partial: bool = False) -> xr.DataTree:
        """The tree, with these root attributes added."""


def largest_rectangle(lengths: Sequence[int] | np.ndarray) -> tuple[list[int], int]:
    """The chains and the number of leading draws that together hold most draws.

    Maximises n * #{c : length_c >= n}; of equal products the smallest n, that is the most chains.
    """
    sizes = sorted({int(n) for n in lengths if n > 0})
    if not sizes:
        return [], 0
    best = max(sizes, key=lambda n: (n * sum(length >= n for length in lengths), -n))
    return [chain for chain, length in enumerate(lengths) if length >= best], best


def complete_part(
    complete: np.ndarray, layout: PosteriorLayout, partial: bool, where: str
) -> tuple[list[int], int]:
    """The chains and draws that may be looked at; `complete` is a (chains, blocks) table of flags.

    Raises:
        ValueError: blocks are missing and `partial` is not set, or nothing at all is complete.
    """
    if complete.all():
        return list(range(layout.chains)), layout.draws
    if not partial:
        raise ValueError(
            f"{where} holds {int(complete.sum())} of {complete.size} blocks: the run has not finished. Run "
            "it again with resume=True to finish it, or ask for partial=True to see the draws that are "
            "complete"
        )
    leading = np.minimum(
        np.cumprod(complete.astype(bool), axis=1).sum(axis=1) * layout.block_size, layout.draws
    )
    chains, draws = largest_rectangle(leading)
    if draws == 0:
        raise ValueError(
            f"{where} holds no complete first block of any chain: there is no draw to look at yet"
        )
    return chains, draws


def partial_attributes(layout: PosteriorLayout, chains: Sequence[int], draws: int) -> dict[str, str]:
    """A root attribute that says what of an unfinished run is shown; none for a finished one."""
    if (len(chains), draws) == (layout.chains, layout.draws):
        return {}
    return {
        "partial": f"chains {list(chains)} of {layout.chains}, the first {draws} of {layout.draws} draws of "
        "each"
    }


class MemorySink:
    """Keeps the draws in memory.

    Args:
        layout: names and sizes.
        observed: the measurements of every observed site by its name.
        constants: name -> (names of the axes, array), for the group `constant_data`.
        settings: root attributes known before the run; `finish` adds the others.
    """

    def __init__(
        self,
        layout: PosteriorLayout,
        observed: Mapping[str, Any],
        constants: Mapping[str, tuple[Sequence[str], Any]] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.layout = layout
        self._fixed = layout.fixed_arrays(observed, constants or {})
        self._settings = json_attributes(settings or {})
        self._arrays: Arrays = {}
        self._complete = np.zeros((layout.chains, layout.blocks), dtype=bool)

    @property
    def pending(self) -> int:
        """Number of blocks that are still to be made."""
        return int((~self._complete).sum())

    def done(self, chain: int, index: int) -> bool:
        """Whether block `index` of chain `chain` is there already."""
        return bool(self._complete[chain, index])

    def write(self, block: Block) -> None:
        """Takes one block.

        Raises:
            ValueError: the block does not fit the layout or is not made like the earlier ones.
        """
        arrays = self.layout.arrays_of(block)
        if not self._arrays:
            chains, draws = self.layout.chains, self.layout.draws
            self._arrays = {
                path: (("chain", *dims), np.empty((chains, draws, *array.shape[1:]), array.dtype))
                for path, (dims, array) in arrays.items()
            }
        expected = {path: array.dtype for path, (_, array) in self._arrays.items()}
        check_same_kind(expected, arrays, f"block {block.index} of chain {block.chain}")
        for path, (_, array) in arrays.items():
            self._arrays[path][1][block.chain, self.layout.draws_of(block.index)] = array
        self._complete[block.chain, block.index] = True

    def finish(self, attrs: Mapping[str, Any], *, partial: bool = False) -> xr.DataTree:
        """The tree, with these root attributes added.

        Args:
            attrs: root attributes that only the end of the run knows, such as its wall time.
            partial: give the complete part of an unfinished run instead of refusing.

        Raises:
            ValueError: blocks are missing and `partial` is not set, or nothing at all is complete.
        """
        chains, draws = complete_part(self._complete, self.layout, partial, "this posterior")
        whole = (len(chains), draws) == (self.layout.chains, self.layout.draws)
        kept = self._arrays if whole else {k: (d, a[chains, :draws]) for k, (d, a) in self._arrays.items()}
        root = self._settings | dict(attrs) | partial_attributes(self.layout, chains, draws)
        return assemble(kept | self._fixed, root, chains)


def check_same_kind(expected: Mapping[str, np.dtype], arrays: Arrays, where: str) -> None:
    """Refuses a block that has other arrays or other number types than the blocks before it."""
    if expected.keys() != arrays.keys():
        different = ", ".join(sorted(expected.keys() ^ arrays.keys()))
        raise ValueError(f"{where} differs from the earlier blocks in what it records: {different}")
    for path, (_, array) in arrays.items():
        if array.dtype != expected[path]:
            raise ValueError(
                f"{where}: {path} is {array.dtype}, the earlier blocks have {expected[path]}; all blocks of "
                "a posterior need one dtype"
            )

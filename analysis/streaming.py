"""The draws of a posterior read in pieces, so that a store larger than the memory is never held.

    blocks   some draws of all pixels      for sums over draws: mean, sd, correlations, modes, probabilities
    tiles    all draws of some pixels      for what needs a pixel's draws side by side: quantiles, intervals

A store keeps one block of draws per file, so a tile touches every file of it. A few tiles are read straight from the
store, one pass over it for each. Many would mean many passes; then the finite draws are written once, tile after tile,
to a nameless scratch file beside the store (or in the directory of temporary files, if that one may not be written
to), which takes as much room as the draws do and is gone with the process. Without that room it is one pass for each
tile after all. Either way no more than one block and one tile are held: 32 MiB of draws at a time of a block, 256 MiB
of a tile.

A draw with a NaN or an infinity in it says nothing of any pixel and is left out everywhere, in every image of a plate.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import product
from math import prod
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["Tile", "blocks_of", "finite_blocks", "finite_draws", "require_some", "tiles_of"]

#: Where a tile lies in the image, one slice per axis.
Tile = tuple[slice, ...]

_BLOCK_BYTES = 2**25
_TILE_BYTES = 2**28
_PASSES = 4  # so many tiles are read straight from the store


def blocks_of(draws: xr.DataArray) -> Iterator[tuple[int, slice, np.ndarray]]:
    """The draws in pieces (chain number, draw numbers, array (n, *event)), each file of a store read once."""
    most = max(1, _BLOCK_BYTES // max(1, prod(draws.shape[2:]) * draws.dtype.itemsize))
    stored = draws.encoding.get("preferred_chunks", {}).get("draw") or most
    for chain in range(draws.sizes["chain"]):
        for start in range(0, draws.sizes["draw"], stored):
            block = draws[chain, start : start + stored].values
            for i in range(0, len(block), most):
                part = block[i : i + most]
                yield chain, slice(start + i, start + i + len(part)), part


def finite_blocks(draws: xr.DataArray) -> Iterator[np.ndarray]:
    """The finite draws block by block, float64 (n, *event), n > 0."""
    for _, _, block in blocks_of(draws):
        finite = _finite(block)
        if finite.any():
            yield block[finite].astype(np.float64)


def finite_draws(draws: xr.DataArray) -> np.ndarray:
    """Which draws have no NaN and no infinity in them, (chain, draw)."""
    finite = np.zeros((draws.sizes["chain"], draws.sizes["draw"]), dtype=bool)
    for chain, span, block in blocks_of(draws):
        finite[chain, span] = _finite(block)
    return finite


def tiles_of(draws: xr.DataArray) -> Iterator[tuple[Tile, np.ndarray]]:
    """The finite draws tile by tile: place in the image, array (n, *tile) that the caller may overwrite.

    Raises:
        ValueError: no draw is finite.
    """
    size = draws.sizes["chain"] * draws.sizes["draw"]
    tiles = _tiles(draws.shape[2:], max(1, _TILE_BYTES // max(1, size * draws.dtype.itemsize)))
    place = _scratch_place(draws) if len(tiles) > _PASSES else None
    if place is not None:
        yield from _by_scratch(draws, tiles, place)
        return
    finite = finite_draws(draws)
    require_some(int(finite.sum()), size)
    for tile in tiles:
        yield tile, draws[(slice(None), slice(None), *tile)].values[finite]


def require_some(used: int, total: int) -> None:
    """Refuses a posterior of which no draw is finite.

    Raises:
        ValueError: `used` is zero.
    """
    if not used:
        raise ValueError(
            f"none of the {total} draws is finite: the sampler diverged; take more steps or smaller ones"
        )


def _finite(block: np.ndarray) -> np.ndarray:
    return np.isfinite(block).all(axis=tuple(range(1, block.ndim)))


def _tiles(shape: tuple[int, ...], pixels: int) -> list[Tile]:
    """The image cut into boxes of at most so many pixels, across its longest axes first."""
    widths = list(shape)
    while prod(widths) > pixels:
        axis = widths.index(max(widths))
        widths[axis] = max(1, pixels * widths[axis] // prod(widths))
    cuts = [
        [slice(i, min(i + width, n)) for i in range(0, n, max(1, width))]
        for n, width in zip(shape, widths, strict=True)
    ]
    return list(product(*cuts))


def _scratch_place(draws: xr.DataArray) -> Path | None:
    """A directory with room for the draws of a store once more; None for draws that are in memory."""
    source = draws.encoding.get("source")
    if source is None:
        return None
    for place in (Path(source).parent, Path(gettempdir())):
        # Half as much again, for others write to that disk too.
        if os.access(place, os.W_OK) and shutil.disk_usage(place).free > 1.5 * draws.nbytes:
            return place
    return None


def _by_scratch(draws: xr.DataArray, tiles: list[Tile], place: Path) -> Iterator[tuple[Tile, np.ndarray]]:
    size = draws.sizes["chain"] * draws.sizes["draw"]
    shapes = [tuple(part.stop - part.start for part in tile) for tile in tiles]
    starts = np.cumsum([0] + [size * prod(shape) * draws.dtype.itemsize for shape in shapes]).tolist()
    with TemporaryFile(dir=place, prefix=".bayes_ir.") as file:
        used = 0
        for _, _, block in blocks_of(draws):
            kept = block[_finite(block)]
            for tile, shape, start in zip(tiles, shapes, starts, strict=False):
                file.seek(start + used * prod(shape) * draws.dtype.itemsize)
                file.write(_bytes(np.ascontiguousarray(kept[(slice(None), *tile)])))
            used += len(kept)
        require_some(used, size)
        for tile, shape, start in zip(tiles, shapes, starts, strict=False):
            values = np.empty((used, *shape), draws.dtype)
            file.seek(start)
            file.readinto(_bytes(values))
            yield tile, values


def _bytes(array: np.ndarray) -> Any:
    return array.reshape(-1).view(np.uint8).data

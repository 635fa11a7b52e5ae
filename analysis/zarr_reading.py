"""Opening a stored posterior, lazily and only as far as it is complete."""

from __future__ import annotations

import os
from pathlib import Path

import xarray as xr

from bayes_ir.analysis.posterior import PosteriorLayout
from bayes_ir.analysis.store import complete_part, partial_attributes
from bayes_ir.analysis.zarr_format import (
    FIXED,
    SAMPLED,
    open_store,
    quiet_about_litter,
    read_flags,
    read_record,
)

__all__ = ["open_posterior"]


def open_posterior(path: str | os.PathLike[str], *, partial: bool = False) -> xr.DataTree:
    """Opens a stored posterior; draws are read from the disk when they are asked for.

    Args:
        path: the directory of the store.
        partial: of a run that has not finished, show the complete rectangle (chains x leading draws) that
            holds most draws, with a root attribute `partial` that says which. Draws that were never made are
            never shown.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: it is no posterior store, or the run has not finished and `partial` is not set.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no posterior at {path}")
    layout = PosteriorLayout(**read_record(path)["layout"])
    flags = read_flags(open_store(path), layout)
    chains, draws = complete_part(flags, layout, partial, str(path))
    try:
        with quiet_about_litter():
            tree = xr.open_datatree(path, engine="zarr", consolidated=False)
    except ValueError as error:
        raise ValueError(
            f"{path} was being extended to {layout.chains} chains of {layout.draws} draws when its run was "
            "stopped; run it again with resume=True, then open it"
        ) from error
    part = {"chain": chains, "draw": slice(draws)}
    nodes = {}
    for name in (*SAMPLED, *FIXED):
        if name in tree.children:
            data = tree[name].to_dataset()
            for array in data.data_vars.values():
                array.encoding["source"] = str(path)  # what `streaming` knows a stored array by
            nodes[name] = (
                data if flags.all() else data.isel({dim: part[dim] for dim in part if dim in data.dims})
            )
    root = xr.Dataset(attrs=tree.attrs | partial_attributes(layout, chains, draws))
    return xr.DataTree.from_dict({"/": root, **nodes})

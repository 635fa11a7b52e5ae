"""The measurements of a posterior in one row, with what was recorded of each at every draw.

Sites, plates and axes are joined: (chain, draw, *axes) of every observed site becomes (n, M).  Measurements that the
model leaves out (NaN in `observed_data`) are left out here, and draws that are not finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

__all__ = ["Measurements", "different_data", "measurements_of"]


@dataclass(frozen=True)
class Measurements:
    """Arrays over measurements, in the order of the sites.

    Attributes:
        y: what was measured, (M,).
        site: name of the site of each, (M,).
        sampled: per group that was asked for, one number per draw and measurement, (n, M), in float64.
        chains: number of chains, where all draws are finite; else 1.
        left_out: draws that are not finite.
        seen: which of a site's measurements are there.
        shapes: axes of every site, with their coordinates, as a dataset of NaN.
    """

    y: np.ndarray
    site: np.ndarray
    sampled: dict[str, np.ndarray]
    chains: int
    left_out: int
    seen: dict[str, np.ndarray]
    shapes: xr.Dataset

    def by_site(self, values: np.ndarray) -> xr.Dataset:
        """One number per measurement, (M,), shaped as `observed_data`; NaN for missing measurements."""
        result, start = self.shapes.copy(deep=True), 0
        for name, seen in self.seen.items():
            stop = start + int(seen.sum())
            result[name].values[seen] = values[start:stop]
            start = stop
        return result


def measurements_of(
    where: str, posterior: xr.DataTree, groups: Mapping[str, str], sites: str | Sequence[str] | None = None
) -> Measurements:
    """The measurements and what the groups say of them.

    Args:
        where: who asks, for messages.
        posterior: a tree with `observed_data`.
        groups: names of groups with one number per draw and measurement, each with what records it.
        sites: which observed sites, by default all.

    Raises:
        ValueError: a group or a site is missing, its axes are not those of `observed_data`, or no draw is finite.
    """
    wanted = {"observed_data": "bir.sample records it"} | dict(groups)
    for group, how in wanted.items():
        if group not in posterior.children:
            raise ValueError(
                f"{where}: the tree has no group {group!r}, only {sorted(posterior.children)}; {how}"
            )
    observed = posterior["observed_data"].dataset
    every = [str(name) for name in observed.data_vars]
    names = every if sites is None else [sites] if isinstance(sites, str) else list(sites)
    unknown = [name for name in names if name not in every]
    if unknown or not names:
        raise ValueError(f"{where}: asked for the sites {names}; observed are {every}")
    seen = {name: ~np.isnan(observed[name].values) for name in names}
    rows = {group: _rows(where, posterior, group, observed, seen) for group in groups}
    finite = np.logical_and.reduce([~np.isnan(row).any(axis=-1) for row in rows.values()])
    if not finite.any():
        raise ValueError(f"{where}: none of the {finite.size} draws is finite: the sampler diverged")
    shapes = xr.Dataset({name: xr.full_like(observed[name], np.nan, dtype=np.float64) for name in names})
    return Measurements(
        y=np.concatenate([observed[name].values[seen[name]] for name in names]).astype(np.float64),
        site=np.concatenate([np.full(int(seen[name].sum()), name) for name in names]),
        sampled={group: row[finite] for group, row in rows.items()},
        chains=len(finite) if finite.all() else 1,
        left_out=int((~finite).sum()),
        seen=seen,
        shapes=shapes,
    )


def _rows(
    where: str, posterior: xr.DataTree, group: str, observed: xr.Dataset, seen: Mapping[str, np.ndarray]
) -> np.ndarray:
    """(chain, draw, M)"""
    data, parts = posterior[group].dataset, []
    for name, kept in seen.items():
        if name not in data:
            raise ValueError(
                f"{where}: {group} has no site {name!r}, only {sorted(map(str, data.data_vars))}"
            )
        dims = observed[name].dims
        if set(data[name].dims) != {"chain", "draw", *dims}:
            raise ValueError(
                f"{where}: {group}/{name} has the axes {data[name].dims}; expected chain, draw and those of "
                f"observed_data/{name}, {dims}"
            )
        for dim in dims:
            if not np.array_equal(data[name][dim].values, observed[name][dim].values):
                raise ValueError(
                    f"{where}: the coordinates of {group}/{name} along {dim!r} are not those of "
                    f"observed_data/{name}; give both of the same measurements"
                )
        parts.append(data[name].transpose("chain", "draw", *dims).values[..., kept].astype(np.float64))
    return np.concatenate(parts, axis=-1)


def different_data(trees: Mapping[str, xr.DataTree], sites: str | Sequence[str] | None = None) -> str:
    """In words, how the `observed_data` of these trees differ; nothing if they do not."""
    first, *others = trees
    one = trees[first]["observed_data"].dataset
    for other in others:
        two = trees[other]["observed_data"].dataset
        chosen = [sites] if isinstance(sites, str) else sites
        names = [set(map(str, data.data_vars)) if chosen is None else set(chosen) for data in (one, two)]
        if names[0] != names[1]:
            return f"{first!r} observed {sorted(names[0])}, {other!r} {sorted(names[1])}"
        for name in sorted(names[0]):
            a, b = one[name].values, two[name].values
            if a.shape != b.shape:
                return f"{name!r} has shape {a.shape} in {first!r} and {b.shape} in {other!r}"
            unequal = ~np.isclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
            if unequal.any():
                return f"{int(unequal.sum())} of {a.size} measurements {name!r} differ in {first!r} and {other!r}"
    return ""

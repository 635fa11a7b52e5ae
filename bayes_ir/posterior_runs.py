"""A model run again at the draws of its posterior, block by block: for predictions, and for residuals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyro
import torch
from pyro import poutine
from torch import Tensor

from bayes_ir.inference import ModelError
from bayes_ir.inference.measured_sites import unwrapped
from bayes_ir.inference.rng import Rng
from bayes_ir.models.channels import Channel
from bayes_ir.open_model import OpenModel, opened

if TYPE_CHECKING:
    import xarray

__all__ = ["BLOCK", "DrawBlock", "PosteriorRun", "posterior_run"]

BLOCK = 64


@dataclass(frozen=True, eq=False)
class DrawBlock:
    """Some draws of one chain.

    Attributes:
        chain: number of the chain.
        index: number of the block in it.
        values: of every latent site, (n, ...); where a draw is not finite, those of one run of the model.
        finite: which draws are, (n,).
    """

    chain: int
    index: int
    values: dict[str, Tensor]
    finite: np.ndarray

    def rng(self, seed: int) -> Rng:
        """The generator of the block."""
        return Rng(seed, self.chain, self.index, draws=1)


@dataclass(frozen=True, eq=False)
class PosteriorRun:
    """A model and draws that fit it.

    Attributes:
        model: the model, its measurements open.
        latents: draws of its latent sites.
        observed: the measurements.
    """

    model: OpenModel
    latents: xarray.Dataset
    observed: xarray.Dataset

    def blocks(self) -> Iterator[DrawBlock]:
        """The draws in order, 64 at a time; only these are read from the disk."""
        for chain in self.latents["chain"].values:
            for index, start in enumerate(range(0, self.latents.sizes["draw"], BLOCK)):
                part = self.latents.sel(chain=chain).isel(draw=slice(start, start + BLOCK))
                arrays = {str(name): np.array(part[name].values) for name in part.data_vars}
                finite = np.logical_and.reduce(
                    [np.isfinite(a.reshape(len(a), -1)).all(axis=1) for a in arrays.values()]
                )
                values = {}
                for name, array in arrays.items():
                    stand_in = self.model.values[name].detach()
                    values[name] = torch.as_tensor(array).to(stand_in)
                    values[name][torch.as_tensor(~finite, device=stand_in.device)] = stand_in
                yield DrawBlock(int(chain), index, values, finite)

    def channels(
        self, block: DrawBlock, args: tuple, kwargs: Mapping[str, Any] | None
    ) -> Iterator[tuple[bool, dict[str, Channel]]]:
        """Draw by draw, whether it is finite, and what the model makes of it: the channel of every observed site."""
        at = self.model.run()
        for i, finite in enumerate(block.finite):
            held = pyro.condition(at, data={name: value[i] for name, value in block.values.items()})
            with torch.no_grad(), torch.random.fork_rng():
                trace = poutine.trace(held).get_trace(*args, **(kwargs or {}))
            names = map(str, self.observed.data_vars)
            yield bool(finite), {name: unwrapped(trace.nodes[name]["fn"]) for name in names}

    def group(self, parts: Mapping[str, Sequence[np.ndarray]], seed: int, not_finite: str) -> xarray.Dataset:
        """Arrays of the blocks, shaped as the measurements, as one group of a tree; warns of draws that are not finite.

        Args:
            parts: per observed site, NaN for draws that are not finite.
            seed: an attribute of the group.
            not_finite: what became of such draws, for the warning.
        """
        import xarray as xr

        from bayes_ir.analysis import NonFiniteDrawsWarning

        shape = self.latents.sizes["chain"], self.latents.sizes["draw"]
        whole = {name: np.concatenate(rows) for name, rows in parts.items()}
        first = next(iter(whole.values()))
        left_out = int(np.isnan(first.reshape(len(first), -1)).all(axis=1).sum())
        if left_out:
            warnings.warn(
                f"{left_out} of {len(first)} draws are not finite; {not_finite}",
                NonFiniteDrawsWarning,
                stacklevel=3,
            )
        return xr.Dataset(
            {
                name: (("chain", "draw", *self.observed[name].dims), a.reshape(*shape, *a.shape[1:]))
                for name, a in whole.items()
            },
            coords={**{dim: self.latents[dim] for dim in ("chain", "draw")}, **self.observed.coords},
            attrs={"seed": seed},
        )


def posterior_run(
    verb: str,
    model: Callable,
    posterior: xarray.DataTree,
    data: Mapping[str, Any] | None,
    args: tuple,
    kwargs: Mapping[str, Any] | None,
) -> PosteriorRun:
    """Check that a model fits the draws of a posterior.

    Raises:
        ModelError: when the model has not the sites, or not the shapes, of the posterior.
        ValueError: for a tree without the groups `posterior` and `observed_data`, or data other than it was drawn from.
    """
    for group in ("posterior", "observed_data"):
        if group not in posterior.children:
            raise ValueError(
                f"{verb}: the tree has no group {group!r}, only {sorted(posterior.children)}; give one of bir.sample "
                "or open_posterior"
            )
    observed, draws = posterior["observed_data"].dataset, posterior["posterior"].dataset
    found = opened(model, _fixed(verb, data, observed), args, kwargs)
    found.require_measurements(verb, {str(name): observed[name].shape for name in observed.data_vars})
    for name in found.latents:
        if name not in draws or draws[name].shape[2:] != found.shapes[name]:
            known = {str(k): tuple(v.shape[2:]) for k, v in draws.data_vars.items()}
            raise ModelError(
                f"{verb}: the model's site {name!r} has shape {tuple(found.shapes[name])}, and the posterior has "
                f"{known}; give the model it was drawn from, and in `data` the values that sites beside the "
                "measurements were given."
            )
    latents = draws[list(found.latents)].transpose("chain", "draw", ...)
    return PosteriorRun(found, latents, observed)


def _fixed(verb: str, data: Mapping[str, Any] | None, observed: xarray.Dataset) -> dict[str, Any]:
    """The data of sites that are no measurements; those of measurements must be the posterior's."""
    from bayes_ir.analysis.posterior import as_array

    fixed = dict(data or {})
    for name in map(str, observed.data_vars):
        if name not in fixed:
            continue
        given, known = as_array(fixed.pop(name)), observed[name].values
        if given.shape != known.shape or not (np.isclose(given, known, rtol=1e-5) | np.isnan(known)).all():
            raise ValueError(
                f"{verb}: data[{name!r}] is not what the posterior has as observed_data/{name}; leave it out, or "
                "sample the posterior of these data"
            )
    return fixed

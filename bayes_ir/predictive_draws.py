r"""What could have been measured: draws of the measurements from the posterior, or from the prior.

    posterior predictive    y_rep ~ p(y | x_i, theta_i),    (x_i, theta_i) the draws of the posterior
    prior predictive        x_i, theta_i ~ p(x, theta),     y_i ~ p(y | x_i, theta_i)

``pyro.infer.Predictive`` runs the model at the draws, so that all that the model says of a site is kept: several
sensors, plates, an unknown noise level, measurements left out by ``poutine.mask`` (which are predicted too).  Draws go
through it in blocks of 64 with a seed each: its traces need the memory of one block, and the result is a function of
the seed, not of how many draws were asked for.  ``poutine.scale`` changes how much a measurement counts, not how it is
made: predictions are of the channel as the model writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pyro.infer import Predictive
from torch import Tensor

from bayes_ir.arguments import natural
from bayes_ir.inference.rng import Rng
from bayes_ir.open_model import OpenModel, as_measured, opened
from bayes_ir.posterior_runs import BLOCK, posterior_run
from bayes_ir.provenance import versions

if TYPE_CHECKING:
    import xarray

__all__ = ["posterior_predictive", "prior_predictive"]


def posterior_predictive(
    model: Callable,
    posterior: xarray.DataTree,
    data: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> xarray.DataTree:
    """Add the group ``posterior_predictive``: one set of measurements for every draw.

    Args:
        model: the Pyro model that the posterior was drawn from, conditioned or not.
        posterior: what :func:`bayes_ir.sample` or ``open_posterior`` gave.  For every tenth draw give
            ``posterior.isel(draw=slice(None, None, 10))``: the group holds as many numbers as ``log_likelihood``.
        data: as given to :func:`bayes_ir.sample`; needed for sites beside the measurements that were given values.
        seed: seed of the draws; the global random state is left as it was.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Returns:
        The tree with ``posterior_predictive/<site>`` for every observed site, axes (chain, draw, *those of
        ``observed_data``); NaN for draws that are not finite.

    Raises:
        ModelError: when the model has not the sites, or not the shapes, of the posterior.
        ValueError: for a tree without the groups `posterior` and `observed_data`, or data other than it was drawn from.

    Warns:
        NonFiniteDrawsWarning: where draws are not finite.
    """
    import xarray as xr

    seed = natural("posterior_predictive", "seed", seed, 0)
    run = posterior_run("posterior_predictive", model, posterior, data, model_args, model_kwargs)
    made: dict[str, list[np.ndarray]] = {str(name): [] for name in run.observed.data_vars}
    for block in run.blocks():
        found = _made(run.model, block.values, block.rng(seed), model_args, model_kwargs)
        for name, parts in made.items():
            like = run.observed[name]
            y = found[name].cpu().numpy().reshape(-1, *like.shape).astype(like.dtype)
            y[~block.finite] = np.nan
            parts.append(y)
    tree = posterior.copy()
    tree["posterior_predictive"] = xr.DataTree(run.group(made, seed, "what they predict is NaN"))
    return tree


def prior_predictive(
    model: Callable,
    data: Mapping[str, Any] | None = None,
    *,
    draws: int = 500,
    seed: int = 0,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> xarray.DataTree:
    """Draw from the model before anything is measured: groups ``prior`` and ``prior_predictive``.

    Args:
        model: Pyro model, conditioned or not.
        data: as for :func:`bayes_ir.sample`.  Measurements go to ``observed_data`` and change nothing else; other sites
            are held at their values.
        draws: their number; they are independent and make one chain.
        seed: seed of the draws; the global random state is left as it was.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Returns:
        DataTree with ``prior`` (image, nuisance and deterministic sites) and ``prior_predictive`` (sites with a
        channel), axes named as :func:`bayes_ir.sample` names them.

    Raises:
        ModelError: for a model without one image site or without a site with a channel, or data of unknown sites.
    """
    draws = natural("prior_predictive", "draws", draws, 1)
    seed = natural("prior_predictive", "seed", seed, 0)
    found = opened(model, data, model_args, model_kwargs)
    found.require_measurements("prior_predictive", {})
    rows: dict[str, list[np.ndarray]] = {}
    for index, start in enumerate(range(0, draws, BLOCK)):
        count, rng = min(BLOCK, draws - start), Rng(seed, 0, index, draws=1)
        values: dict[str, Tensor] = {}
        if not found.prior_depends:  # a network is called once for the block, not once for each draw
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(rng.seed())
                values[found.site] = found.prior.sample((count,))
        made = values | _made(found, values, rng, model_args, model_kwargs, count)
        for name, value in made.items():
            rows.setdefault(name, []).append(value.cpu().numpy().reshape(count, *found.shapes[name]))
    return _prior_tree(found, {name: np.concatenate(parts) for name, parts in rows.items()}, seed)


def _made(
    found: OpenModel,
    values: dict[str, Tensor],
    rng: Rng,
    args: tuple,
    kwargs: Mapping[str, Any] | None,
    count: int | None = None,
) -> dict[str, Tensor]:
    """Every site that has no values yet, by Pyro, (count, ...)."""
    held = found.site in values  # then its prior need not be drawn from to find the shapes
    predict = Predictive(found.run(placeholder=held), posterior_samples=values, num_samples=count)
    with torch.random.fork_rng():
        torch.manual_seed(rng.seed())
        return predict(*args, **(kwargs or {}))


def _prior_tree(found: OpenModel, arrays: dict[str, np.ndarray], seed: int) -> xarray.DataTree:
    from bayes_ir.analysis import PosteriorLayout
    from bayes_ir.analysis.posterior import assemble

    plated = 0 if found.plate is None else 1
    shapes = {name: tuple(found.shapes[name])[plated:] for name in found.measurements}
    others = {n: tuple(found.shapes[n]) for n in arrays if n != found.site and n not in found.measurements}
    count = len(arrays[found.site])
    layout = PosteriorLayout(
        found.site, found.prior.event_shape, shapes, count, 1, count, found.plate, others
    )
    dims = {name: layout.plate_dims + layout.measurement_dims(name) for name in shapes}
    dims[found.site] = layout.plate_dims + layout.event_dims
    dims |= {name: tuple(f"{name}_dim_{i}" for i in range(len(shape))) for name, shape in others.items()}
    tree = {
        f"{'prior_predictive' if name in shapes else 'prior'}/{name}": (
            ("chain", "draw", *dims[name]),
            array[None],
        )
        for name, array in arrays.items()
    }
    known = {name: as_measured(value) for name, value in found.measurements.items() if value is not None}
    tree |= {f"observed_data/{name}": (dims[name], value) for name, value in known.items()}
    prior = found.prior
    attrs = {
        "image_site": found.site,
        "prior": repr(prior.expand(())),
        "data_range": list(prior.data_range) if prior.data_range else [],
        "seed": seed,
    }
    return assemble(tree, attrs | versions())

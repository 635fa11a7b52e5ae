r"""Residuals in the space of the measurements, of one law for every channel.

    u_im = F(y_m - | x_i) + V p(y_m | x_i),    z_im = Phi^{-1}(u_im),    V ~ Uniform(0, 1)

with F the distribution function of the channel at A x_i.  For Gaussian noise z = (y - A x) / s, the standardised
residual.  Of counts, signs and codes V spreads each value over its own probability (Dunn and Smyth 1996).

Their law: at the truth x*, z_1, ..., z_M are independent N(0, 1), whatever x* is.  A draw x_i of the exact posterior
has with y the same joint law as x*, so that over data sets its z are independent N(0, 1) too, and their sum of squares
is chi^2_M (Johnson 2007; Yuan and Johnson 2012).  *Given* y that is not so: the draws of one posterior fit the same y,
and their sums of squares lie together.  :func:`bayes_ir.analysis.residual_check` tests with that in mind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import ndtri, pdtr, pdtrc

from bayes_ir.arguments import natural
from bayes_ir.inference import ModelError
from bayes_ir.models.channels import Channel, Gaussian, Poisson
from bayes_ir.posterior_runs import posterior_run

if TYPE_CHECKING:
    import xarray

__all__ = ["residuals"]


def residuals(
    model: Callable,
    posterior: xarray.DataTree,
    data: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> xarray.DataTree:
    """Add the group ``residuals``: the quantile residual of every measurement at every draw.

    Args:
        model: the Pyro model that the posterior was drawn from, conditioned or not.
        posterior: what :func:`bayes_ir.sample` or ``open_posterior`` gave.
        data: as given to :func:`bayes_ir.sample`; needed for sites beside the measurements that were given values.
        seed: seed of V, for discrete measurements.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Returns:
        The tree with ``residuals/<site>`` for every observed site, axes (chain, draw, *those of ``observed_data``); NaN
        for measurements that are missing and for draws that are not finite.

    Raises:
        ModelError: when the model does not fit the posterior, or the distribution function of a channel is not known.
        ValueError: for a tree without the groups `posterior` and `observed_data`, or data other than it was drawn from.

    Warns:
        NonFiniteDrawsWarning: where draws are not finite.
    """
    import xarray as xr

    seed = natural("residuals", "seed", seed, 0)
    run = posterior_run("residuals", model, posterior, data, model_args, model_kwargs)
    made: dict[str, list[np.ndarray]] = {str(name): [] for name in run.observed.data_vars}
    for block in run.blocks():
        rng = np.random.default_rng(block.rng(seed).seed())
        for finite, channels in run.channels(block, model_args, model_kwargs):
            for name, parts in made.items():
                y = run.observed[name].values.astype(np.float64)
                z = _residual(name, channels[name], y, rng)
                parts.append((z if finite else np.full_like(z, np.nan))[None])
    tree = posterior.copy()
    tree["residuals"] = xr.DataTree(run.group(made, seed, "they have no residuals"))
    return tree


def _residual(name: str, channel: Channel, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The residual of measurements y at the channel's location, shape of y; NaN where y is."""
    channel = channel.with_location(channel.location.double())
    if isinstance(channel, Gaussian):
        return (y - channel.location.cpu().numpy()) / channel.noise_std.cpu().numpy()
    seen = ~np.isnan(y)
    v = rng.uniform(size=y.shape)
    if isinstance(channel, Poisson):
        rate = channel.mean.cpu().numpy()
        counts = np.where(seen, y, 0.0)
        below, above = np.where(counts > 0, pdtr(counts - 1, rate), 0.0), pdtrc(counts, rate)
        at = np.exp(channel.log_prob(torch.as_tensor(counts)).cpu().numpy())
    elif channel.has_enumerate_support:
        below, at, above = _of_values(channel, np.where(seen, y, 0.0))
    else:
        raise ModelError(
            f"residuals: the distribution function of {type(channel).__name__}, the channel of {name!r}, is not known; "
            "use bir.posterior_predictive and bir.analysis.measurement_pit, which need only draws."
        )
    # The smaller of u and 1 - u is the one without cancellation.
    u, rest = below + v * at, above + (1 - v) * at
    return np.where(seen, np.where(u < 0.5, ndtri(u), -ndtri(rest)), np.nan)


def _of_values(channel: Channel, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probability below, at and above y of a channel with few values."""
    support = channel.enumerate_support(expand=False)
    p = channel.log_prob(support).exp().expand(len(support), *channel.batch_shape).cpu().numpy()
    values = support.cpu().numpy()
    here = np.abs(values - y).argmin(axis=0)  # codes come back rounded
    number = np.arange(len(values)).reshape(values.shape)
    return tuple((p * chosen).sum(axis=0) for chosen in (number < here, number == here, number > here))  # type: ignore[return-value]

r"""Predicting measurements from others by sampling again: K-fold cross-validation.

    elpd = sum_m log p(y_m | y_{-f(m)}),    p(y_m | y_{-f}) ~ (1/n) sum_i p(y_m | x_i, theta_i),

f(m) the fold of measurement m and (x_i, theta_i) n draws of the posterior without that fold.  Each fold is masked (the
effect of ``poutine.mask``) and the rest is sampled anew, K times in all.  Nothing is reweighted, so that no measurement
can be too influential, which is where :func:`bayes_ir.analysis.measurement_loo` fails: few measurements of many pixels.
The elpd is that of (K - 1)/K of the data, a little lower than with one left out.

Source: Vehtari, Gelman and Gabry 2017 (arXiv:1507.04544), section 2.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pyro.distributions import Independent
from pyro.poutine.messenger import Messenger
from scipy.special import logsumexp
from torch import Tensor

from bayes_ir.api import sample
from bayes_ir.arguments import natural
from bayes_ir.inference import BlockedGibbs, Enumerated, Kernel
from bayes_ir.inference.measured_sites import unwrapped
from bayes_ir.open_model import OpenModel, as_measured, opened
from bayes_ir.posterior_runs import posterior_run
from bayes_ir.progress import progress_bar

if TYPE_CHECKING:
    import xarray
    from arviz_stats.utils import ELPDData

__all__ = ["measurement_kfold"]

_STREAM = 11  # keeps these random numbers apart from those of a caller with the same seed


def measurement_kfold(
    model: Callable,
    kernel: Kernel | BlockedGibbs | Enumerated | None = None,
    data: Mapping[str, Any] | None = None,
    *,
    folds: int | Mapping[str, Any] = 10,
    sites: str | Sequence[str] | None = None,
    draws: int = 1000,
    chains: int = 4,
    seed: int = 0,
    block_size: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> ELPDData:
    """K-fold cross-validation over the measurements.

    Args:
        model: Pyro model, as for :func:`bayes_ir.sample`.
        kernel: how to sample without a fold.
        data: values of the observed sites.
        folds: K, for random folds of equal size within every site; or by site the number of every measurement's fold
            (such as the line of k-space it is on), integers in the shape of one image's measurements.
        sites: which observed sites to predict, by default all; those left out are conditioned on.
        draws: draws per chain, for every fold.
        chains: number of chains.
        seed: seed of folds and draws; models that are compared are to have the same.
        block_size: as for :func:`bayes_ir.sample`.
        device: as for :func:`bayes_ir.sample`.
        dtype: as for :func:`bayes_ir.sample`.
        progress: show a progress bar over folds.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Returns:
        ArviZ's `ELPDData` of kind ``loo_kfold``, for :func:`bayes_ir.analysis.compare_models` and ``arviz.compare``;
        ``elpd_i`` over ``measurement``, with the coordinates ``site``, ``y`` and ``fold``.  Its ``p`` is NaN: the
        effective number of parameters takes the fit of all data.  Measurements that the model masks are not predicted;
        ``poutine.scale`` changes the posterior, not the prediction.

    Raises:
        ModelError: for a model that cannot be sampled, or an operator that is not linear, of which no part is kept.
        ValueError: for fewer than two folds, folds of another shape, or a fold without a finite draw.
    """
    where = "measurement_kfold"
    seed = natural(where, "seed", seed, 0)
    found = opened(model, data, model_args, model_kwargs)
    found.require_measurements(where, {})
    fold_of = _folds(found, folds, sites, seed)
    numbers = sorted({int(k) for array in fold_of.values() for k in np.unique(array)})
    if len(numbers) < 2:
        raise ValueError(f"{where}: got the folds {numbers}; expected at least two")
    elpd = {name: np.full(found.shapes[name], np.nan) for name in fold_of}
    seen = {name: np.zeros(found.shapes[name], dtype=bool) for name in fold_of}
    with progress_bar("folds", len(numbers), progress) as on_fold:
        for k in numbers:
            kept = {name: torch.as_tensor(array != k) for name, array in fold_of.items()}
            posterior = sample(
                _HeldOut(kept)(model),
                kernel,
                data,
                draws=draws,
                chains=chains,
                seed=seed,
                block_size=block_size,
                device=device,
                dtype=dtype,
                progress=False,
                model_args=model_args,
                model_kwargs=model_kwargs,
            )
            predicted = _log_predictive(model, posterior, data, found, model_args, model_kwargs)
            for name, array in fold_of.items():
                here = np.broadcast_to(array == k, elpd[name].shape)
                elpd[name][here] = predicted[name][here]
                # A measurement is the model's to leave out where it is missing whichever fold is.
                seen[name] |= ~np.isnan(np.asarray(posterior["observed_data"][name]))
            on_fold()
    return _elpd_data(found, posterior, elpd, seen, fold_of, len(numbers))


class _HeldOut(Messenger):
    """Masks measurements by site, beside what the model itself masks."""

    def __init__(self, kept: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._kept = kept

    def _pyro_sample(self, msg: Any) -> None:
        kept = self._kept.get(msg["name"])
        if kept is None:
            return
        msg["fn"] = _masked(msg["fn"], kept.to(unwrapped(msg["fn"]).location.device))


def _masked(fn: Any, kept: Tensor) -> Any:
    if isinstance(fn, Independent):
        return _masked(fn.base_dist, kept).to_event(fn.reinterpreted_batch_ndims)
    return fn.mask(kept)


def _folds(
    found: OpenModel, folds: int | Mapping[str, Any], sites: str | Sequence[str] | None, seed: int
) -> dict[str, np.ndarray]:
    """The fold of every measurement of one image, by site."""
    where, shapes = "measurement_kfold", {}
    for name in found.measurements:
        shapes[name] = tuple(found.shapes[name][0 if found.plate is None else 1 :])
    chosen = list(folds) if isinstance(folds, Mapping) and sites is None else sites
    names = list(shapes) if chosen is None else [chosen] if isinstance(chosen, str) else list(chosen)
    unknown = [name for name in names if name not in shapes]
    if unknown or not names:
        raise ValueError(f"{where}: asked for the sites {names}; observed are {list(shapes)}")
    if not isinstance(folds, Mapping):
        count, rng = natural(where, "folds", folds, 2), np.random.default_rng((seed, _STREAM))
        few = {name: int(np.prod(shapes[name])) for name in names if np.prod(shapes[name]) < count}
        if few:
            raise ValueError(
                f"{where}: {count} folds of sites with {few} measurements; take fewer folds, or sites="
            )
        return {
            name: rng.permutation(np.arange(np.prod(shapes[name])) % count).reshape(shapes[name])
            for name in names
        }
    given = {name: np.asarray(folds[name]) for name in names if name in folds}
    for name in names:
        if name not in given or given[name].shape != shapes[name] or given[name].dtype.kind not in "iu":
            what = f"{given[name].dtype} of shape {given[name].shape}" if name in given else "none"
            raise ValueError(
                f"{where}: folds of {name!r} are {what}; expected integers of shape {shapes[name]}"
            )
    return given


def _log_predictive(
    model: Callable,
    posterior: xarray.DataTree,
    data: Mapping[str, Any] | None,
    found: OpenModel,
    args: tuple,
    kwargs: Mapping[str, Any] | None,
) -> dict[str, np.ndarray]:
    """Log (1/n) sum_i p(y_m | draw i) of every measurement."""
    run = posterior_run("measurement_kfold", model, posterior, data, args, kwargs)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in found.measurements}
    for block in run.blocks():
        for finite, channels in run.channels(block, args, kwargs):
            for name, channel in channels.items():
                if finite:
                    exact = channel.with_location(channel.location.double())
                    y = torch.as_tensor(found.measurements[name]).to(exact.location)
                    rows[name].append(exact.log_prob(y).cpu().numpy())
    if not next(iter(rows.values())):
        raise ValueError(
            "measurement_kfold: no draw of a fold is finite: the sampler diverged; take more steps"
        )
    return {name: logsumexp(np.stack(row), axis=0) - np.log(len(row)) for name, row in rows.items()}


def _elpd_data(
    found: OpenModel,
    posterior: xarray.DataTree,
    elpd: Mapping[str, np.ndarray],
    seen: Mapping[str, np.ndarray],
    fold_of: Mapping[str, np.ndarray],
    folds: int,
) -> ELPDData:
    import xarray as xr
    from arviz_stats.utils import ELPDData

    def row(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.concatenate(
            [np.broadcast_to(a, seen[name].shape)[seen[name]] for name, a in arrays.items()]
        )

    values = row(elpd)
    coords = {
        "measurement": np.arange(values.size),
        "site": ("measurement", row({name: np.array(name) for name in elpd})),
        "y": ("measurement", row({name: as_measured(found.measurements[name]) for name in elpd})),
        "fold": ("measurement", row(fold_of)),
    }
    attrs = {"channel": posterior.attrs.get("channel")}
    return ELPDData(
        kind="loo_kfold",
        elpd=float(values.sum()),
        se=float(np.sqrt(values.size * values.var())),
        p=np.nan,
        n_samples=posterior["posterior"].sizes["chain"] * posterior["posterior"].sizes["draw"],
        n_data_points=values.size,
        scale="log",
        warning=False,
        good_k=np.nan,
        elpd_i=xr.DataArray(values, coords, ("measurement",), name="elpd_i", attrs=attrs),
        n_folds=folds,
    )

"""The two verbs of the library: simulate a model, sample its posterior."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyro
import torch
from torch import Tensor

from bayes_ir.arguments import image_dtype, natural, usable_device
from bayes_ir.inference import BlockedGibbs, Enumerated, Kernel, Problem, read_joint
from bayes_ir.models import LinearOperator
from bayes_ir.plan import Plan, plan_of
from bayes_ir.progress import progress_bar
from bayes_ir.provenance import versions

if TYPE_CHECKING:
    import xarray

    from bayes_ir.analysis import Sink

__all__ = ["sample", "simulate"]


def simulate(
    model: Callable,
    seed: int = 0,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> dict[str, Tensor]:
    """Run a Pyro model forward and return the value of every sample site.

    Args:
        model: a Pyro model.
        seed: seed of this run; the global random state is left as it was.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Returns:
        Site names to values, for instance ``{"x": image, "y": measurements}``.

    Example:
        >>> import pyro, torch, bayes_ir as bir
        >>> from bayes_ir.models import GaussianPrior, Identity, OneBit
        >>> prior = GaussianPrior(torch.zeros(3), torch.eye(3))
        >>> A = Identity(prior.event_shape)
        >>> def model():
        ...     x = pyro.sample("x", prior)
        ...     pyro.sample("y", OneBit(A(x), noise_std=0.1))
        >>> sorted(bir.simulate(model, seed=1))
        ['x', 'y']
    """
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(natural("simulate", "seed", seed, 0))
        trace = pyro.poutine.trace(model).get_trace(*model_args, **(model_kwargs or {}))
    names = [*trace.stochastic_nodes, *trace.observation_nodes]
    values: dict[str, Any] = {name: trace.nodes[name]["value"] for name in names}
    return {name: value.detach() for name, value in values.items()}


def sample(
    model: Callable,
    kernel: Kernel | BlockedGibbs | Enumerated | None = None,
    data: Mapping[str, Any] | None = None,
    *,
    draws: int = 1000,
    chains: int = 4,
    seed: int = 0,
    block_size: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    store: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> xarray.DataTree:
    """Draw from the posterior of a Pyro model: of its image, and of the other latent sites if it has any.

    With latent sites beside the image (a noise level, a gain, a label) the draws are those of a blocked Gibbs sampler,
    whose settings are :class:`~bayes_ir.inference.BlockedGibbs`; a kernel of the image alone is used inside of it.
    One discrete site can be summed out instead, by :class:`~bayes_ir.inference.Enumerated`.

    Args:
        model: Pyro model ``x ~ prior, y ~ channel(A(x))``, conditioned or not; see
            :func:`~bayes_ir.inference.read_problem` for plates, several observed sites and handlers.
        kernel: how to sample, by default :func:`default_kernel` of the model.
        data: values of the observed sites, as for ``pyro.condition``.
        draws: draws per chain.
        chains: number of chains.
        seed: seed of the run.
        block_size: draws that are made together and written together, by default 64, or what one cloud of a particle
            kernel gives.  The draws are a function of it, as of the seed; of the order of the blocks they are not.
            A model with nuisance parameters takes none: a chain is its block.
        device: torch device, by default that of the prior.
        dtype: floating point type of the images, by default that of the prior.
        store: path of a zarr store that takes every finished block; by default draws stay in memory.
        resume: continue a store left by an interrupted run with the same settings.
        progress: show a progress bar.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Returns:
        DataTree with the groups ``posterior``, ``sample_stats``, ``log_likelihood``,
        ``observed_data`` and ``constant_data``; settings, versions, network evaluations per draw (``nfe``),
        wall time and the draws it made (``sampling_time``, ``sampling_draws``: of the last call that drew) are
        attributes of its root.

    Raises:
        ModelError: when the model cannot be read, or not served by the kernel.
        ValueError: for arguments out of range, or a store made with other settings.
    """
    draws = natural("sample", "draws", draws, 1)
    chains = natural("sample", "chains", chains, 1)
    seed = natural("sample", "seed", seed, 0)
    plan = plan_of(
        read_joint(model, data, model_args, model_kwargs),
        kernel,
        draws=draws,
        chains=chains,
        seed=seed,
        block_size=block_size,
        device=usable_device(device),
        dtype=image_dtype(dtype),
        progress=progress,
    )
    sink = _sink(plan, store, resume)
    started, made = time.perf_counter(), 0
    with progress_bar("sampling", plan.left(sink.done), progress) as on_step:
        for block in plan.blocks(sink.done, on_step):
            sink.write(block)
            made += len(block.draws)
    if not made:  # the store was complete: what it says of the call that drew stays
        return sink.finish({})
    took = {"sampling_time": time.perf_counter() - started, "sampling_draws": made}
    return sink.finish(took | {"device": str(plan.problem.device)} | versions())


def _sink(plan: Plan, store: str | Path | None, resume: bool) -> Sink:
    from bayes_ir.analysis import MemorySink, PosteriorLayout, ZarrSink

    problem, settings = plan.problem, plan.settings
    layout = PosteriorLayout(
        site=problem.site,
        event_shape=tuple(problem.prior.event_shape),
        observed={o.name: tuple(o.shape) for o in problem.observations},
        draws=settings["draws"],
        chains=settings["chains"],
        block_size=settings["block_size"],
        plate=None if problem.plate is None else (problem.plate, problem.data_sets.numel()),
        others=plan.others,
    )
    back = _back_projection(problem)
    dims = layout.plate_dims + layout.event_dims
    constants = {} if back is None else {f"{problem.site}_back_projection": (dims, back.cpu().numpy())}
    observed = {name: y.cpu().numpy() for name, y in problem.by_site(problem.y, missing=float("nan")).items()}
    if store is None:
        return MemorySink(layout, observed, constants, settings)
    return ZarrSink(store, layout, observed, constants, settings, resume=resume)


def _back_projection(problem: Problem) -> Tensor | None:
    """``A^T y``, or for an operator that is not linear its pseudo-inverse of y, if it has one."""
    if isinstance(problem.operator, LinearOperator):
        return problem.operator.adjoint(problem.y)
    try:
        return problem.operator.pinv(problem.y)
    except TypeError:
        return None

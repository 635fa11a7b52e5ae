"""The two verbs of the library: simulate a model, sample its posterior."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyro
import torch
from torch import Tensor

from bayes_ir.inference import (
    DAPS,
    DPS,
    QCSSGM,
    AnnealedLangevin,
    Exact,
    GuidedDiffusion,
    Kernel,
    Problem,
    QCSSGMPlus,
    draw_blocks,
    read_problem,
)
from bayes_ir.inference.run import block_plan
from bayes_ir.models import Gaussian, LinearOperator, NetworkPrior

if TYPE_CHECKING:
    import xarray

    from bayes_ir.analysis import Sink

__all__ = ["default_kernel", "sample", "simulate"]

_BLOCK_SIZE = 64


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
        torch.manual_seed(_natural("simulate", "seed", seed, 0))
        trace = pyro.poutine.trace(model).get_trace(*model_args, **(model_kwargs or {}))
    names = [*trace.stochastic_nodes, *trace.observation_nodes]
    values: dict[str, Any] = {name: trace.nodes[name]["value"] for name in names}
    return {name: value.detach() for name, value in values.items()}


def sample(
    model: Callable,
    kernel: Kernel | None = None,
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
    """Draw from the posterior of the image of a Pyro model.

    Args:
        model: Pyro model ``x ~ prior, y ~ channel(A(x))``, conditioned or not.
        kernel: how to sample, by default :func:`default_kernel` of the model.
        data: values of the observed sites, as for ``pyro.condition``.
        draws: draws per chain.
        chains: number of chains.
        seed: seed of the run.
        block_size: draws that are made together and written together, by default 64.  The
            draws are a function of it, as of the seed; of the order of the blocks they are not.
        device: torch device, by default that of the prior.
        dtype: floating point type of the images, by default that of the prior.
        store: path of a zarr store that takes every finished block; by default draws stay in memory.
        resume: continue a store left by an interrupted run with the same settings.
        progress: show a progress bar.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Returns:
        DataTree with the groups ``posterior``, ``sample_stats``, ``log_likelihood``,
        ``observed_data`` and ``constant_data``; settings, versions, network evaluations per draw
        (``nfe``) and wall time are attributes of its root.

    Raises:
        ModelError: when the model cannot be read, or not served by the kernel.
        ValueError: for arguments out of range, or a store made with other settings.
    """
    draws = _natural("sample", "draws", draws, 1)
    chains = _natural("sample", "chains", chains, 1)
    seed = _natural("sample", "seed", seed, 0)
    block_size = _natural("sample", "block_size", _BLOCK_SIZE if block_size is None else block_size, 1)
    problem = read_problem(model, data, model_args, model_kwargs).to(_device(device), _dtype(dtype))
    kernel = _kernel(kernel, problem, progress)
    kernel.check(problem)
    settings = _settings(problem, kernel) | {
        "seed": seed,
        "draws": draws,
        "chains": chains,
        "block_size": block_size,
    }
    sink = _sink(problem, settings, store, resume)
    left = [(c, i) for c, i, _, _ in block_plan(draws, chains, block_size) if not sink.done(c, i)]
    started = time.perf_counter()
    with _progress_bar(len(left) * kernel.length(problem), progress) as on_step:
        for block in draw_blocks(
            problem,
            kernel,
            draws=draws,
            chains=chains,
            seed=seed,
            block_size=block_size,
            skip=sink.done,
            on_step=on_step,
        ):
            sink.write(block)
    return sink.finish(
        {"sampling_time": time.perf_counter() - started, "device": str(problem.device)} | _versions()
    )


def default_kernel(problem: Problem) -> Kernel:
    """The best-measured kernel that serves a problem.

    ``Exact()`` where independent exact draws can be had, else ``GuidedDiffusion()`` where the prior is calibrated and
    A linear, else annealed Langevin dynamics; ``DPS()`` or ``DAPS()`` where A is not linear.
    """
    langevin = AnnealedLangevin() if isinstance(problem.channel, Gaussian) else QCSSGMPlus()
    linear: list[Kernel] = [Exact(), GuidedDiffusion(), langevin, QCSSGM()]
    candidates = linear if problem.operator.linear else [DPS(), DAPS()]
    for kernel in candidates[:-1]:
        try:
            kernel.check(problem)
        except ValueError:
            continue
        return kernel
    return candidates[-1]


def _kernel(kernel: Any, problem: Problem, progress: bool) -> Kernel:
    if kernel is None:
        kernel = default_kernel(problem)
        if progress:
            from rich import print as say

            say(f"kernel: {kernel!r}, the default for {type(problem.channel).__name__}")
    if isinstance(kernel, type) and issubclass(kernel, Kernel):
        raise TypeError(
            f"sample: kernel is the class {kernel.__name__}; pass an instance, {kernel.__name__}()."
        )
    if not isinstance(kernel, Kernel):
        raise TypeError(
            f"sample: kernel is a {type(kernel).__name__}; expected a kernel such as QCSSGMPlus()."
        )
    return kernel


def _natural(verb: str, name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < least:
        raise ValueError(f"{verb}: {name} is {value!r}; expected a whole number of at least {least}.")
    return int(value)


def _device(device: torch.device | str | None) -> torch.device | None:
    if device is None:
        return None
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"sample: device {str(device)!r} cannot be used here ({str(error).splitlines()[0]}); try 'cpu', or 'cuda' "
            "on a machine with a CUDA build of torch."
        ) from error
    return device


def _dtype(dtype: Any) -> torch.dtype | None:
    if dtype not in (None, torch.float32, torch.float64):
        raise ValueError(f"sample: dtype is {dtype!r}; expected torch.float32 or torch.float64.")
    return dtype


def _sink(problem: Problem, settings: dict[str, Any], store: str | Path | None, resume: bool) -> Sink:
    from bayes_ir.analysis import MemorySink, PosteriorLayout, ZarrSink

    layout = PosteriorLayout(
        site=problem.site,
        event_shape=tuple(problem.prior.event_shape),
        observed_site=problem.observed_site,
        measurement_shape=tuple(problem.operator.measurement_shape),
        draws=settings["draws"],
        chains=settings["chains"],
        block_size=settings["block_size"],
    )
    back = _back_projection(problem)
    constants = (
        {} if back is None else {f"{problem.site}_back_projection": (layout.event_dims, back.cpu().numpy())}
    )
    observed = problem.y.cpu().numpy()
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


def _settings(problem: Problem, kernel: Kernel) -> dict[str, Any]:
    prior = problem.prior
    return {
        "kernel": repr(kernel),
        "citation": kernel.citation,
        "prior": repr(prior),
        "operator": repr(problem.operator),
        "channel": type(problem.channel).__name__,
        "fingerprint": _fingerprint(problem),
        "data_range": list(prior.data_range) if prior.data_range else [],
        "dtype": str(problem.dtype).removeprefix("torch."),
        "nfe": kernel.length(problem),
    }


def _versions() -> dict[str, str]:
    packages = ("bayes-ir", "torch", "pyro-ppl", "arviz-base", "xarray")
    return {f"{name}_version": version(name) for name in packages} | {
        "python_version": platform.python_version()
    }


@torch.no_grad()
def _fingerprint(problem: Problem) -> str:
    """What prior, operator, channel and y make of a fixed image, so that a store knows its own problem."""
    ramp = torch.linspace(
        -1, 1, problem.prior.event_shape.numel(), dtype=problem.dtype, device=problem.device
    )
    ramp = ramp.reshape(problem.prior.event_shape)
    diffusion = problem.prior.diffusion
    denoised = problem.prior.denoise(ramp[None], 0.5 * (diffusion.t_min + diffusion.t_max))
    digest = hashlib.sha256()
    # A mixture's calibration follows from its denoiser; a network's was fitted.
    fitted = problem.prior.calibrations if isinstance(problem.prior, NetworkPrior) else {}
    variances = [fitted[basis].variances for basis in sorted(fitted)]
    for tensor in (denoised, problem.operator(ramp), problem.log_likelihood(ramp), problem.y, *variances):
        digest.update(tensor.double().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _progress_bar(total: int, progress: bool) -> Any:
    if not progress:
        return nullcontext(lambda: None)
    from bayes_ir.progress import progress_bar

    return progress_bar("sampling", total)

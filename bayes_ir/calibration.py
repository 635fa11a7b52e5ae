r"""Simulation-based calibration of a kernel on a Pyro model.

Replication i: x* and y from the model, S draws of p(x | y) by the kernel, then the ranks of x* among them
(`bayes_ir.analysis.sbc`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from bayes_ir.arguments import natural
from bayes_ir.inference import BlockedGibbs, Enumerated, Kernel, Problem
from bayes_ir.joint_replication import JointReplicator, has_nuisances
from bayes_ir.models import GaussianMixturePrior
from bayes_ir.progress import progress_bar
from bayes_ir.provenance import versions
from bayes_ir.replication import Replication, Replicator

if TYPE_CHECKING:
    import xarray

    from bayes_ir.analysis.quantities import Quantity

__all__ = ["simulation_based_calibration"]

_VERB = "simulation_based_calibration"


def simulation_based_calibration(
    model: Callable,
    kernel: Kernel | BlockedGibbs | Enumerated | None = None,
    *,
    replications: int = 500,
    draws: int = 99,
    quantities: Mapping[str, Quantity] | Sequence[str] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    block_size: int | None = None,
    together: int = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    store: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> xarray.DataTree:
    """Is the truth exchangeable with the kernel's draws, when truth and data come from the model?

    Args:
        model: Pyro model ``x ~ prior, y ~ channel(A(x))`` with nothing observed. With further unknowns (a noise level,
            a label) the joint posterior is judged: each of their numbers is ranked too, beside the log likelihood.
        kernel: how to sample, by default :func:`default_kernel` of the model.
        replications: L, simulated data sets; 500 see an sd that is too small by a tenth about two times in three.
        draws: S, draws per replication, which must be independent given y; those of a chain are only when it is
            thinned, ``BlockedGibbs(thinning=...)``, by as many sweeps as its effective sample size asks for.
        quantities: names out of the default ones, or functions q(x, y) of arrays x (n, *event_shape) and y by name,
            to which ``log_likelihood``, ``residual_norm`` and ``data_product`` are added.  By default at most 15:
            random and low-frequency linear functionals, means of patches, energy, these three, and for a mixture
            prior ``log_joint``.
        alpha: family-wise level of the verdict (Holm over the quantities).
        seed: seed of the run.
        block_size: draws that are made together, by default all; 1 for a kernel whose draws of a block share a particle
            cloud.
        together: replications that are drawn in one batch, where the kernel can; the figures are a function of it.
        device: torch device, by default that of the prior.
        dtype: floating point type of the images, by default that of the prior.
        store: directory that takes every finished replication; by default they stay in memory.
        resume: continue a store left by an interrupted run with the same settings; ``replications`` may grow.
        progress: show a progress bar.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Returns:
        DataTree with the groups ``prior_sbc`` (randomised ranks, for
        ``arviz_plots.plot_ecdf_pit(tree, group="prior_sbc")``) and ``sbc_test`` (p-values, Holm's p-values, what
        deviates); the verdict, its power, settings and versions are attributes of its root.

    Raises:
        ModelError: when the model cannot be read, is conditioned already, or is not served by the kernel.
        ValueError: for arguments out of range, unknown quantities, draws that are not finite (naming the replication),
            or a store made with other settings.

    Warns:
        FewReplicationsWarning: fewer than 500 replications; says the power they have.
    """
    from bayes_ir.analysis.quantities import choose_quantities, default_quantities
    from bayes_ir.analysis.replication_store import ReplicationStore
    from bayes_ir.analysis.sbc import calibration_tree, randomised_ranks

    replications = natural(_VERB, "replications", replications, 2)
    arguments = (model_args, dict(model_kwargs or {}))
    run: Replicator | JointReplicator
    own: dict[str, Any]
    if has_nuisances(model, *arguments):
        run = JointReplicator.of(model, kernel, draws, seed, device, dtype, *arguments)
        own = {name: _OfReplication(partial(_of_joint, q)) for name, q in run.quantities.items()}
    else:
        run = Replicator.of(
            model, cast(Any, kernel), draws, seed, block_size, together, device, dtype, progress, *arguments
        )
        own = _data_quantities(run.problem)
    known = default_quantities(run.problem.prior.event_shape) | own
    chosen = choose_quantities(_VERB, quantities, known)
    if isinstance(quantities, Mapping):
        chosen |= {name: q for name, q in own.items() if name != "log_joint"}
    first = _values(chosen, run.truth(0))[0]
    settings = run.settings | {"quantities": list(chosen), "first_truth": [float(f"{v:.6g}") for v in first]}
    kept = ReplicationStore(store, settings, resume)
    left = {i for i in range(replications) if not kept.done(i)}
    groups = sorted({i // run.together for i in left})
    started = time.perf_counter()
    with progress_bar("replications", len(groups) * run.steps, progress) as on_step:
        for group in groups:
            for i, made in enumerate(run(group, on_step), start=group * run.together):
                if i in left:
                    kept.write(i, _ranks(chosen, made, np.random.SeedSequence((run.seed, i, 1))))
    rows = [kept.read(i) for i in range(replications)]
    less, equal, v = (np.stack([row[name] for row in rows]) for name in ("less", "equal", "v"))
    spent = {"sampling_time": time.perf_counter() - started, "device": str(run.problem.device)}
    del settings["first_truth"], settings["draws"]
    return calibration_tree(
        list(chosen),
        randomised_ranks(less, equal, v, run.draws),
        run.draws,
        alpha,
        settings | versions() | spent,
    )


def _data_quantities(problem: Problem) -> dict[str, Any]:
    """Quantities that depend on the data; see :func:`_values`."""
    of: dict[str, Callable[[Tensor, Problem], Tensor]] = {
        "log_likelihood": lambda x, p: p.log_likelihood(x).flatten(1).double().sum(1),
        "residual_norm": lambda x, p: (p.y - p.operator(x)).flatten(1).double().norm(dim=1),
        "data_product": lambda x, p: (p.y * p.operator(x)).flatten(1).double().sum(1),
    }
    prior = problem.prior
    if isinstance(prior, GaussianMixturePrior) and bool((prior.components.variances > 0).all()):
        of["log_joint"] = lambda x, p: of["log_likelihood"](x, p) + p.prior.log_prob(x).double()
    return {name: _OfReplication(partial(_of_problem, function)) for name, function in of.items()}


def _of_problem(function: Callable[[Tensor, Problem], Tensor], x: Tensor, made: Replication) -> Tensor:
    return function(x, made.problem)


def _of_joint(function: Callable[[Any], Tensor], x: Tensor, made: Any) -> Tensor:
    return function(made)


@dataclass(frozen=True)
class _OfReplication:
    """A quantity of truth and draws as tensors (1 + S, *event_shape) and their replication."""

    function: Callable[[Tensor, Any], Tensor]

    def __call__(self, x: Tensor, made: Replication) -> np.ndarray:
        return self.function(x, made).cpu().numpy()


@torch.no_grad()
def _values(quantities: Mapping[str, Any], made: Replication) -> np.ndarray:
    """Every quantity of the truth (row 0) and the draws, (1 + S, K)."""
    from bayes_ir.analysis.quantities import evaluate_quantities

    x = torch.cat([made.x, made.draws])
    bound = {
        name: (lambda _, __, q=q: q(x, made)) if isinstance(q, _OfReplication) else q
        for name, q in quantities.items()
    }
    return evaluate_quantities(_VERB, bound, x.double().cpu().numpy(), made.problem.y.double().cpu().numpy())


def _ranks(
    quantities: Mapping[str, Any], made: Replication, seed: np.random.SeedSequence
) -> dict[str, np.ndarray]:
    from bayes_ir.analysis.sbc import count_below

    values = _values(quantities, made)
    less, equal = count_below(values[0], values[1:])
    v = np.random.default_rng(seed).uniform(size=less.shape)
    return {"less": less, "equal": equal, "v": v, "truth": values[0]}

"""Replications of a Pyro model and a kernel: a truth, its data, draws of the posterior.

Several replications may be drawn together, as a plate of images, so that the network is called once for all of them.
Everything about replication i is a function of (seed, together, i): groups may be made in any order, again, or not.

    replicate = Replicator.of(model, Exact(), draws=99, together=10)
    replications_70_to_79 = replicate(7)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from bayes_ir.api import simulate
from bayes_ir.arguments import image_dtype, natural, usable_device
from bayes_ir.inference import Kernel, ModelError, Problem, draw_blocks, read_problem
from bayes_ir.kernel_choice import chosen_kernel
from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.provenance import settings_of

__all__ = ["Replication", "Replicator", "replication_seed"]

_VERB = "simulation_based_calibration"


@dataclass(frozen=True)
class Replication:
    """One simulated data set and what a kernel made of it.

    Attributes:
        problem: prior, operator, channel and the simulated y.
        x: the truth that made y, (1, *event_shape).
        draws: draws of p(x | y), (S, *event_shape); none for a truth alone.
    """

    problem: Problem
    x: Tensor
    draws: Tensor


@dataclass(frozen=True)
class Replicator:
    """Makes the i-th replication: a function of (seed, i) and the settings."""

    model: Callable
    kernel: Kernel
    problem: Problem
    site: str
    draws: int
    seed: int
    block_size: int
    together: int
    model_args: tuple
    model_kwargs: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        model: Callable,
        kernel: Kernel | None = None,
        draws: int = 99,
        seed: int = 0,
        block_size: int | None = None,
        together: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        progress: bool = False,
        model_args: tuple = (),
        model_kwargs: Mapping[str, Any] | None = None,
    ) -> Replicator:
        """Checked settings; see :func:`simulation_based_calibration`."""
        draws = natural(_VERB, "draws", draws, 2)
        seed = natural(_VERB, "seed", seed, 0)
        size = draws if block_size is None else natural(_VERB, "block_size", block_size, 1)
        together = natural(_VERB, "together", together, 1)
        kwargs = dict(model_kwargs or {})
        site = _image_site(model, model_args, kwargs)
        values = simulate(model, replication_seed(seed, 0), model_args, kwargs)
        data = {name: value for name, value in values.items() if name != site}
        problem = read_problem(model, data, model_args, kwargs).to(usable_device(device), image_dtype(dtype))
        kernel = chosen_kernel(kernel, problem, progress)
        kernel.check(problem)
        return cls(model, kernel, problem, site, draws, seed, size, together, model_args, kwargs)

    @property
    def steps(self) -> int:
        """Steps of the kernel in one group."""
        return self.kernel.length(self.problem) * -(-self.draws // self.block_size)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the replications depend on."""
        own = ("seed", "draws", "block_size", "together")
        return settings_of(self.problem, self.kernel) | {name: getattr(self, name) for name in own}

    def truth(self, index: int) -> Replication:
        """Truth and data of replication `index`, without draws."""
        values = simulate(self.model, replication_seed(self.seed, index), self.model_args, self.model_kwargs)
        x = values[self.site].to(self.problem.device, self.problem.dtype)
        y = self.problem.measured(values)
        return Replication(self.problem.with_data(y), x[None], x[None][:0])

    def __call__(self, group: int, on_step: Callable[[], None] = lambda: None) -> list[Replication]:
        """The replications ``group * together, ..., (group + 1) * together - 1``.

        Raises:
            ValueError: draws are not finite.
        """
        first = group * self.together
        made = [self.truth(first + i) for i in range(self.together)]
        problem = made[0].problem
        if self.together > 1:
            problem = replace(
                problem.with_data(torch.stack([m.problem.y for m in made])), plate="replications"
            )
        blocks = draw_blocks(
            problem,
            self.kernel,
            draws=self.draws,
            chains=1,
            seed=replication_seed(self.seed, first),
            block_size=self.block_size,
            on_step=on_step,
        )
        draws = torch.cat([block.draws for block in blocks]).to(made[0].x.device)
        draws = draws.reshape(self.draws, self.together, *problem.prior.event_shape)
        diverging = (~draws.flatten(2).isfinite().all(dim=2)).sum(0)
        for i, count in enumerate(diverging.tolist()):
            if count:
                raise ValueError(
                    f"{_VERB}: {count} of {len(draws)} draws of replication {first + i} are not finite; "
                    f"{self.kernel!r} diverged there, so it is not calibrated; take more steps or smaller ones."
                )
        return [replace(m, draws=draws[:, i]) for i, m in enumerate(made)]


def replication_seed(seed: int, index: int) -> int:
    """Seed of a replication, a function of the run's and the number."""
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0]) >> 1


def _image_site(model: Callable, args: tuple, kwargs: dict[str, Any]) -> str:
    with torch.no_grad(), torch.random.fork_rng():
        trace = pyro.poutine.trace(model).get_trace(*args, **kwargs)
    observed = [
        name for name in trace.observation_nodes if type(trace.nodes[name]["fn"]).__name__ != "_Subsample"
    ]
    if observed:
        raise ModelError(
            f"{_VERB}: the model observes {observed}, but calibration simulates its data; give the model as it is "
            "before pyro.condition and without obs=."
        )
    images = [name for name in trace.stochastic_nodes if isinstance(trace.nodes[name]["fn"], DiffusionPrior)]
    if len(images) != 1 or len(trace.stochastic_nodes) < 2:
        raise ModelError(
            f"{_VERB}: the model has the sites {list(trace.stochastic_nodes)}, of which {images or 'none'} have a "
            'diffusion prior; expected x = pyro.sample("x", prior) and pyro.sample("y", channel(A(x))).'
        )
    return images[0]

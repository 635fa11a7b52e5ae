"""Replications of a Pyro model with unknowns beside the image: a truth of all of them, its data, joint draws.

The counterpart of `bayes_ir.replication` for blocked Gibbs sampling and enumeration: replication i is one chain of
its own, and what is ranked are functions of the image, numbers of the further unknowns, and the log likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch
from torch import Tensor

from bayes_ir.api import simulate
from bayes_ir.arguments import image_dtype, natural, usable_device
from bayes_ir.inference import JointModel, Problem, read_joint
from bayes_ir.inference.measured_sites import unwrapped
from bayes_ir.models import Channel
from bayes_ir.plan import Plan, plan_of
from bayes_ir.replication import Replication, replication_seed

__all__ = ["JointReplication", "JointReplicator", "has_nuisances"]

_VERB = "simulation_based_calibration"
_ENTRIES = 4  # of a further unknown that is an array


@dataclass(frozen=True)
class JointReplication(Replication):
    """A replication with further unknowns.

    Attributes:
        theta: the further unknowns by name, the truth in row 0 and the draws below, (1 + S, *shape).
        log_likelihood: ``log p(y | x, theta)`` of the same rows, (1 + S,).
    """

    theta: dict[str, Tensor]
    log_likelihood: Tensor


@dataclass(frozen=True)
class JointReplicator:
    """Makes the i-th replication: a function of (seed, i) and the settings."""

    model: Callable
    kernel: Any
    problem: Problem
    site: str
    draws: int
    seed: int
    device: torch.device | None
    dtype: torch.dtype | None
    arguments: tuple[tuple, Mapping[str, Any]]
    first: Plan

    together = 1

    @classmethod
    def of(
        cls,
        model: Callable,
        kernel: Any,
        draws: int,
        seed: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        model_args: tuple = (),
        model_kwargs: Mapping[str, Any] | None = None,
    ) -> JointReplicator:
        """Checked settings; see :func:`simulation_based_calibration`."""
        draws, seed = natural(_VERB, "draws", draws, 2), natural(_VERB, "seed", seed, 0)
        arguments = (model_args, dict(model_kwargs or {}))
        moved = usable_device(device), image_dtype(dtype)
        joint, _ = _measured(model, simulate(model, replication_seed(seed, 0), *arguments), arguments)
        plan = _plan(joint, kernel, draws, seed, *moved)
        return cls(model, kernel, plan.problem, joint.site, draws, seed, *moved, arguments, plan)

    @property
    def steps(self) -> int:
        """Steps of one replication."""
        return self.first.left(lambda chain, index: False)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the replications depend on."""
        return {k: v for k, v in self.first.settings.items() if k != "chains"} | {"seed": self.seed}

    @property
    def quantities(self) -> dict[str, Callable[[JointReplication], Tensor]]:
        """What can be ranked beside functions of the image: numbers of theta, and the log likelihood."""
        of_theta: dict[str, Callable[[JointReplication], Tensor]] = {}
        for name, value in self.truth(0).theta.items():
            entries = value[0].numel()
            for i in range(min(entries, _ENTRIES)):
                of_theta[name if entries == 1 else f"{name}_{i}"] = partial(_entry, name=name, index=i)
        return of_theta | {"log_likelihood": lambda made: made.log_likelihood}

    def truth(self, index: int) -> JointReplication:
        """Truth and data of replication `index`, without draws."""
        return self._made(index)[0]

    def __call__(self, group: int, on_step: Callable[[], None] = lambda: None) -> list[JointReplication]:
        """Replication ``group``, in a list of its own.

        Raises:
            ValueError: draws are not finite.
        """
        made, joint = self._made(group)
        plan = _plan(
            joint, self.kernel, self.draws, replication_seed(self.seed, group), self.device, self.dtype
        )
        blocks = list(plan.blocks(lambda chain, index: False, on_step))
        x = torch.cat([block.draws for block in blocks]).to(made.x)
        wrong = int((~x.flatten(1).isfinite().all(dim=1)).sum())
        if wrong:
            raise ValueError(
                f"{_VERB}: {wrong} of {len(x)} draws of replication {group} are not finite; {self.kernel!r} diverged "
                "there, so it is not calibrated; take more steps or smaller ones."
            )
        theta = {
            name: torch.cat([value, *(block.others[name].to(value) for block in blocks)])
            for name, value in made.theta.items()
        }
        seen = [
            sum(each.flatten(1).double().sum(1) for each in block.log_likelihood.values()) for block in blocks
        ]
        log_likelihood = torch.cat([made.log_likelihood, *(torch.as_tensor(s) for s in seen)])
        return [JointReplication(made.problem, made.x, x, theta, log_likelihood)]

    def _made(self, index: int) -> tuple[JointReplication, JointModel]:
        values = simulate(self.model, replication_seed(self.seed, index), *self.arguments)
        joint, theta = _measured(self.model, values, self.arguments)
        problem = joint.problem(theta).to(self.device, self.dtype)
        x = values[self.site].to(problem.device, problem.dtype)[None]
        log_likelihood = problem.log_likelihood(x).flatten(1).double().sum(1).cpu()
        rows = {name: value[None] for name, value in theta.items()}
        return JointReplication(problem, x, x[:0], rows, log_likelihood), joint


def has_nuisances(model: Callable, args: tuple, kwargs: Mapping[str, Any]) -> bool:
    """Whether a model that observes nothing has unknowns beside the image."""
    with torch.no_grad(), torch.random.fork_rng():
        trace = pyro.poutine.trace(model).get_trace(*args, **kwargs)
    unknown = [n for n in trace.stochastic_nodes if not isinstance(unwrapped(trace.nodes[n]["fn"]), Channel)]
    return len(unknown) > 1


def _measured(
    model: Callable, values: Mapping[str, Tensor], arguments: tuple[tuple, Mapping[str, Any]]
) -> tuple[JointModel, dict[str, Tensor]]:
    """The model with the simulated measurements, and the simulated theta."""
    args, kwargs = arguments
    with torch.no_grad():
        trace = pyro.poutine.trace(pyro.condition(model, data=dict(values))).get_trace(*args, **kwargs)
    data = {n: v for n, v in values.items() if isinstance(unwrapped(trace.nodes[n]["fn"]), Channel)}
    joint = read_joint(model, data, args, kwargs)
    return joint, {name: values[name] for name in joint.latents}


def _plan(
    joint: JointModel,
    kernel: Any,
    draws: int,
    seed: int,
    device: torch.device | None,
    dtype: torch.dtype | None,
) -> Plan:
    return plan_of(
        joint,
        kernel,
        draws=draws,
        chains=1,
        seed=seed,
        block_size=None,
        device=device,
        dtype=dtype,
        progress=False,
    )


def _entry(made: JointReplication, name: str, index: int) -> Tensor:
    value = made.theta[name]
    return value.reshape(len(value), -1)[:, index].double()

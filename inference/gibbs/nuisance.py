r"""How nuisance parameters move given the image: by their exact law where it is known, or the no-U-turn sampler.

Continuous sites move together by Pyro's NUTS on ``log p(theta | x, y)`` in unconstrained coordinates; step size and
mass matrix are learnt over the warm-up of the whole Gibbs chain, in which the target changes with the image.  A short
warm-up takes several states a sweep, because NUTS needs some 150 of them, which cost no network call.  A site
with finitely many values is drawn from its exact conditional,

    p(theta_k = v | rest) = p(y, x, theta_-k, v) / sum_v' p(y, x, theta_-k, v'),

number by number, and a scale whose prior is conjugate from its own (:mod:`bayes_ir.inference.gibbs.conjugate`).  All
leave ``p(x, theta | y)`` invariant.

Source: Hoffman and Gelman 2014 (NUTS); Geman and Geman 1984 (Gibbs sampling).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from pyro.infer import NUTS
from pyro.infer.autoguide.initialization import init_to_value
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor

from bayes_ir.inference.gibbs.conjugate import ConjugateUpdate, is_conjugate
from bayes_ir.inference.gibbs.joint import JointModel, Theta

__all__ = ["EnumeratedUpdate", "NutsUpdate", "Update", "updates_of"]


class Update(Protocol):
    """A move of some sites given the image and the others."""

    def __call__(self, x: Tensor, theta: Theta) -> tuple[Theta, dict[str, float]]:
        """New values, and numbers to report."""
        ...


_ADAPTATION = 150  # states of NUTS in a warm-up, at least


class NutsUpdate:
    """All continuous sites together, by NUTS.

    Args:
        joint: the model.
        names: the sites.
        warmup: calls over which the kernel adapts.
        transitions: states per call.
        max_tree_depth: doublings of a trajectory at most.
    """

    def __init__(
        self, joint: JointModel, names: list[str], warmup: int, transitions: int, max_tree_depth: int
    ) -> None:
        self._joint, self._names = joint, names
        self._warmup, self._transitions, self._depth = warmup, transitions, max_tree_depth
        self._adapting = max(transitions, math.ceil(_ADAPTATION / warmup)) if warmup else transitions
        self._calls = 0
        self._x: Tensor | None = None
        self._known: Theta = {}
        self._kernel: NUTS | None = None
        self._transforms: dict[str, Any] = {}

    def __call__(self, x: Tensor, theta: Theta) -> tuple[Theta, dict[str, float]]:
        self._x, self._known = x, {name: v for name, v in theta.items() if name not in self._names}
        with torch.enable_grad():
            kernel = self._kernel or self._set_up(theta)
            kernel.clear_cache()  # its energy and gradient are those of the image before
            z = {name: self._transforms[name](theta[name]) for name in self._names}
            diverged = _divergences(kernel)
            for _ in range(self._adapting if self._calls < self._warmup else self._transitions):
                z = kernel.sample(z)
        self._calls += 1
        moved = {name: self._transforms[name].inv(z[name]).detach() for name in self._names}
        diverged = _divergences(kernel) - diverged
        return theta | moved, {"nuts_step_size": float(kernel.step_size), "nuts_diverging": diverged}

    def _conditional(self) -> Any:
        assert self._x is not None
        return self._joint.given(self._x, self._known)()

    def _set_up(self, theta: Theta) -> NUTS:
        start = {name: theta[name] for name in self._names}
        initial, potential, self._transforms, _ = initialize_model(
            self._conditional, init_strategy=init_to_value(values=start)
        )
        kernel = NUTS(
            potential_fn=_guarded(potential),
            transforms=self._transforms,
            full_mass=True,
            max_tree_depth=self._depth,
        )
        kernel.initial_params = initial
        kernel.setup(self._warmup * self._adapting)
        self._kernel = kernel
        return kernel


class EnumeratedUpdate:
    """One site with finitely many values, from its exact conditional, number by number.

    Args:
        joint: the model.
        name: the site.
    """

    def __init__(self, joint: JointModel, name: str) -> None:
        self._joint, self._name = joint, name

    def __call__(self, x: Tensor, theta: Theta) -> tuple[Theta, dict[str, float]]:
        support = self._joint.latents[self._name].enumerate_support(expand=False).flatten()
        value = theta[self._name].clone()
        numbers = value.reshape(-1)
        for i in range(numbers.numel()):
            scores = []
            for candidate in support:
                numbers[i] = candidate
                scores.append(self._joint.log_joint(x, theta | {self._name: value.clone()}))
            chosen = torch.distributions.Categorical(logits=torch.stack(scores).double()).sample()
            numbers[i] = support[chosen]
        return theta | {self._name: value}, {}


def updates_of(
    joint: JointModel,
    x: Tensor,
    theta: Theta,
    warmup: int,
    transitions: int,
    max_tree_depth: int,
    conjugate: bool,
) -> list[Update]:
    """The moves that bring all nuisance parameters of a model forward.

    Args:
        joint: the model.
        x: an image.
        theta: values of the parameters.
        warmup: calls over which NUTS adapts.
        transitions: states of NUTS per call.
        max_tree_depth: doublings of a NUTS trajectory at most.
        conjugate: draw from exact conditionals what is conjugate.
    """
    discrete = [name for name, fn in joint.latents.items() if fn.has_enumerate_support]
    continuous = [name for name in joint.latents if name not in discrete]
    alone = len(continuous) == 1
    known = [name for name in continuous if conjugate and is_conjugate(joint, name, x, theta, alone)]
    moves: list[Update] = [EnumeratedUpdate(joint, name) for name in discrete]
    moves += [ConjugateUpdate(joint, name) for name in known]
    left = [name for name in continuous if name not in known]
    if left:
        moves.append(NutsUpdate(joint, left, warmup, transitions, max_tree_depth))
    return moves


def _divergences(kernel: NUTS) -> int:
    """Divergent trajectories since the end of the warm-up."""
    try:
        return len(kernel.diagnostics()["divergences"])
    except ZeroDivisionError:  # its acceptance rate, before the first state
        return 0


def _guarded(potential: Callable[[Theta], Tensor]) -> Callable[[Theta], Tensor]:
    """The potential, infinite where a channel refuses its arguments (a noise that has overflowed, say)."""

    def guarded(z: Theta) -> Tensor:
        try:
            return potential(z)
        except ValueError:
            return torch.inf + 0 * torch.stack([v.sum() for v in z.values()]).sum()

    return guarded

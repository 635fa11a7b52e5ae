r"""A Pyro model read as p(x, theta | y): the image x, its nuisance parameters theta, and their conditionals.

x | theta, y      a Problem, for a kernel: the model read with theta in its place
theta | x, y      the model conditioned on x and y, for Pyro: log p(y | x, theta) + log p(theta),
                  and log p(x | theta) where the prior of the image depends on theta
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import ImproperUniform
from pyro.poutine.messenger import Messenger
from torch import Tensor

from bayes_ir.inference.measured_sites import unwrapped
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.reading import as_values, read_problem, refuse_unknown, sample_sites
from bayes_ir.models.channels import Channel
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["JointModel", "read_joint", "same_prior"]

Theta = dict[str, Tensor]
_MOST_SENSORS = 16  # whose answers are remembered for the present image


@dataclass(frozen=True, eq=False)
class JointModel:
    """A Pyro model with its data.

    Attributes:
        model: the model.
        data: values of observed sites.
        arguments: positional and keyword arguments of the model.
        site: name of the image site.
        latents: the other latent sites, with their distributions in one run of the model.
        deterministics: names of ``pyro.deterministic`` sites.
        prior_depends: whether the prior of the image depends on the latent sites.
    """

    model: Callable
    data: Theta
    arguments: tuple[tuple, Mapping[str, Any]]
    site: str
    latents: dict[str, Any]
    deterministics: tuple[str, ...]
    prior_depends: bool
    _seen: dict[int, tuple[Any, Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def problem(self, theta: Theta) -> Problem:
        """The problem of the image given theta.

        Raises:
            ModelError: saying at which theta the model cannot be read.
        """
        args, kwargs = self.arguments
        try:
            return read_problem(self.model, self.data | theta, args, kwargs)
        except ModelError as error:
            if not theta:
                raise
            where = ", ".join(f"{name} = {_shown(value)}" for name, value in theta.items())
            raise ModelError(f"at {where}: {error}") from error

    def start(self) -> Theta:
        """Theta from its prior, by Pyro's generator."""
        if not self.latents:
            return {}
        with torch.no_grad(), _MeanImage():
            trace = self._trace(self.data)
        return {name: trace.nodes[name]["value"].detach() for name in self.latents}

    def given(self, x: Tensor, known: Theta) -> Callable[[], Any]:
        """The model of what is left of theta, as Pyro's kernels take it: the image and ``known`` are conditioned on.

        The image site is hidden where its prior does not depend on theta: a constant that may be dear to compute.
        """
        args, kwargs = self.arguments
        conditioned = pyro.condition(self.model, data=self.data | known | {self.site: x})
        hidden = [] if self.prior_depends else [self.site]

        def conditional() -> Any:
            with _Remembered(self._seen), poutine.block(hide=hidden):
                return conditioned(*args, **kwargs)

        return conditional

    def log_joint(self, x: Tensor, theta: Theta) -> Tensor:
        """``log p(y, x, theta)``, up to what does not depend on theta."""
        with torch.no_grad():
            return torch.as_tensor(poutine.trace(self.given(x, theta)).get_trace().log_prob_sum())

    def derived(self, x: Tensor, theta: Theta) -> Theta:
        """The ``pyro.deterministic`` sites at one draw."""
        if not self.deterministics:
            return {}
        with torch.no_grad():
            trace = self._trace(self.data | theta | {self.site: x})
        return {name: torch.as_tensor(trace.nodes[name]["value"]).detach() for name in self.deterministics}

    def _trace(self, values: Theta) -> Any:
        args, kwargs = self.arguments
        return poutine.trace(pyro.condition(self.model, data=values)).get_trace(*args, **kwargs)


class _Remembered(Messenger):
    """Answers an operator that is applied to the same image again with what it answered before."""

    def __init__(self, seen: dict[int, tuple[Any, Tensor, Tensor]]) -> None:
        super().__init__()
        self._seen = seen

    def _pyro_operator(self, msg: Any) -> None:
        operator, x = msg["args"]
        kept = self._seen.get(id(operator))
        if kept is not None and kept[0] is operator and kept[1] is x:
            msg["value"], msg["done"] = kept[2], True

    def _pyro_post_operator(self, msg: Any) -> None:
        operator, x = msg["args"]
        if msg["value"].requires_grad:  # an operator that depends on theta
            return
        if len(self._seen) == _MOST_SENSORS or any(image is not x for _, image, _ in self._seen.values()):
            self._seen.clear()
        self._seen[id(operator)] = (operator, x, msg["value"])


def read_joint(
    model: Callable,
    data: Mapping[str, Any] | None = None,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> JointModel:
    """Find the image, its nuisance parameters and deterministic sites of a Pyro model.

    Arguments as for :func:`~bayes_ir.inference.read_problem`.

    Raises:
        ModelError: for data of unknown sites, nothing observed, a latent site with an improper prior, or a measurement
            without values.

    Warns:
        UserWarning: for a ``pyro.param``, which is taken at its present value.
    """
    values, kwargs = as_values(data), dict(model_kwargs or {})
    one = _prior_run(model, values, model_args, kwargs)
    sites = sample_sites(one)
    refuse_unknown(values, sites)
    latents = {name: site["fn"] for name, site in sites.items() if not site["is_observed"]}
    images = [name for name, fn in latents.items() if isinstance(unwrapped(fn), DiffusionPrior)]
    for name, node in one.nodes.items():
        if node["type"] == "param":
            warnings.warn(
                f"the parameter {name!r} of the model is taken at its present value; sampling does not optimise it. "
                "Give it a prior (pyro.sample) to have its posterior.",
                UserWarning,
                stacklevel=3,
            )
    nuisances = {name: fn for name, fn in latents.items() if name not in images}
    _refuse_unmeasured(nuisances)
    depends = any(
        not same_prior(one.nodes[name]["fn"], again.nodes[name]["fn"])
        for name in images[:1]
        for again in (
            _prior_run(model, values | theta, model_args, kwargs, 1) for theta in _others(nuisances)
        )
    )
    derived = tuple(n for n, node in one.nodes.items() if node.get("infer", {}).get("_deterministic"))
    site = images[0] if len(images) == 1 else ""
    return JointModel(model, values, (model_args, kwargs), site, nuisances, derived, depends)


def _others(nuisances: Mapping[str, Any]) -> Iterator[Theta]:
    """Values of theta that may lead to another prior of the image: new draws, and every value of a discrete site."""
    if nuisances:
        yield {}
    for name, fn in nuisances.items():
        if fn.has_enumerate_support:
            yield from ({name: value} for value in fn.enumerate_support(expand=True))


def _prior_run(model: Callable, values: Theta, args: tuple, kwargs: dict[str, Any], seed: int = 0) -> Any:
    """One run of the model, the image not drawn but put at its prior's mean."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _MeanImage():
        torch.manual_seed(seed)
        return poutine.trace(pyro.condition(model, data=values)).get_trace(*args, **kwargs)


def _refuse_unmeasured(latents: Mapping[str, Any]) -> None:
    """Refuse measurements that have no values: they are not nuisance parameters."""
    for name, fn in latents.items():
        if isinstance(unwrapped(fn), Channel):
            raise ModelError(
                f"the measurement site {name!r} has no values; give them in `data`, or take the site out of the model "
                "and draw it afterwards with pyro.infer.Predictive."
            )


class _MeanImage(Messenger):
    """Puts the prior's mean where an image would be drawn, and refuses what cannot be drawn."""

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if msg["is_observed"] or msg["value"] is not None:
            return
        if isinstance(fn, DiffusionPrior):
            msg["value"] = fn.mean.expand(fn.batch_shape + fn.event_shape).clone()
            msg["done"] = True
        elif isinstance(unwrapped(fn), ImproperUniform):
            raise ModelError(
                f"the site {msg['name']!r} has an improper prior, {type(fn).__name__}, which cannot be drawn from and "
                "may leave the posterior improper; give it a wide proper one, such as dist.Normal(0, 10) or "
                "dist.LogNormal(0, 3)."
            )


def _shown(value: Tensor) -> str:
    return f"{float(value):.4g}" if value.numel() == 1 else f"a tensor of shape {tuple(value.shape)}"


def same_prior(one: DiffusionPrior, two: DiffusionPrior) -> bool:
    """Whether two runs of the model used one prior (of which a plate makes copies)."""
    if one is two:
        return True
    first, second = ({k: v for k, v in vars(p).items() if k != "_batch_shape"} for p in (one, two))
    return first.keys() == second.keys() and all(_equal(first[k], second[k]) for k in first)


def _equal(one: Any, two: Any) -> bool:
    """Whether one thing, or two labels of one value."""
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return one is two or (one.shape == two.shape and one.dtype == two.dtype and bool((one == two).all()))
    return one is two or (isinstance(one, dict) and one == two)

"""The graph of a model as Pyro reads it: which site depends on which, what its law is, what is observed; drawn or told.

`pyro.render_model(model)` runs a model once under provenance tracking and evaluates the log density of every site, to
see which others it depends on; the picture is made from these relations alone.  They are kept here as plain data, so
that a run can write them down and a report can draw them later, on a machine that has graphviz.

A learned prior's density is a probability flow of thousands of network calls.  Nothing of its value is needed to know
what it depends on: it is read with the fewest steps, which takes the digits prior from seven seconds to a fraction.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pyro
import pyro.distributions as dist
from pyro.infer.inspect import generate_graph_specification, get_model_relations, render_graph
from pyro.ops.provenance import get_provenance
from pyro.poutine.messenger import Messenger
from torch import Tensor

from bayes_ir.models import NetworkPrior
from bayes_ir.models.priors.base import DiffusionPrior

if TYPE_CHECKING:
    import graphviz

__all__ = ["draw_model", "model_in_words", "model_relations", "model_svg"]


def model_relations(
    model: Callable,
    data: Mapping[str, Any] | None = None,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What Pyro finds out about a model, as plain lists and texts.

    Args:
        model: a Pyro model.
        data: values of the observed sites, as for ``pyro.condition``.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Returns:
        Pyro's relations (`sample_sample`, `sample_dist`, `plate_sample`, `observed`, ...), and under `described` the
        law of every site with its parameters in words.
    """
    conditioned = pyro.condition(model, dict(data)) if data else model
    with _Reader() as reader:
        relations = get_model_relations(
            conditioned, model_args, dict(model_kwargs or {}), include_deterministic=True
        )
    return relations | {"described": {name: reader.laws[name] for name in relations["sample_dist"]}}


def draw_model(relations: Mapping[str, Any]) -> graphviz.Digraph:
    """The picture that ``pyro.render_model(model, render_distributions=True, render_deterministic=True)`` gives.

    Raises:
        ImportError: without the Python package graphviz.
    """
    return render_graph(generate_graph_specification(dict(relations)), render_distributions=True)


def model_svg(relations: Mapping[str, Any]) -> bytes | None:
    """The picture as SVG; ``None`` where the package graphviz or its program ``dot`` is missing."""
    try:
        from graphviz import ExecutableNotFound

        picture = draw_model(relations)
    except ImportError:
        return None
    try:
        return picture.pipe(format="svg")
    except ExecutableNotFound:
        return None


def model_in_words(relations: Mapping[str, Any]) -> list[str]:
    """One line per site: ``y ~ OneBit(noise_std=0.1) given x, observed, in the plate images``."""
    plates: dict[str, list[str]] = {}
    for plate, sites in relations["plate_sample"].items():
        for site in sites:
            plates.setdefault(site, []).append(plate.split("__CLONE")[0])
    lines = []
    for site, parents in relations["sample_sample"].items():
        computed = relations["sample_dist"][site] == "Deterministic"
        if computed:
            law, kind = f"{site} = a function", "computed"
        else:
            law = f"{site} ~ {relations.get('described', {}).get(site, relations['sample_dist'][site])}"
            kind = "observed" if site in relations["observed"] else "unknown"
        given = f"{' of ' if computed else ' given '}{', '.join(parents)}" if parents else ""
        inside = f", in the plate {', '.join(plates[site])}" if site in plates else ""
        lines.append(f"{law}{given}, {kind}{inside}")
    return lines


class _Reader(Messenger):
    """Notes the laws of the sites, and has learned priors answer with the fewest steps."""

    def __init__(self) -> None:
        super().__init__()
        self.laws: dict[str, str] = {}

    def _pyro_sample(self, msg: Any) -> None:
        self.laws[msg["name"]] = _described(msg["fn"])
        if isinstance(msg["fn"], NetworkPrior):
            msg["fn"] = copy.copy(msg["fn"])
            msg["fn"].sample_steps = msg["fn"].density_steps = msg["fn"].density_probes = 2


def _described(law: Any) -> str:
    """A law with its parameters: numbers as they are, arrays by their shape."""
    while isinstance(law, (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)):
        law = law.base_dist
    if isinstance(law, DiffusionPrior):
        return repr(law)
    parameters = []
    for name in getattr(law, "arg_constraints", {}):
        value = getattr(law, name, None)
        if name == "location" or not isinstance(value, Tensor):
            continue
        if sources := get_provenance(value):  # drawn at another site: this run's value means nothing
            parameters.append(f"{name} from {', '.join(sorted(sources))}")
        else:
            same = value.numel() == 1 or bool((value == value.flatten()[0]).all())
            shown = f"{float(value.flatten()[0]):.4g}" if same else f"array{tuple(value.shape)}"
            parameters.append(f"{name}={shown}")
    return f"{type(law).__name__}({', '.join(parameters)})"

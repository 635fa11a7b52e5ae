"""The command ``bayes-ir list``: problems, priors, operators, channels and kernels, a line each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

__all__ = ["list_everything"]


def list_everything(
    section: Annotated[
        str | None,
        typer.Argument(help="One of problems, priors, operators, channels, kernels; all by default."),
    ] = None,
) -> None:
    """List problems, priors, operators, channels and kernels."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    sections: dict[str, Callable[[], Mapping[str, str]]] = {
        "problems": _problems,
        "priors": _priors,
        "operators": _operators,
        "channels": _channels,
        "kernels": _kernels,
    }
    if section is not None and section not in sections:
        Console(stderr=True).print(
            f"[red]Error:[/red] nothing is listed as {section!r}; expected one of {', '.join(sections)}.",
            soft_wrap=True,
            highlight=False,
        )
        raise typer.Exit(2)
    for title, rows in sections.items():
        if section in (None, title):
            table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
            for name, line in rows().items():
                table.add_row(name, line.replace("[", r"\["))
            console.print(table, "")


def _problems() -> Mapping[str, str]:
    from bayes_ir.problems import PROBLEMS

    return {name: _first_line(build) for name, build in PROBLEMS.items()}


def _priors() -> Mapping[str, str]:
    from bayes_ir.models import available_priors
    from bayes_ir.models.priors import read_card

    return {name: read_card(name)["description"] for name in available_priors()}


def _operators() -> Mapping[str, str]:
    from bayes_ir.models import Operator
    from bayes_ir.sketches import EXAMPLES, sketch

    return {
        name: f"{sketch(EXAMPLES[name]()) if name in EXAMPLES else '':35}  {_first_line(c)}"
        for name, c in _members(Operator).items()
    }


def _channels() -> Mapping[str, str]:
    from bayes_ir.models import Channel

    return {name: _first_line(c) for name, c in _members(Channel).items()}


def _kernels() -> Mapping[str, str]:
    from bayes_ir.inference import kernels

    return {name: f"{_first_line(entry.kernel)} {entry.line}." for name, entry in kernels().items()}


def _members(base: type) -> dict[str, Any]:
    """What the models wing exports of a kind."""
    from bayes_ir import models

    found = (getattr(models, name) for name in models.__all__)
    return {
        c.__name__: c
        for c in found
        if inspect.isclass(c) and issubclass(c, base) and not inspect.isabstract(c)
    }


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ").replace("``", "")

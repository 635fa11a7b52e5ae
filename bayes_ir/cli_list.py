"""The command ``bayes-ir list``: problems, priors, operators, channels and kernels, a line each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

__all__ = ["kernels", "list_everything"]


def kernels() -> dict[str, Any]:
    """All kernels by name."""
    from bayes_ir import inference

    found = (getattr(inference, name) for name in inference.__all__)
    return {
        k.__name__: k
        for k in found
        if inspect.isclass(k) and issubclass(k, inference.Kernel) and not inspect.isabstract(k)
    }


def list_everything() -> None:
    """List problems, priors, operators, channels and kernels."""
    from rich.console import Console
    from rich.table import Table

    from bayes_ir import models
    from bayes_ir.models.priors import read_card
    from bayes_ir.problems import PROBLEMS
    from bayes_ir.sketches import EXAMPLES, sketch

    def members(base: type) -> dict[str, Any]:
        found = (getattr(models, name) for name in models.__all__)
        return {
            c.__name__: c
            for c in found
            if inspect.isclass(c) and issubclass(c, base) and not inspect.isabstract(c)
        }

    sections: dict[str, Mapping[str, str]] = {
        "problems": {name: _first_line(build) for name, build in PROBLEMS.items()},
        "priors": {name: read_card(name)["description"] for name in models.available_priors()},
        "operators": {
            name: f"{sketch(EXAMPLES[name]()) if name in EXAMPLES else '':35}  {_first_line(c)}"
            for name, c in members(models.Operator).items()
        },
        "channels": {name: _first_line(c) for name, c in members(models.Channel).items()},
        "kernels": {name: f"{_first_line(k)} [{k.citation}]" for name, k in kernels().items()},
    }
    console = Console()
    for title, rows in sections.items():
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, line in rows.items():
            table.add_row(name, line.replace("[", r"\["))
        console.print(table, "")


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ").replace("``", "")

"""The command ``bayes-ir bench``: kernels measured against exact posteriors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["bench"]

bench = typer.Typer(help="Measure kernels.", no_args_is_help=True)


@bench.callback()
def _root() -> None:
    """Measure kernels."""


@bench.command()
def accuracy(
    suite: Annotated[str, typer.Option(help="gaussian, gmm25, quantized or digits.")],
    out: Annotated[Path, typer.Option(help="Folder for accuracy.json and accuracy.md.")],
    kernel: Annotated[
        list[str] | None,
        typer.Option(
            help='Kernel as Python prints it, such as "DPS(steps=100)", or a row of the suite such as iid, prior, '
            "oracle; may be repeated. By default the rows of the suite."
        ),
    ] = None,
    cells: Annotated[
        list[str] | None,
        typer.Option(help='Cells, such as "d=8,dy=1"; may be repeated. By default all of the suite.'),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Switch of the suite, NAME=VALUE, such as metric=SW2; may be repeated."),
    ] = None,
    problems: Annotated[int, typer.Option(help="Problems of a cell.")] = 20,
    draws: Annotated[int, typer.Option(help="Draws of every kernel.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the problems and the draws.")] = 0,
) -> None:
    """Compare kernels with exact posteriors: distances, means, spreads and weights of modes.

    Stop it at any time: the same command goes on from the last record, with more kernels, cells or problems too.
    """
    from rich.console import Console

    from bayes_ir.bench import Accuracy
    from bayes_ir.problems.own_image import parse_settings
    from bayes_ir.progress import progress_bar

    console = Console(soft_wrap=True, highlight=False, markup=False)
    try:
        chosen = _suite(suite, parse_settings(setting or []))
        run = Accuracy(
            suite=chosen,
            kernels=tuple(kernel or ()),
            cells=tuple(cells or ()),
            problems=problems,
            draws=draws,
            seed=seed,
        )
        with progress_bar(f"accuracy, {suite}", run.missing(out)) as advance:
            records = run.run(out, lambda record: advance())
    except KeyboardInterrupt:
        console.print(f"Stopped. {out / 'accuracy.json'} is whole; the same command goes on there.")
        raise typer.Exit(130) from None
    except (ValueError, OSError) as error:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"Error: {error}")
        raise typer.Exit(1 if isinstance(error, OSError) else 2) from None
    console.print((out / "accuracy.md").read_text())
    console.print(f"{len(records)} records in {out / 'accuracy.json'}, the tables in {out / 'accuracy.md'}")


def _suite(name: str, settings: dict[str, Any]) -> Any:
    from dataclasses import fields

    from bayes_ir.bench import SUITES
    from bayes_ir.words import look_up

    kind = look_up("suite", name, SUITES)
    known = {field.name: field for field in fields(kind)}
    for key in settings:
        look_up(f"setting of {name}", key, known)
    return kind(**settings)

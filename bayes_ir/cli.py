"""The command ``bayes-ir``: run a shipped problem, list what there is, train a prior."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bayes_ir.cli_list import list_everything
from bayes_ir.cli_train import train

__all__ = ["app", "main"]

app = typer.Typer(
    help="Bayesian image restoration: posterior samples of images, and what they say.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("train")(train)
app.command("list")(list_everything)


@app.callback()
def _root() -> None:
    """Bayesian image restoration: posterior samples of images, and what they say."""


@contextmanager
def _errors_in_words() -> Iterator[None]:
    """Turn a refusal into its sentence and exit status 2, and a full or unwritable disk into status 1."""
    from rich.console import Console

    try:
        yield
    except (ValueError, TypeError) as error:
        Console(stderr=True).print(f"[red]Error:[/red] {error}", soft_wrap=True, highlight=False)
        raise typer.Exit(2) from None
    except OSError as error:
        Console(stderr=True).print(f"[red]Error:[/red] {error}", soft_wrap=True, highlight=False)
        raise typer.Exit(1) from None


@app.command()
def run(
    problem: Annotated[str, typer.Argument(help="Name of a shipped problem; see `bayes-ir list`.")],
    out: Annotated[Path, typer.Option(help="Folder for the posterior, the tables and the figures.")],
    kernel: Annotated[
        str | None, typer.Option(help="Kernel; by default the one that suits the problem.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Setting of the kernel, NAME=VALUE; may be repeated.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws per chain.")] = 16,
    chains: Annotated[int, typer.Option(help="Chains.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the operator, the noise and the draws.")] = 0,
    image: Annotated[int | None, typer.Option(help="Number of the truth, for the digits 0 to 19.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device, such as cpu or cuda.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the posterior found in OUT.")] = True,
) -> None:
    """Sample the posterior of a shipped problem, print the summary and draw the uncertainty.

    Stop it at any time: the same command goes on from the last whole block.
    """
    with _errors_in_words():
        from bayes_ir.report import run_problem

        run_problem(
            problem,
            out,
            kernel=kernel,
            settings=setting or [],
            draws=draws,
            chains=chains,
            seed=seed,
            image=image,
            device=device,
            resume=resume,
        )


def main(*args: Any, **kwargs: Any) -> None:
    """Entry point of the console script."""
    app(*args, **kwargs)

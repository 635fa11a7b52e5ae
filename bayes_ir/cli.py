"""The command ``bayes-ir``: run a problem, report on it, list what there is, train a prior, measure kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bayes_ir.cli_bench import bench
from bayes_ir.cli_errors import errors_in_words
from bayes_ir.cli_list import list_everything
from bayes_ir.cli_report import compare, report
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
app.command("report")(report)
app.command("compare")(compare)
app.add_typer(bench, name="bench")


@app.callback()
def _root() -> None:
    """Bayesian image restoration: posterior samples of images, and what they say."""


@app.command()
def run(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the posterior, the tables and the figures.")],
    problem: Annotated[
        str | None, typer.Argument(help="Name of a shipped problem; see `bayes-ir list`.")
    ] = None,
    kernel: Annotated[
        str | None, typer.Option(help="Kernel; by default the one that suits the problem.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of the operator or of the kernel, NAME=VALUE; may be repeated."),
    ] = None,
    draws: Annotated[int, typer.Option(help="Draws per chain.")] = 16,
    chains: Annotated[int, typer.Option(help="Chains.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the operator, the noise and the draws.")] = 0,
    image: Annotated[
        str | None,
        typer.Option(help="Number of the truth (digits 0 to 19), or with --operator an image file."),
    ] = None,
    operator: Annotated[
        str | None, typer.Option(help="Instead of a problem: operator that measures your --image.")
    ] = None,
    noise_std: Annotated[
        float, typer.Option(help="Noise of the measurements of --operator, in their units.")
    ] = 0.05,
    prior: Annotated[str, typer.Option(help="Prior for --operator.")] = "mnist",
    device: Annotated[str | None, typer.Option(help="Torch device, such as cpu or cuda.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the posterior found in OUT.")] = True,
) -> None:
    """Sample the posterior of a shipped problem or of your own image, print the summary, draw the uncertainty.

    Stop it at any time: the same command goes on from the last whole block.
    """
    with errors_in_words():
        from bayes_ir.problems.own_image import parse_settings
        from bayes_ir.run_record import command_line
        from bayes_ir.running import build_kernel, choose_problem, run_problem

        chosen, kernel_settings = choose_problem(
            problem, operator, image, parse_settings(setting or []), noise_std, prior, seed
        )
        run_problem(
            chosen,
            build_kernel(kernel, kernel_settings, chosen.kernel),
            out,
            draws=draws,
            chains=chains,
            seed=seed,
            device=device,
            resume=resume,
            command=command_line(context),
        )


def main(*args: Any, **kwargs: Any) -> None:
    """Entry point of the console script."""
    app(*args, **kwargs)

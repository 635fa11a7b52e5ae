"""The commands ``bayes-ir report`` and ``bayes-ir compare``: a page about a run, or about several of the same data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bayes_ir.cli_errors import errors_in_words

__all__ = ["compare", "report"]

_PARTIAL = "Of an unfinished run, take the finished part; the page says so."


def report(
    run: Annotated[Path, typer.Argument(help="Folder made by `bayes-ir run`, or a .zarr store.")],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file; the Markdown is written beside it. By default report.html in RUN."),
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help=_PARTIAL)] = False,
) -> None:
    """Write one page about a run, as HTML and as Markdown: what was asked, can it be trusted, what was found."""
    with errors_in_words():
        from bayes_ir.reporting import open_run, report_run, write_page

        opened = open_run(run, partial=partial)
        beside = run.resolve()
        default = (
            beside / "report.html"
            if (run / "posterior.zarr").exists()
            else beside.with_name(f"{beside.stem}-report.html")
        )
        _written(write_page(report_run(opened), out or default))


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more runs of the same data, as for `report`.")],
    out: Annotated[Path, typer.Option(help="HTML file; the Markdown is written beside it.")] = Path(
        "comparison.html"
    ),
    partial: Annotated[bool, typer.Option("--partial", help=_PARTIAL)] = False,
) -> None:
    """Write one page that compares runs of the same data: costs, diagnostics, distances, maps side by side."""
    with errors_in_words():
        from bayes_ir.reporting import compare_runs, open_run, write_page

        _written(write_page(compare_runs([open_run(run, partial=partial) for run in runs]), out))


def _written(paths: tuple[Path, Path]) -> None:
    from rich.console import Console

    Console(soft_wrap=True, highlight=False, markup=False).print(f"wrote {paths[0]} and {paths[1]}")

"""Refusals of a command, told as sentences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

__all__ = ["errors_in_words"]


@contextmanager
def errors_in_words() -> Iterator[None]:
    """Turn a refusal into its sentence and exit status 2, and a full or unwritable disk into status 1."""
    try:
        yield
    except (ValueError, TypeError) as error:
        _say(error)
        raise typer.Exit(2) from None
    except OSError as error:
        _say(error)
        raise typer.Exit(1) from None


def _say(error: Exception) -> None:
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True).print(f"[red]Error:[/red] {escape(str(error))}", soft_wrap=True, highlight=False)

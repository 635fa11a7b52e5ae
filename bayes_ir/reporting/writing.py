"""A page as files: HTML in one, Markdown with its pictures in a folder beside it."""

from __future__ import annotations

import os
from pathlib import Path

from bayes_ir.reporting.html import as_html
from bayes_ir.reporting.markdown import as_markdown
from bayes_ir.reporting.page import Page

__all__ = ["write_page"]


def write_page(page: Page, out: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write `NAME.html`, `NAME.md` and the pictures of the latter in `NAME-pictures`.

    Args:
        page: what to write.
        out: the HTML file; a name without suffix gets `.html`.

    Returns:
        The two paths.

    Raises:
        ValueError: `out` has another suffix.
        OSError: it cannot be written.
    """
    html = Path(out)
    if html.suffix.lower() not in ("", ".html", ".htm"):
        raise ValueError(f"{html}: expected a name that ends in .html; the Markdown is written beside it")
    html = html if html.suffix else html.with_suffix(".html")
    html.parent.mkdir(parents=True, exist_ok=True)
    markdown, pictures = html.with_suffix(".md"), html.with_name(f"{html.stem}-pictures")
    text, files = as_markdown(page, pictures.name)
    if files:
        pictures.mkdir(exist_ok=True)
    for name, data in files.items():
        (pictures / name).write_bytes(data)
    markdown.write_text(text, encoding="utf-8")
    html.write_text(as_html(page), encoding="utf-8")
    return html, markdown

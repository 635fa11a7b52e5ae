"""Executed notebooks as pages: nbconvert's Markdown, and the pictures beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbconvert.exporters import MarkdownExporter

__all__ = ["NotebookPage", "notebook_list", "notebook_pages"]


@dataclass(frozen=True)
class NotebookPage:
    """A page made of a notebook.

    Attributes:
        name: name of the notebook's file, without the suffix.
        title: its first heading.
        markdown: the page.
        pictures: content of its pictures by name; the page refers to them as ``NAME_files/PICTURE``.
    """

    name: str
    title: str
    markdown: str
    pictures: dict[str, bytes]


def notebook_pages(folder: Path) -> list[NotebookPage]:
    """Pages of the notebooks in a folder, in the order of their names.

    Raises:
        ValueError: for a notebook without a heading, or one with cells that were not run.
    """
    return [_page(path) for path in sorted(folder.glob("*.ipynb"))]


def _page(path: Path) -> NotebookPage:
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.setdefault("language_info", {"name": "python"})
    unrun = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None
    ]
    if unrun:
        raise ValueError(
            f"{path.name}: {len(unrun)} code cells were not run; execute the notebook before it is shown."
        )
    exporter = MarkdownExporter()
    exporter.register_filter("wrap_text", lambda text, *_: text)
    text, resources = exporter.from_notebook_node(
        notebook, {"output_files_dir": f"{path.stem}_files", "unique_key": path.stem}
    )
    title = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
    if title is None:
        raise ValueError(f"{path.name}: no heading; a study begins with a cell '# Title'.")
    pictures = {Path(name).name: content for name, content in resources["outputs"].items()}
    return NotebookPage(path.stem, title[1].strip(), text, pictures)


def notebook_list(pages: list[NotebookPage]) -> str:
    """A list of the pages, for their index."""
    if not pages:
        return "No study has been run for this build of the site."
    return "\n".join(f"{number}. [{page.title}]({page.name}.md)" for number, page in enumerate(pages, 1))

"""What mkdocs asks of us while it builds the site: generated pages, tables in their places, references that lead home.

A page says ``<!-- table: NAME -->`` where a table of ``benchmarks/tables.py`` or ``grid_tables.py`` belongs, and
``<!-- figure: NAME -->`` where a picture of ``make_figures.py`` does.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT / "benchmarks", Path(__file__).parent):
    sys.path.insert(0, str(folder))

from api_pages import api_pages, missing_anchors  # noqa: E402
from figure_blocks import figure_block  # noqa: E402
from grid_tables import MADE  # noqa: E402
from notebook_pages import NotebookPage, notebook_list, notebook_pages  # noqa: E402
from public_names import PAGES, public_names  # noqa: E402
from tables import COMMANDS, TABLES  # noqa: E402

_NOTEBOOKS: list[NotebookPage] = []
_API_HTML: dict[str, str] = {}
_MARKER = re.compile(r"^<!-- (table|list|figure): (\w+) -->$", flags=re.MULTILINE)
_ROLE = re.compile(r":(?:class|func|meth|attr|data|mod):<code>~?([\w.]+)</code>")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages into the navigation."""
    _NOTEBOOKS[:] = notebook_pages(ROOT / "notebooks")
    more = {
        "Tutorials": [f"tutorials/{page.name}.md" for page in _NOTEBOOKS],
        "API": [f"api/{page.file}.md" for page in PAGES],
    }
    for entry in config.nav or []:
        for title, pages in entry.items():
            if title in more:
                pages.extend(more[title])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and pictures and figures that lie beside the benchmarks."""
    for name, text in api_pages().items():
        files.append(File.generated(config, name, content=text))
    for page in _NOTEBOOKS:
        files.append(File.generated(config, f"tutorials/{page.name}.md", content=page.markdown))
        for name, content in page.pictures.items():
            files.append(File.generated(config, f"tutorials/{page.name}_files/{name}", content=content))
    copied = {"results.md": "RESULTS.md", "images/one_bit_digit.png": "results/one_bit_digit.png"}
    copied["images/jensen_gap_study.png"] = "results/jensen_gap.png"
    for name, source in copied.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / "benchmarks" / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put tables and lists where they are asked for."""

    def made(match: re.Match[str]) -> str:
        kind, name = match.groups()
        if (kind, name) == ("list", "notebooks"):
            return notebook_list(_NOTEBOOKS)
        if kind == "figure":
            return figure_block(name)
        if name in MADE:
            return MADE[name]()
        if name not in TABLES:
            raise PluginError(
                f"{page.file.src_uri}: no table {name!r}; there are {', '.join([*MADE, *TABLES])}."
            )
        command = COMMANDS.get(name, f"python benchmarks/{name}.py")
        return f"{TABLES[name]()}\n\n(`{command}`)"

    return _MARKER.sub(lambda match: f"\n{made(match)}\n", markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Turn roles of docstrings, such as :class:`bayes_ir.inference.Flat`, into references."""

    def reference(match: re.Match[str]) -> str:
        path = match[1]
        home = ".".join(part for part in public_names().get(path, (path,)) if part)
        told = path if path.count(".") < 2 else path.rsplit(".", 1)[1]
        return f'<autoref identifier="{home}" optional><code>{told}</code></autoref>'

    html = _ROLE.sub(reference, html)
    if page.file.src_uri.startswith("api/"):
        _API_HTML[Path(page.file.src_uri).stem] = html
    return html


def on_env(env: Any, **_: Any) -> Any:
    """Refuse a site that lacks a public name."""
    if missing := missing_anchors(_API_HTML):
        raise PluginError(f"The reference lacks {len(missing)} public names: {', '.join(missing)}.")
    return env

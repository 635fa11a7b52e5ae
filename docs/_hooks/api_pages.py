"""The API reference as Markdown: a page for each area, a section for each module, what mkdocstrings makes of both."""

from __future__ import annotations

from html import escape

from public_names import PAGES, WINGS, Page, public_names, sections

__all__ = ["api_pages", "missing_anchors"]


def api_pages() -> dict[str, str]:
    """Markdown by the path of its file."""
    return {"api/index.md": _index(), **{f"api/{page.file}.md": _page(page) for page in PAGES}}


def _page(page: Page) -> str:
    blocks = [f"# {page.title}\n\n{page.told}\n"]
    for module, names in sections()[page].items():
        members = "".join(f"\n        - {name}" for name in names)
        blocks.append(f"::: {module}\n    options:\n      heading_level: 2\n      members:{members}\n")
    return "\n".join(blocks)


def _index() -> str:
    """All public names by page, as they are imported."""
    exported: dict[tuple[str, str], str] = {}
    for path, home in public_names().items():
        # The shortest way to a name is the one to type.
        if len(path) < len(exported.get(home, path + " ")):
            exported[home] = path
    lines = [
        "# API reference",
        "",
        "Made from the docstrings. Every name that a package exports is here, under the module that defines it; the",
        "formula comes first, then arguments with shape and unit, what is raised, and the source.",
        "",
    ]
    for page in PAGES:
        lines += [f"## [{page.title}]({page.file}.md)", "", page.told, ""]
        here: dict[str, list[str]] = {}
        for module in sections()[page]:
            for home, path in sorted(exported.items()):
                if home[0] == module:
                    package, name = path.rsplit(".", 1)
                    anchor = ".".join(part for part in home if part)
                    here.setdefault(package, []).append(f"[`{name}`]({page.file}.md#{anchor})")
        for package, links in sorted(here.items()):
            lines += [f"From `{package}`: {', '.join(links)}.", ""]
    return "\n".join(lines)


def missing_anchors(html: dict[str, str]) -> list[str]:
    """Public names that the built pages, by name of the page, do not have."""
    missing = []
    for page, modules in sections().items():
        for module, names in modules.items():
            for path in (module, *(f"{module}.{name}" for name in names)):
                if f'id="{escape(path)}"' not in html[page.file]:
                    missing.append(f"{path} (page {page.file})")
    homes = {home[0] for home in public_names().values()} - set(WINGS)
    shown = {module for modules in sections().values() for module in modules}
    return missing + sorted(homes - shown)

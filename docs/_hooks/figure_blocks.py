"""A picture of ``docs/make_figures.py`` on a page: its caption, the call that made it, the picture.

The call is what the picture's function returns, and the caption its docstring, so that neither can be out of date.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from textwrap import dedent

__all__ = ["figure_block", "figure_names"]

SCRIPT = Path(__file__).resolve().parents[1] / "make_figures.py"


@cache
def _functions() -> dict[str, ast.FunctionDef]:
    body = ast.parse(SCRIPT.read_text()).body
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def figure_names() -> list[str]:
    """Names of the pictures: of the functions that give a figure."""
    return [
        name for name, node in _functions().items() if node.returns and ast.unparse(node.returns) == "Figure"
    ]


def figure_block(name: str) -> str:
    """Markdown of a picture.

    Raises:
        ValueError: there is no such picture, it has no caption, or does not end with the call.
    """
    if name not in figure_names():
        raise ValueError(f"no picture {name!r}; {SCRIPT.name} makes {', '.join(figure_names())}")
    node = _functions()[name]
    caption, last = ast.get_docstring(node), node.body[-1]
    if not caption or not isinstance(last, ast.Return) or last.value is None:
        raise ValueError(f"{SCRIPT.name}: {name} needs a docstring, its caption, and a call that it returns")
    lines = SCRIPT.read_text().splitlines()[last.lineno - 1 : last.end_lineno]
    call = dedent("\n".join(lines)).removeprefix("return ")
    alt = caption.splitlines()[0].replace("`", "").replace("[", "(").replace("]", ")")
    return f"{caption}\n\n```python\n{call}\n```\n\n![{alt}](images/{name}.png)"

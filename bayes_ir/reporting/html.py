"""A page as one HTML file: pictures as data URIs, the style in its head, no script, nothing fetched from anywhere.

Every text goes through the template engine's escaping; there is no other way into the page.
"""

from __future__ import annotations

from base64 import b64encode

from bayes_ir.reporting.lights import Light
from bayes_ir.reporting.page import Page, Picture

__all__ = ["as_html"]

_TYPES = {"png": "image/png", "svg": "image/svg+xml"}


def as_html(page: Page) -> str:
    """The page as text of an HTML file."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    engine = Environment(
        loader=PackageLoader("bayes_ir.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return engine.get_template("page.html").render(page=page, Light=Light, data_uri=_data_uri)


def _data_uri(picture: Picture) -> str:
    return f"data:{_TYPES[picture.suffix]};base64,{b64encode(picture.data).decode('ascii')}"

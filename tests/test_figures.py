"""The documentation has a picture of every plot, made by the script, small enough for git."""

import runpy
from pathlib import Path

from PIL import Image

from bayes_ir import analysis

DOCS = Path(__file__).parent.parent / "docs"


def test_every_plot_has_a_picture_in_the_documentation():
    script = DOCS / "make_figures.py"
    figures = runpy.run_path(str(script))["FIGURES"]
    source = script.read_text()
    assert not [name for name in analysis.__all__ if name.startswith("plot_") and f".{name}(" not in source]
    for name in figures:
        picture = DOCS / "images" / f"{name}.png"
        assert picture.stat().st_size < 120_000, "run python docs/make_figures.py"
        with Image.open(picture) as image:
            assert 400 <= image.width <= 1400

"""Figures as bytes of PNG files; each figure is closed once it is written."""

from __future__ import annotations

import io
from typing import Any

__all__ = ["as_png"]


def as_png(figure: Any, dpi: int = 130) -> bytes:
    """A matplotlib figure as a PNG file."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    return buffer.getvalue()

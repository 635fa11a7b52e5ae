"""Are values where they can be? Draws within the range of the prior, measurements within their code book."""

from __future__ import annotations

import numpy as np

from bayes_ir.reporting.lights import Diagnostic, Light, banded
from bayes_ir.reporting.opening import Run

__all__ = ["draws_in_range", "saturation"]

_MARGIN = 0.05  # of the width of the range
_CODES = 256


def draws_in_range(run: Run) -> Diagnostic:
    """Share of the pixels of all finite draws that lie beyond the prior's range by more than 5 % of its width."""
    from bayes_ir.analysis.draws import blocks_of, posterior_draws

    name, bounds = "range of the draws", run.settings.get("data_range")
    if not bounds:
        return Diagnostic(name, Light.UNKNOWN, "", "the prior says nothing of the range of its images")
    low, high = (float(b) for b in bounds)
    margin, outside, total = _MARGIN * (high - low), 0, 0
    for _, _, block in blocks_of(posterior_draws(run.posterior)):
        pixels = block[np.isfinite(block).reshape(len(block), -1).all(axis=1)]
        outside += int(((pixels < low - margin) | (pixels > high + margin)).sum())
        total += pixels.size
    share = outside / total if total else 0.0
    light = banded(share, 0.01, 0.05)
    where = f"beyond the prior's range [{low:g}, {high:g}] by more than 5 % of its width"
    reason = f"pixels {where}" if light is Light.GREEN else f"{where}: the draws are no images of the prior"
    return Diagnostic(name, light, f"{100 * share:.2g} % of pixels", reason)


def saturation(run: Run) -> list[Diagnostic]:
    """Of every coarse observed site the share of measurements that say little: those at the ends of the codes."""
    if run.settings.get("channel") not in ("OneBit", "Quantized") or "observed_data" not in run.posterior:
        return []
    found = []
    for site, data in run.posterior["observed_data"].dataset.data_vars.items():
        y = data.values[np.isfinite(data.values)]
        codes, counts = np.unique(y, return_counts=True)
        name = f"codes of {site}"
        if not 0 < len(codes) <= _CODES:
            found.append(
                Diagnostic(name, Light.UNKNOWN, f"{len(codes)} different values", "not a small code book")
            )
        elif len(codes) <= 2:
            share = float(counts.max() / y.size)
            why = (
                "about as many of one kind as of the other" if share <= 0.9 else "nearly all are of one kind"
            )
            light = banded(share, 0.9, 0.99)
            shown = f"{100 * share:.0f} % are {codes[counts.argmax()]:g}"
            found.append(
                Diagnostic(name, light, shown, f"{why}: {_told(light)}; thresholds within the signal help")
            )
        else:
            share = float((counts[0] + counts[-1]) / y.size)
            light = banded(share, 0.2, 0.5)
            shown = f"{100 * share:.0f} % in the outermost of {len(codes)} codes"
            found.append(
                Diagnostic(name, light, shown, f"{_told(light)} (a saturated code has no other end)")
            )
    return found


def _told(light: Light) -> str:
    return (
        "they say something of the signal" if light is Light.GREEN else "many say only a bound of the signal"
    )

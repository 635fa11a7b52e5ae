"""What a run was asked, its model, its settings and the way to repeat it, as blocks of a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayes_ir.model_graph import model_in_words, model_svg
from bayes_ir.reporting.opening import Run
from bayes_ir.reporting.page import Block, Code, Facts, Paragraph, Picture, Table, number

__all__ = ["again_section", "asked_section", "model_section", "settings_section"]

_SHOWN = ("image_site", "kernel", "citation", "prior", "operator", "channel", "partial")


def asked_section(run: Run) -> list[Block]:
    """Problem, prior, operator, channel, kernel, data."""
    settings, blocks = run.settings, list[Block]()
    if run.record is not None and run.record.about:
        blocks.append(Paragraph(run.record.about))
    rows = [
        (label, str(settings[key]))
        for label, key in (("prior", "prior"), ("operator", "operator"), ("channel", "channel"))
        if key in settings
    ]
    rows += [("kernel", str(settings.get("kernel", "not recorded")))]
    if settings.get("citation"):
        rows.append(("source of the kernel", str(settings["citation"])))
    blocks.append(Facts(rows))
    if "observed_data" in run.posterior.children:
        observed = run.posterior["observed_data"].dataset.data_vars
        data = [
            [str(name), " x ".join(map(str, y.shape)) or "1", *_values(y.values)]
            for name, y in observed.items()
        ]
        blocks.append(Table(["observed site", "shape", "missing", "values"], data, "The data"))
    truth = (
        "The truth is known." if run.truth is not None else "The truth is not known, or was not written down."
    )
    return [*blocks, Paragraph(truth)]


def _values(y: np.ndarray) -> tuple[str, str]:
    there = y[np.isfinite(y)]
    kinds = np.unique(there)
    if 0 < kinds.size <= 8 and kinds.size < there.size:
        shown = ", ".join(f"{kind:g} ({int((there == kind).sum())} times)" for kind in kinds)
    else:
        shown = f"{there.min():.4g} to {there.max():.4g}, mean {there.mean():.4g}" if there.size else "none"
    return str(y.size - there.size), shown


def model_section(run: Run, relations: Mapping[str, Any] | None) -> list[Block]:
    """The model as Pyro renders it, or where that cannot be, in words."""
    if not relations:
        site, settings = run.settings.get("image_site", "x"), run.settings
        observed = run.posterior["observed_data"].dataset if "observed_data" in run.posterior.children else {}
        told = f"{site} ~ {settings.get('prior', 'prior')}, unknown\n" + "\n".join(
            f"{y} ~ {settings.get('channel', 'channel')}(A({site})), observed" for y in observed
        )
        return [
            Paragraph("The run did not write its model down; this is what its settings say of it."),
            Code(told.strip()),
        ]
    words, picture = Code("\n".join(model_in_words(relations))), model_svg(relations)
    if picture is None:
        return [words, Paragraph("With graphviz (the Python package and its program dot) it is drawn here.")]
    caption = "The model as Pyro renders it: observed sites are grey, arrows say what depends on what."
    return [Picture("model", picture, caption, "svg"), words]


def settings_section(run: Run) -> list[Block]:
    """The attributes of the run, and what its kernel recorded."""
    rows = [
        (name, number(value))
        for name, value in run.settings.items()
        if name not in _SHOWN and not name.endswith("_version")
    ]
    return [Facts(rows), *_statistics(run)]


def _statistics(run: Run) -> list[Block]:
    if "sample_stats" not in run.posterior.children:
        return []
    rows = []
    for name, values in run.posterior["sample_stats"].dataset.data_vars.items():
        x = values.values.astype(np.float64)
        x = x[np.isfinite(x)]
        rows.append([str(name), *(number(f(x)) if x.size else "none" for f in (np.mean, np.min, np.max))])
    return [Table(["statistic", "mean", "least", "most"], rows, "What the kernel recorded of each draw")]


def again_section(run: Run) -> list[Block]:
    """The command and the versions."""
    blocks: list[Block] = []
    if run.record is not None and run.record.command:
        blocks.append(Code(run.record.command))
    else:
        blocks.append(
            Paragraph("The command was not written down; the settings above are what the draws depend on.")
        )
    versions = {k.removesuffix("_version"): v for k, v in run.settings.items() if k.endswith("_version")}
    if not versions and run.record is not None:
        versions = {k.removesuffix("_version"): v for k, v in run.record.versions.items()}
    return [*blocks, Facts(sorted((name, str(value)) for name, value in versions.items()))]

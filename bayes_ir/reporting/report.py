"""The page about one run: what was asked, whether it can be trusted, what the draws say, how to repeat it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayes_ir.model_graph import model_relations
from bayes_ir.reporting.diagnostics import diagnose
from bayes_ir.reporting.figures import as_png
from bayes_ir.reporting.lights import Diagnostic, Light, worst
from bayes_ir.reporting.opening import Run
from bayes_ir.reporting.page import Block, Lights, Page, Paragraph, Picture, Section, Table
from bayes_ir.reporting.sections import again_section, asked_section, model_section, settings_section

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["report_run", "scalar_sites", "verdict"]

_MOST_SCALARS = 64


def report_run(
    run: Run,
    model: Callable | None = None,
    data: Mapping[str, Any] | None = None,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> Page:
    """The page about a run.

    Args:
        run: of `open_run`, or made of a posterior in memory, `Run("my run", posterior, truth=truth)`.
        model: its Pyro model, for the picture of it; by default what the run wrote down.
        data: what the model was conditioned on.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Raises:
        ValueError: fewer than two draws are finite, or the truth has another shape than the draws.
    """
    from bayes_ir.analysis import plot_uncertainty, summary

    relations = model_relations(model, data, model_args, model_kwargs) if model is not None else None
    if relations is None and run.record is not None:
        relations = dict(run.record.model)
    tables = summary(run.posterior, run.truth)
    others = scalar_sites(run)
    scalars = tables.functionals if others is None else _joined(tables.functionals, others)
    found = diagnose(run, scalars)
    known = "; the truth is known and shown beside them" if run.truth is not None else ""
    maps = Picture(
        "uncertainty",
        as_png(plot_uncertainty(run.posterior, run.truth)),
        f"Posterior mean, draws and standard deviation of {run.settings.get('image_site', 'the image')}{known}.",
    )
    functionals = [Table.of(tables.functionals.rename_axis("functional"), "Scalar functionals of the image")]
    if others is not None:
        functionals.append(Table.of(others.rename_axis("site"), "The other sites of the model"))
    chains, draws = (run.posterior["posterior"].sizes[d] for d in ("chain", "draw"))
    sections = [
        Section("What was asked", asked_section(run)),
        Section("The model", model_section(run, relations)),
        Section("Can it be trusted?", [Paragraph(verdict(found)), Lights(found), *_against_exact(run)]),
        Section("What the draws say of every pixel", [maps]),
        Section(
            "What they say in numbers",
            [
                *functionals,
                Table.of(tables.image.rename_axis("figure"), "The image as a whole"),
                *(Paragraph(note) for note in tables.notes),
            ],
        ),
        Section("Settings", settings_section(run)),
        Section("To do it again", again_section(run)),
    ]
    title = run.record.problem if run.record is not None else run.name
    lead = f"{chains * draws} draws by {run.kernel}: {chains} {_plural(chains, 'chain')} of {draws}."
    warning = f"This run is unfinished: the page is about {run.unfinished}." if run.unfinished else ""
    return Page(f"Posterior of {title}", lead, sections, warning)


def verdict(found: list[Diagnostic]) -> str:
    """All lights in a sentence or two."""
    names = {light: [d.name for d in found if d.light is light] for light in Light}
    opening = {
        Light.GREEN: "Nothing suspicious was found.",
        Light.AMBER: f"To be looked at: {', '.join(names[Light.AMBER])}.",
        Light.RED: f"Not to be relied on as it stands: {', '.join(names[Light.RED])}.",
    }[worst(found)]
    unknown = f" Not known: {', '.join(names[Light.UNKNOWN])}." if names[Light.UNKNOWN] else ""
    return (
        f"{opening}{unknown} A good light says that nothing was found, not that the posterior is right: a biased "
        "kernel can have every light good, and only an exact answer or a calibration over many data sets shows that."
    )


def _against_exact(run: Run) -> list[Block]:
    if run.exact is None or run.unfinished:  # the comparison is of all draws
        return []
    caption = "Against the exact posterior; floor: as many exact draws against it"
    return [Table.of(run.exact.rename_axis("error"), caption)]


def scalar_sites(run: Run) -> pd.DataFrame | None:
    """ArviZ's table of the sites beside the image, of those with at most 64 numbers; `None` if there are none."""
    import arviz_stats

    site, posterior = run.settings.get("image_site"), run.posterior["posterior"].dataset
    names = [
        str(name)
        for name, values in posterior.data_vars.items()
        if name != site and 0 < values[0, 0].size <= _MOST_SCALARS
    ]
    if site is None or not names:
        return None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # few draws, or a site that never moved: NaN, which the table shows
        return arviz_stats.summary(
            run.posterior, var_names=names, ci_prob=0.9, ci_kind="eti", round_to="none"
        )


def _joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([first, second])[["r_hat", "ess_bulk", "ess_tail"]]


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"

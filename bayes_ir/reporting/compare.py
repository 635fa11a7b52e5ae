r"""The page about several runs of the same data: what each cost, what it found, and how far apart they are.

Of two runs with means m, m', standard deviations s, s' and n, n' draws:

    mean difference   (mean over pixels of (m - m')^2 / s_p^2)^{1/2},  s_p^2 = (s^2 + s'^2)/2
    sd ratio          geometric mean over pixels of s'/s
    distance          sliced Wasserstein, mean of W_1 over directions

Beside the mean difference is what independent draws of one law would show, (1/n + 1/n')^{1/2}, with ArviZ's fewest
effective draws for n.  The floor of the distance is that between random parts of both runs' draws put together, of
their sizes: the law of the distance under a permutation, if draws are independent and both runs have one posterior.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from bayes_ir.reporting.diagnostics import diagnose
from bayes_ir.reporting.figures import as_png
from bayes_ir.reporting.lights import Light, worst
from bayes_ir.reporting.opening import Run
from bayes_ir.reporting.page import Facts, Lights, Page, Paragraph, Picture, Section, Table, number
from bayes_ir.reporting.report import scalar_sites
from bayes_ir.reporting.same_data import common_truth, distinct_names, refuse_other_data
from bayes_ir.reporting.side_by_side import plot_side_by_side

__all__ = ["compare_runs"]

_MOST_DRAWS = 1000  # of a run, for the distance


class _Found(NamedTuple):
    run: Run
    mean: np.ndarray
    sd: np.ndarray
    draws: np.ndarray  # finite ones, (n, *event)
    effective: float
    diagnostics: list


def compare_runs(runs: Sequence[Run]) -> Page:
    """The page about several runs of the same data.

    Raises:
        ValueError: fewer than two runs, runs of other data, or one without two finite draws.
    """
    refuse_other_data(runs)
    runs, truth = distinct_names(runs), common_truth(runs)
    found = [_looked_at(run) for run in runs]
    unfinished = [f"{run.name}: {run.unfinished}" for run in runs if run.unfinished]
    maps = Picture(
        "maps",
        as_png(plot_side_by_side(runs, [f.mean for f in found], [f.sd for f in found], truth)),
        "Posterior mean and standard deviation of every run, each row on one scale"
        + ("; below, the error of the mean." if truth is not None else "."),
    )
    models = {run.settings.get("fingerprint") for run in runs}
    same = "The runs have one model." if len(models) == 1 else "The runs have different models: " + _MODELS
    sections = [
        Section("What each cost and found", [Paragraph(same), _costs(found, truth)]),
        Section("How far apart they are", [Paragraph(_APART), _distances(found)]),
        Section("Maps side by side", [maps]),
        *(Section(f"Can {f.run.name} be trusted?", [Lights(f.diagnostics)]) for f in found),
        Section("Kernels", [Facts([(f.run.name, str(f.run.settings.get("kernel", ""))) for f in found])]),
    ]
    lead = f"{len(runs)} runs of the same data: {', '.join(f'{run.name} ({run.kernel})' for run in runs)}."
    warning = f"Unfinished: {'; '.join(unfinished)}." if unfinished else ""
    return Page("Posteriors compared", lead, sections, warning)


_MODELS = (
    "what differs below may be the models, not the kernels (a floating point type is part of a model here)."
)
_APART = (
    "Runs differ beyond chance only where a figure is well above the one beside it: the mean difference that as many "
    "independent draws of one posterior would show, and the floor of the distance with its scatter. Draws that depend "
    "on each other lie further apart than both."
)


def _looked_at(run: Run) -> _Found:
    import pandas as pd

    from bayes_ir.analysis import summary
    from bayes_ir.analysis.draws import moments, posterior_draws

    draws = posterior_draws(run.posterior)
    kept = moments(draws)
    if kept.used < 2:
        raise ValueError(
            f"{run.name} has {kept.used} finite draw; a comparison needs at least two of each run"
        )
    table = summary(run.posterior).functionals
    others = scalar_sites(run)
    scalars = table if others is None else pd.concat([table, others])
    ess = table["ess_bulk"].dropna()
    effective = min(float(ess.min()), kept.used) if len(ess) else float(kept.used)
    return _Found(
        run, kept.mean.values, kept.sd.values, _some(draws, kept.used), effective, diagnose(run, scalars)
    )


def _some(draws: object, used: int) -> np.ndarray:
    """At most a thousand finite draws, spread evenly over all of them."""
    from bayes_ir.analysis.draws import blocks_of

    wanted = set(np.linspace(0, used - 1, min(used, _MOST_DRAWS)).astype(int).tolist())
    chosen, seen = [], 0
    for _, _, block in blocks_of(draws):  # type: ignore[arg-type]
        for image in block[np.isfinite(block).reshape(len(block), -1).all(axis=1)]:
            if seen in wanted:
                chosen.append(image.astype(np.float64))
            seen += 1
    return np.stack(chosen)


def _costs(found: Sequence[_Found], truth: np.ndarray | None) -> Table:
    header = [
        "run",
        "kernel",
        "draws",
        "NFE per draw",
        "seconds",
        "seconds per draw",
        "log likelihood",
        "its p",
    ]
    header += ["largest R-hat", "effective draws", "lights"]
    truths = [_against(f, truth) for f in found]
    header += list(truths[0])
    rows = []
    for f, errors in zip(found, truths, strict=True):
        sizes, settings = f.run.posterior["posterior"].sizes, f.run.settings
        seconds, timed = settings.get("sampling_time"), settings.get("sampling_draws")
        values = {d.name: d for d in f.diagnostics}
        rows.append(
            [
                f.run.name,
                f.run.kernel,
                f"{sizes['chain']}\N{NO-BREAK SPACE}x\N{NO-BREAK SPACE}{sizes['draw']}",
                *_statistics(f.run)[:1],
                _or_unknown(seconds),
                _or_unknown(seconds / timed if seconds is not None and timed else None),
                *_statistics(f.run)[1:],
                values["largest R-hat"].value.split(" ")[0] or "not known",
                f"{f.effective:.0f}",
                _lights(f),
                *(number(e) for e in errors.values()),
            ]
        )
    return Table(header, rows, "Seconds are of the last call that drew, so of a resumed run not of the whole")


def _or_unknown(value: float | None) -> str:
    return "not known" if value is None else number(value)


def _statistics(run: Run) -> tuple[str, str, str]:
    from bayes_ir.analysis import measurement_check

    stats = run.posterior["sample_stats"].dataset if "sample_stats" in run.posterior.children else {}
    nfe = number(float(stats["nfe"].values.mean())) if "nfe" in stats else "not known"
    try:
        check = measurement_check(run.posterior)
    except ValueError:
        return nfe, "not known", "not known"
    return nfe, number(check.mean_log_lik), number(check.p_value)


def _lights(f: _Found) -> str:
    bad = [d.name for d in f.diagnostics if d.light is worst(f.diagnostics)]
    state = worst(f.diagnostics)
    return state.value if state is Light.GREEN else f"{state.value}: {', '.join(bad)}"


def _against(f: _Found, truth: np.ndarray | None) -> dict[str, float]:
    from bayes_ir.analysis.metrics import metrics_of, range_width, rmse

    if truth is None:
        return {}
    width = range_width(f.run.posterior)
    figures = {"rmse": rmse(f.mean, truth)} if width is None else metrics_of(f.mean, truth, width)
    spread = float(np.sqrt((f.sd**2).mean()))
    chosen = {"PSNR, dB": figures["psnr"]} if "psnr" in figures else {}
    return chosen | {"rmse": figures["rmse"], "rmse / sd": figures["rmse"] / spread if spread else np.nan}


def _distances(found: Sequence[_Found]) -> Table:
    from bayes_ir.analysis import sliced_wasserstein, sliced_wasserstein_floor

    header = ["runs", "mean difference / sd", "by chance", "sd ratio", "distance", "floor", "above the floor"]
    rows = []
    for a, b in combinations(found, 2):
        pooled = np.sqrt((a.sd**2 + b.sd**2) / 2)
        moving = (pooled > 0) & (a.sd > 0) & (b.sd > 0)
        difference = float(np.sqrt((((a.mean - b.mean)[moving] / pooled[moving]) ** 2).mean()))
        chance = float(np.sqrt(1 / a.effective + 1 / b.effective))
        ratio = float(np.exp(np.log(b.sd[moving] / a.sd[moving]).mean()))
        distance = sliced_wasserstein(a.draws, b.draws)
        together = np.concatenate([a.draws, b.draws])
        floor = sliced_wasserstein_floor(together, sizes=(len(a.draws), len(b.draws)))
        above = (distance - floor.mean) / floor.sd if floor.sd > 0 else np.nan
        rows.append(
            [
                f"{a.run.name}, {b.run.name}",
                *(number(v) for v in (difference, chance, ratio, distance)),
                f"{floor.mean:.3g} ± {floor.sd:.1g}",
                f"{above:.1f} sd",
            ]
        )
    return Table(
        header,
        rows,
        f"Sd ratio: the second run's over the first's. Distance: sliced Wasserstein, at most {_MOST_DRAWS} draws a run",
    )

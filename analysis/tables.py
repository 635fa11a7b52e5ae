"""The posterior in two tables: scalar functionals of the image, and figures of the image as a whole.

For a functional f the draws f(x_1), f(x_2), ... are an ordinary posterior of a scalar; ArviZ gives its mean,
sd and intervals (central, highest density), and says how far to trust them: effective sample size (bulk, tail), r-hat
between chains and Monte Carlo standard errors. With a truth x*, `truth_rank` is the share of draws with f(x_i) <
f(x*); over many problems it is uniform if the posterior is right.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayes_ir.analysis.checks import measurement_check
from bayes_ir.analysis.draws import (
    central_interval,
    coverage_of,
    moments,
    plates_first,
    posterior_draws,
    truth_like,
)
from bayes_ir.analysis.functional_tables import arviz_table
from bayes_ir.analysis.functionals import Functional, default_functionals, evaluate
from bayes_ir.analysis.metrics import cosine_similarity, metrics_of, range_width, rmse

if TYPE_CHECKING:
    import os

    import pandas as pd

__all__ = ["Summary", "summary"]


@dataclass(frozen=True, repr=False)
class Summary:
    """What `summary` gives; shown as two tables in a notebook and as text elsewhere.

    Attributes:
        functionals: one row per functional, ArviZ's columns, and `truth`, `truth_rank` if a truth was given.
        image: one row per figure; columns `value` and `meaning`.
        notes: what a reader of the tables has to know, such as draws that were left out.
    """

    functionals: pd.DataFrame
    image: pd.DataFrame
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        width = self.image["meaning"].str.len().max()
        image = self.image.to_string(
            float_format=_digits, justify="left", formatters={"meaning": lambda text: text.ljust(width)}
        )
        functionals = self.functionals.to_string(float_format=_digits)
        return "\n\n".join(["Functionals of the image", functionals, "The image", image, *self.notes])

    def _repr_html_(self) -> str:
        parts = []
        for caption, table in (("Functionals of the image", self.functionals), ("The image", self.image)):
            parts.append(f"<h4>{caption}</h4>{table.to_html(float_format=_digits, border=0)}")
        return "".join(parts) + "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)

    def to_csv(self, path: str | os.PathLike[str]) -> tuple[Path, Path]:
        """Writes both tables in full precision; `digit.csv` gives digit-functionals.csv and digit-image.csv.

        Args:
            path: where, and the stem of both names.

        Returns:
            The two paths.
        """
        stem = Path(path).with_suffix("") if Path(path).suffix == ".csv" else Path(path)
        paths = tuple(stem.with_name(f"{stem.name}-{table}.csv") for table in ("functionals", "image"))
        self.functionals.to_csv(paths[0], index_label="functional")
        self.image.to_csv(paths[1], index_label="figure")
        return paths[0], paths[1]


def summary(
    posterior: xr.DataTree,
    truth: Any = None,
    functionals: Mapping[str, Functional] | None = None,
    *,
    ci_prob: float = 0.9,
    data_range: float | tuple[float, float] | None = None,
    var_name: str | None = None,
) -> Summary:
    """Posterior mean, sd, interval and convergence of functionals of the image, and figures of the whole
    image.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        truth: the true image, shape of one draw, if it is known.
        functionals: name -> function of one image (numpy, the shape of one draw) giving a number; these are
            added to those of `default_functionals`, and one of the same name replaces it.
        ci_prob: probability of the intervals.
        data_range: width of the range of values, or (low, high), for PSNR and SSIM; by default the
            posterior's attribute `data_range`, and without one both are left out.
        var_name: name of the image site; needed only when there are several.

    Raises:
        ValueError: no draw is finite, the truth has another shape, or a functional does not give a finite
            number.
    """
    if not 0 < ci_prob < 1:
        raise ValueError(f"summary: ci_prob must be a probability between 0 and 1, got {ci_prob!r}")
    draws, plates = plates_first(posterior_draws(posterior, var_name))
    true = None if truth is None else truth_like(truth, draws).astype(np.float64)
    chosen = default_functionals(draws.shape[2 + len(plates) :]) | dict(functionals or {})
    values, notes = evaluate(draws, chosen)
    table = arviz_table(values, ci_prob)
    if true is not None:
        # One draw of one chain: the truth has a value for each image of a plate, as the draws have.
        at_truth = evaluate(draws[:1, :1].copy(data=true[None, None]), chosen).values.isel(
            chain=0, draw=0, drop=True
        )
        ranks = (values < at_truth).mean(["chain", "draw"])
        table["truth"] = np.concatenate([np.ravel(at_truth[name]) for name in chosen])
        table["truth_rank"] = np.concatenate([np.ravel(ranks[name]) for name in chosen])
    return Summary(
        table, _image_table(posterior, draws, true, ci_prob, range_width(posterior, data_range)), notes
    )


def _image_table(
    posterior: Any, draws: xr.DataArray, true: np.ndarray | None, ci_prob: float, width: float | None
) -> pd.DataFrame:
    import pandas as pd

    found, bounds = moments(draws), central_interval(draws, ci_prob)
    mean, sd, percent = found.mean.values, found.sd.values, f"{100 * ci_prob:g} %"
    rows: dict[str, tuple[float, str]] = {
        "chains": (draws.sizes["chain"], "independent runs of the sampler"),
        "draws": (found.used, "finite draws, all chains together"),
        "draws_left_out": (found.left_out, "draws that are not finite"),
        "mean_sd": (float(sd.mean()), "posterior sd of a pixel, averaged over pixels"),
        "max_sd": (float(sd.max()), "posterior sd of the least certain pixel"),
        "mean_width": (
            float(np.diff(bounds.values, axis=0).mean()),
            f"width of a pixel's {percent} interval, averaged",
        ),
    }
    if true is not None:
        if width is None:
            figures = {"cosine_similarity": cosine_similarity(mean, true), "rmse": rmse(mean, true)}
        else:
            figures = metrics_of(mean, true, width)
        rows |= {name: (value, _MEANING[name]) for name, value in figures.items()}
        spread = float(np.sqrt((sd**2).mean()))
        ratio = figures["rmse"] / spread if spread > 0 else float("nan")
        rows["rmse_over_sd"] = (ratio, "rmse over root mean square sd; about 1 for a right posterior")
        rows["coverage"] = (
            coverage_of(bounds, true),
            f"share of pixels with the truth in their {percent} interval",
        )
    return pd.DataFrame.from_dict(rows | _statistics(posterior), orient="index", columns=["value", "meaning"])


def _statistics(posterior: Any) -> dict[str, tuple[float, str]]:
    """What sample_stats says, as far as it was recorded."""
    if not isinstance(posterior, xr.DataTree) or "sample_stats" not in posterior.children:
        return {}
    stats, rows = posterior["sample_stats"].dataset, {}
    if "diverging" in stats:
        rows["diverging"] = (float(stats["diverging"].sum()), "draws that the kernel marked as diverging")
    if "nfe" in stats:
        rows["nfe"] = (float(stats["nfe"].mean()), "network evaluations, averaged over draws")
    if "log_lik" in stats and "observed_data" in posterior.children:
        check = measurement_check(posterior)
        rows["log_lik"] = (check.log_lik_per_measurement, "log likelihood of a measurement, averaged")
        rows["p_value"] = (
            check.p_value,
            "share of draws whose replicated data are no likelier than the data",
        )
    return rows


def _digits(value: float) -> str:
    return (
        f"{value:.0f}"
        if np.isfinite(value) and (abs(value) >= 1000 or value == int(value))
        else f"{value:.4g}"
    )


_MEANING = {
    "psnr": "peak signal-to-noise ratio of the posterior mean, dB",
    "ssim": "structural similarity of the posterior mean",
    "cosine_similarity": "cosine between posterior mean and truth",
    "rmse": "root mean square error of the posterior mean",
}

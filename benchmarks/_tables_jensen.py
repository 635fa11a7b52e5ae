"""Tables of the Jensen gap, as RESULTS.md shows them."""

from __future__ import annotations

from typing import Any

from _markdown import markdown
from _results import kept_results

__all__ = ["jensen_digits", "jensen_gap", "jensen_learned", "jensen_nested", "jensen_posteriors"]

_AT = 0.3  # the noise level b/a of tables over the measurement noise


def jensen_gap() -> str:
    """All tables, each under what it is about."""
    return "\n\n".join(
        [
            "Nested sampling against exact answers, z = (estimate - truth) / stated error",
            jensen_nested(),
            f"Digits under `mnist-gmm`, 40 measurements of noise sigma, b/a = {_AT}: gap of likelihoods and its bounds",
            jensen_digits(),
            f"The same: error of the score over its norm, by denoising posterior, b/a = {_AT}",
            jensen_posteriors(),
            "A digit under `mnist`, 8 measurements: nested sampling",
            jensen_learned(),
        ]
    )


def jensen_nested() -> str:
    """z-scores over ten noise levels and 16 states; states whose inner weights have heavy tails are not judged."""
    figures: Any = kept_results("jensen_gap")
    rows = []
    for case in figures["gaussian"] + figures["mixture"]:
        for name in ("log_likelihood", "norm_ratio"):
            found = case[name]
            levels = found["z_rms"]
            overall = (sum(z**2 for z in levels) / len(levels)) ** 0.5
            counts = [f"{found['beyond_3']} of {found['judged']}", found["of"] - found["judged"]]
            rows.append([case["case"], name, overall, max(levels), f"{found['z_mean']:.2f}", *counts])
    header = ["case", "figure", "rms z", "largest of a level", "mean z", "beyond 3", "not judged"]
    return markdown(header, rows)


def jensen_digits() -> str:
    """Logarithms of the gap of likelihoods (at most 1), of both bounds, and the error of the score of DPS."""
    digits: Any = kept_results("jensen_gap")["digits"]
    at = digits["noise"].index(_AT)
    columns = ("log10_gap_of_plain_likelihoods", "log10_published_bound", "log10_bound")
    rows = [
        [
            sigma,
            *(f"{digits[column][i][at]:,.1f}" for column in columns),
            digits["relative_error"]["Point"][i][at],
            digits["norm_ratio"]["Point"][i][at],
        ]
        for i, sigma in enumerate(digits["sigma"])
    ]
    header = ["sigma", "log10 gap", "log10 bound as printed", "log10 bound, slope put right"]
    header += ["`Point`: error / score", "`Point`: norm ratio"]
    broken = (
        f"Over all noise levels and digits the printed bound is broken in {digits['published_bound_broken']} of "
        f"{digits['of']} cases, the other in {digits['bound_broken']}."
    )
    return f"{markdown(header, rows)}\n\n{broken}"


def jensen_posteriors() -> str:
    """Relative error of the score, medians over four digits."""
    digits: Any = kept_results("jensen_gap")["digits"]
    at, errors = digits["noise"].index(_AT), digits["relative_error"]
    rows = [[sigma, *(errors[q][i][at] for q in errors)] for i, sigma in enumerate(digits["sigma"])]
    return markdown(["sigma", *(f"`{q}`" for q in errors)], rows)


def jensen_learned() -> str:
    """What nested sampling of a network costs and says; an estimate with too few effective draws is refused."""
    rows = []
    for row in kept_results("jensen_gap")["learned"]:
        refused = row["log_likelihood"] is None
        said = "refused" if refused else f"{row['log_likelihood']:.2f} ± {row['log_likelihood_error']:.2f}"
        errors = [
            ""
            if row[q]["relative_error"] is None
            else f"{row[q]['relative_error']:.2f} ± {row[q]['relative_error_error']:.2f}"
            for q in ("Point", "Calibrated", "Tweedie")
        ]
        rows.append(
            [row["sigma"], row["noise"], row["inner_steps"], row["seconds"], row["ess"], said, *errors]
        )
    header = ["sigma", "b/a", "inner steps", "seconds", "ess of 240", "log p(y given x_t)"]
    return markdown([*header, "`Point`: error / score", "`Calibrated`", "`Tweedie`"], rows)

"""The Jensen gap of DPS, measured: the estimator against exact answers, and what the gap says of the guidance.

    python benchmarks/jensen_gap.py             # all; parts by --only gaussian mixture digits learned

gaussian   Gaussian prior, 6 pixels, 3 measurements: nested sampling against the closed form at ten noise levels,
           16 states each; z = (estimate - truth) / stated error of log p(y | x_t) and of the norm ratio of Point().
mixture    the same for a mixture of three, Gaussian and one-bit data (there cells by minimax tilting against sampling).
digits     prior "mnist-gmm", 40 Gaussian measurements of a test digit, measurement noise 0.01 to 30, four digits:
           the gap, its bounds and the error of the score of every denoising posterior, all in closed form.
learned    prior "mnist", 8 measurements, by nested sampling: one state, with what it costs, how far the mean of the
           inner draws is from the network's own, and what few inner steps do; one estimate that is refused.

Writes ``results/jensen_gap.json`` and ``results/jensen_gap.png``.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
import xarray as xr
from _results import kept_results, write_results

import bayes_ir as bir
from bayes_ir.inference import Flat, Point
from bayes_ir.inference.jensen import Reason
from bayes_ir.models import (
    DenseOperator,
    Gaussian,
    GaussianMixturePrior,
    GaussianPrior,
    GaussianSensing,
    OneBit,
    load_prior,
)
from bayes_ir.problems import test_digits

F64 = torch.float64
SIGMAS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]
LEVELS = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
STATES = 16


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def gaussian_prior() -> GaussianPrior:
    root = normal(6, 6, seed=1)
    return GaussianPrior(normal(6, seed=2), root @ root.T / 6 + 0.2 * torch.eye(6, dtype=F64))


def mixture_prior() -> GaussianMixturePrior:
    roots = normal(3, 6, 6, seed=5)
    covariances = 0.3 * roots @ roots.mT / 6 + 0.1 * torch.eye(6, dtype=F64)
    return GaussianMixturePrior(
        torch.tensor([0.2, 0.3, 0.5], dtype=F64), 1.5 * normal(3, 6, seed=6), covariances
    )


def measured(
    prior: Any, operator: Any, channel: Any, sigma: float, x: torch.Tensor, seed: int
) -> tuple[Any, Any]:
    """The model, and data of the image x."""

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior)), sigma))

    y = bir.simulate(pyro.condition(model, {"x": x}), seed=seed)["y"]
    return model, {"y": y}


def against_exact(name: str, prior: Any, channel: Any, sigma: float) -> dict[str, Any]:
    """z-scores of nested sampling at ten noise levels."""
    operator = DenseOperator(normal(3, 6, seed=3), dtype=F64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        points = prior.sample((STATES,))
    model, data = measured(prior, operator, channel, sigma, points[0], seed=1)
    low, high = prior.noise_range
    settings: dict[str, Any] = {
        "points": points,
        "levels": np.geomspace(high, low, 10),
        "denoising_posteriors": [Point(), Flat()],
        "progress": False,
    }
    exact = bir.jensen_gap(model, data, inner_draws=20_000, **settings)["jensen_gap"].dataset
    nested = bir.jensen_gap(model, data, nested=True, inner_draws=15_360, wanted_error=0.03, **settings)
    nested = nested["jensen_gap"].dataset
    heavy = (nested["reason"] & Reason.HEAVY_TAILS) > 0
    rows: dict[str, Any] = {"heavy_tails_left_out": int(heavy.sum())}
    for figure in ("log_likelihood", "norm_ratio"):
        error = np.hypot(nested[f"{figure}_error"], exact[f"{figure}_error"])
        z = ((nested[figure] - exact[figure]) / error).where(~heavy)
        z = z.sel(denoising_posterior="Point") if "denoising_posterior" in z.dims else z
        rows[figure] = {
            "z_rms": [float(np.sqrt(np.nanmean(row**2))) for row in z.values],
            "z_mean": float(np.nanmean(z)),
            "beyond_3": int((np.abs(z) > 3).sum()),
            "judged": int(np.isfinite(z).sum()),
            "of": int(z.size),
        }
        print(name, figure, [f"{v:.2f}" for v in rows[figure]["z_rms"]], rows[figure]["judged"], flush=True)
    return {"case": name, "noise": exact["noise"].values.tolist(), **rows}


def digits() -> tuple[xr.Dataset, dict[str, Any]]:
    """All figures over measurement noise and noise level, medians over four digits."""
    prior = load_prior("mnist-gmm")
    operator = GaussianSensing(40, prior.event_shape, seed=0)
    truths = torch.nn.functional.avg_pool2d(test_digits()[0], 2)[[3, 8, 13, 17]]
    groups = []
    for sigma in SIGMAS:
        each = []
        for i, x in enumerate(truths):
            model, data = measured(prior, operator, Gaussian, sigma, x, seed=i)
            tree = bir.jensen_gap(model, data, points=x, levels=LEVELS, seed=i, progress=False)
            each.append(tree["jensen_gap"].dataset.assign_coords(draw=[i]))
        groups.append(xr.concat(each, "draw", data_vars="minimal", compat="override", coords="minimal"))
    found = xr.concat(groups, "sigma", data_vars="all", coords="minimal", compat="override")
    found = found.assign_coords(sigma=SIGMAS)
    # Of likelihoods without their normalising constant, exp(-|y - A x|^2 / (2 sigma^2)) <= 1, at every sigma alike.
    plain = 0.5 * 40 * np.log(2 * np.pi * found["sigma"] ** 2)
    found["log_plain_gap"] = found["log_jensen_gap"].sel(denoising_posterior="Point") + plain
    found["log_plain_bound"] = found["log_bound"] + plain
    middle = found.median("draw")
    rows: dict[str, Any] = {
        "sigma": SIGMAS,
        "noise": LEVELS,
        "log10_gap_of_plain_likelihoods": (middle["log_plain_gap"] / math.log(10)).values.tolist(),
        "log10_published_bound": (middle["log_bound_published"] / math.log(10)).values.tolist(),
        "log10_bound": (middle["log_plain_bound"] / math.log(10)).values.tolist(),
        "published_bound_broken": int((found["log_plain_gap"] > found["log_bound_published"]).sum()),
        "bound_broken": int((found["log_plain_gap"] > found["log_plain_bound"]).sum()),
        "of": int(found["log_plain_gap"].size),
    }
    for name in ("relative_error", "norm_ratio", "cosine"):
        rows[name] = {
            str(q): middle[name].sel(denoising_posterior=q).transpose("sigma", "time").values.tolist()
            for q in found["denoising_posterior"].values
        }
    return found, rows


def learned() -> list[dict[str, Any]]:
    prior, x = load_prior("mnist"), test_digits()[0][3]
    operator = GaussianSensing(8, prior.event_shape, seed=0)
    rows = []
    for sigma, ratio, steps in ((0.3, 0.1, 12), (3.0, 0.1, 12), (3.0, 0.1, 48)):
        model, data = measured(prior, operator, Gaussian, sigma, x, seed=0)
        started = time.perf_counter()
        tree = bir.jensen_gap(
            model,
            data,
            points=x,
            levels=[ratio],
            inner_draws=240,
            inner_steps=steps,
            least_ess=30,
            progress=False,
        )
        group = tree["jensen_gap"].dataset.isel(time=0, draw=0)
        names = (
            "log_likelihood",
            "log_likelihood_error",
            "score_norm",
            "score_norm_error",
            "ess",
            "inner_draws",
        )
        row: dict[str, Any] = {
            "sigma": sigma,
            "noise": ratio,
            "inner_steps": steps,
            "seconds": round(time.perf_counter() - started, 1),
        }
        row |= {name: _number(group[name]) for name in (*names, "inner_bias", "reason")}
        for q in group["denoising_posterior"].values:
            own = group.sel(denoising_posterior=q)
            row[str(q)] = {
                name: _number(own[name])
                for name in (
                    "relative_error",
                    "relative_error_error",
                    "norm_ratio",
                    "norm_ratio_error",
                    "cosine",
                )
            }
        rows.append(row)
        print(row, flush=True)
    return rows


def _number(value: Any) -> float | None:
    return None if math.isnan(float(value)) else float(value)


def draw(found: xr.Dataset) -> None:
    """The picture: a gap that vanishes at both ends of the measurement noise, and a score that is wrong at one."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    at, middle = LEVELS.index(0.3), found.median("draw")
    with sns.axes_style("ticks"), sns.plotting_context("paper"):
        figure, (left, centre, right) = plt.subplots(1, 3, figsize=(11.5, 3.9), layout="constrained")
        blue, orange, green = sns.color_palette("colorblind")[:3]
        for name, label, colour, style in (
            ("log_plain_gap", "Jensen gap", blue, "o-"),
            ("log_bound_published", "bound as published", orange, "s--"),
            ("log_plain_bound", "bound with its slope put right", green, "^:"),
        ):
            left.plot(
                SIGMAS,
                middle[name].isel(time=at) / math.log(10),
                style,
                color=colour,
                markersize=4,
                label=label,
            )
        left.axhline(0, color="0.7", linewidth=0.8)
        left.set(
            xscale="log",
            ylim=(-90, 15),
            xlabel="measurement noise sigma",
            ylabel="log10 of the gap of likelihoods",
            title=f"the gap shrinks with sigma, where DPS is worst;\nthe printed bound below it (b/a = {LEVELS[at]})",
        )
        left.legend(frameon=False, fontsize="small")
        palette = sns.color_palette("viridis", len(SIGMAS))
        errors = middle["relative_error"].sel(denoising_posterior="Point")
        for i, sigma in enumerate(SIGMAS):
            centre.plot(
                LEVELS, errors.sel(sigma=sigma), "o-", color=palette[i], markersize=3, label=f"{sigma:g}"
            )
        centre.set(
            xscale="log",
            yscale="log",
            xlabel="noise level b/a",
            ylabel="relative error of the score",
            title="DPS (Point): wrong by orders of magnitude\nat small sigma, right at large",
        )
        centre.legend(frameon=False, fontsize="x-small", title="sigma", ncols=2)
        for q, colour, marker in zip(
            found["denoising_posterior"].values, sns.color_palette("colorblind"), "osD^v", strict=False
        ):
            values = middle["relative_error"].sel(denoising_posterior=q).isel(time=at)
            right.plot(
                SIGMAS, np.maximum(values, 1e-4), marker=marker, color=colour, markersize=4, label=str(q)
            )
        right.set(
            xscale="log",
            yscale="log",
            xlabel="measurement noise sigma",
            ylabel="relative error of the score",
            title=f"every denoising posterior\n(b/a = {LEVELS[at]})",
        )
        right.legend(frameon=False, fontsize="small")
        for axes in (centre, right):
            axes.axhline(0.1, color="0.4", linestyle="--", linewidth=0.8)
        sns.despine(figure)
        figure.savefig(Path(__file__).parent / "results" / "jensen_gap.png", dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ["gaussian", "mixture", "digits", "learned"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    only = parser.parse_args().only
    torch.set_num_threads(1)
    figures = dict(kept_results("jensen_gap") or {})
    if "gaussian" in only:
        figures["gaussian"] = [against_exact("gaussian", gaussian_prior(), Gaussian, 0.7)]
    if "mixture" in only:
        cases = (("mixture, Gaussian data", Gaussian, 0.7), ("mixture, one-bit data", OneBit, 0.3))
        figures["mixture"] = [against_exact(name, mixture_prior(), channel, s) for name, channel, s in cases]
    if "digits" in only:
        found, figures["digits"] = digits()
        draw(found)
        print({k: v for k, v in figures["digits"].items() if "broken" in k or k == "of"}, flush=True)
    if "learned" in only:
        figures["learned"] = learned()
    write_results("jensen_gap", figures)


if __name__ == "__main__":
    main()

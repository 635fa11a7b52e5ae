"""What ``bayes-ir run`` does: sample a shipped problem, write everything down, print what a person wants to know."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayes_ir.api import sample
from bayes_ir.cli_list import kernels
from bayes_ir.inference import Exact, Kernel
from bayes_ir.problems import InverseProblem, build_problem
from bayes_ir.words import look_up

if TYPE_CHECKING:
    import pandas
    import xarray

__all__ = ["build_kernel", "compare_with_exact", "run_problem"]


def run_problem(
    name: str,
    out: Path,
    *,
    kernel: str | None,
    settings: Sequence[str],
    draws: int,
    chains: int,
    seed: int,
    image: int | None,
    device: str | None,
    resume: bool,
) -> xarray.DataTree:
    """Sample a shipped problem into ``out``: ``posterior.zarr``, two CSV tables and ``uncertainty.png``.

    Raises:
        ValueError: for unknown names or settings, or a store in ``out`` made with others.
        OSError: when ``out`` cannot be written.
    """
    from rich.console import Console

    from bayes_ir.analysis import plot_uncertainty, summary

    problem = build_problem(name, image, seed)
    chosen = build_kernel(kernel, settings, problem)
    out.mkdir(parents=True, exist_ok=True)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{name}: {chosen!r}, {chains} chains of {draws} draws")
    posterior = sample(
        problem.model,
        chosen,
        problem.data,
        draws=draws,
        chains=chains,
        seed=seed,
        device=device,
        store=out / "posterior.zarr",
        resume=resume,
    )
    truth = problem.truth.cpu().numpy()
    tables = summary(posterior, truth)
    print(tables)
    tables.to_csv(out / "summary.csv")
    plot_uncertainty(posterior, truth).savefig(out / "uncertainty.png", dpi=150, bbox_inches="tight")
    if name.startswith("exact"):
        comparison = compare_with_exact(problem, posterior, seed)
        print("\nAgainst the exact posterior\n" + comparison.to_string(float_format="{:.4f}".format))
        comparison.to_csv(out / "exact.csv")
    console.print(f"\nwrote {out / 'posterior.zarr'}, summary-*.csv and uncertainty.png")
    return posterior


def build_kernel(name: str | None, settings: Sequence[str], problem: InverseProblem) -> Kernel:
    """The kernel a command line names, with settings given as ``NAME=VALUE``.

    Without a name, the problem's own kernel; the settings change it either way.

    Raises:
        ValueError: for an unknown kernel or setting, each with the nearest one that exists.
    """
    own = problem.kernel
    if name is None or name == type(own).__name__:
        kernel = own
    else:
        kernel = look_up("kernel", name, kernels())()
    known = {field.name: field for field in fields(kernel)}
    values: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise ValueError(f"--set {setting!r}: expected NAME=VALUE, such as --set step_size=0.2.")
        look_up(f"setting of {type(kernel).__name__}", key, known)
        try:
            values[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            raise ValueError(f"--set {setting!r}: {text!r} is not a number, True or False.") from None
    return replace(kernel, **values)


def compare_with_exact(problem: InverseProblem, posterior: xarray.DataTree, seed: int) -> pandas.DataFrame:
    """Errors of a posterior against the exact one, beside those of a second set of exact draws.

    Rows: error of the mean in posterior standard deviations (root mean square over pixels), ratio of the
    standard deviations (mean over pixels), sliced Wasserstein distance.  The column ``floor`` is what an exact
    sampler shows with as many draws.
    """
    import numpy as np
    import pandas as pd

    from bayes_ir.analysis import sliced_wasserstein

    def draws_of(tree: xarray.DataTree) -> np.ndarray:
        x = np.asarray(tree["posterior"]["x"])
        return x.reshape(-1, *x.shape[2:])

    count = posterior["posterior"].sizes["draw"], posterior["posterior"].sizes["chain"]
    exact, again = (
        draws_of(
            sample(
                problem.model, Exact(), problem.data, draws=count[0], chains=count[1], seed=s, progress=False
            )
        )
        for s in (seed + 1_000_001, seed + 1_000_002)
    )

    def errors(draws: np.ndarray) -> dict[str, float]:
        sd = exact.std(axis=0)
        return {
            "mean error / sd": float(np.sqrt((((draws.mean(axis=0) - exact.mean(axis=0)) / sd) ** 2).mean())),
            "sd ratio": float((draws.std(axis=0) / sd).mean()),
            "sliced Wasserstein": sliced_wasserstein(draws, exact),
        }

    return pd.DataFrame({"this kernel": errors(draws_of(posterior)), "floor": errors(again)})

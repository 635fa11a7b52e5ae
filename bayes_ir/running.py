"""What ``bayes-ir run`` does: sample a problem, write everything down, print what a person wants to know."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayes_ir.api import sample
from bayes_ir.inference import Exact, Kernel, kernels
from bayes_ir.model_graph import model_relations
from bayes_ir.problems import InverseProblem, build_problem
from bayes_ir.problems.own_image import operator_builders, own_problem
from bayes_ir.provenance import versions
from bayes_ir.run_record import EXACT, RunRecord, write_record
from bayes_ir.words import look_up

if TYPE_CHECKING:
    import pandas
    import xarray

__all__ = ["build_kernel", "choose_problem", "compare_with_exact", "run_problem"]


def choose_problem(
    name: str | None,
    operator: str | None,
    image: str | None,
    settings: Mapping[str, Any],
    noise_std: float,
    prior: str,
    seed: int,
) -> tuple[InverseProblem, dict[str, Any]]:
    """The problem a command line asks for, and the settings that are left for the kernel.

    With an operator, its own settings are taken out by name; a setting that both know goes to the operator.

    Raises:
        ValueError: unless there is either a problem or an operator with an image file, or for unknown names.
    """
    if (name is None) == (operator is None):
        raise ValueError(
            "run: expected either the name of a shipped problem (see `bayes-ir list`) or --operator NAME with "
            "--image FILE."
        )
    if operator is None:
        if image is not None and not image.isdecimal():
            raise ValueError(
                f"--image {image}: expected the number of a shipped digit; a file needs --operator NAME."
            )
        return build_problem(str(name), None if image is None else int(image), seed), dict(settings)
    if image is None:
        raise ValueError(f"--operator {operator}: expected --image FILE, the image to measure.")
    own = look_up("operator", operator, operator_builders())
    known = set(inspect.signature(own).parameters)
    of_kernel = {key for key in settings if key not in known and key in _kernel_settings()}
    of_operator = {key: value for key, value in settings.items() if key not in of_kernel}
    problem = own_problem(Path(image), operator, of_operator, noise_std, prior, seed)
    return problem, {key: settings[key] for key in of_kernel}


def _kernel_settings() -> set[str]:
    return {field.name for entry in kernels().values() for field in fields(entry.kernel)}


def run_problem(
    problem: InverseProblem,
    chosen: Kernel,
    out: Path,
    *,
    draws: int,
    chains: int,
    seed: int,
    device: str | None,
    resume: bool,
    command: str = "",
) -> xarray.DataTree:
    """Sample a problem into ``out``: ``posterior.zarr``, two CSV tables and ``uncertainty.png``.

    Beside them ``run.json`` and ``truth.npy``, which a report is made from; they are there from the first draw on, and
    of a store that is gone on with they are renewed at the end.

    Raises:
        ValueError: for a store in ``out`` made with other settings, or a kernel that cannot serve the problem.
        OSError: when ``out`` cannot be written.
    """
    from rich.console import Console

    from bayes_ir.analysis import plot_uncertainty, summary

    out.mkdir(parents=True, exist_ok=True)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{problem.name}: {chosen!r}, {chains} chains of {draws} draws")
    truth = problem.truth.cpu().numpy()
    record = RunRecord(
        problem.name, problem.about, command, model_relations(problem.model, problem.data), versions()
    )
    if not (out / "posterior.zarr").exists():
        write_record(out, record, truth)
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
    write_record(out, record, truth)
    tables = summary(posterior, truth)
    print(tables)
    tables.to_csv(out / "summary.csv")
    plot_uncertainty(posterior, truth).savefig(out / "uncertainty.png", dpi=150, bbox_inches="tight")
    if problem.name.startswith("exact"):
        comparison = compare_with_exact(problem, posterior, seed)
        print("\nAgainst the exact posterior\n" + comparison.to_string(float_format="{:.4f}".format))
        comparison.to_csv(out / EXACT)
    console.print(f"\nwrote {out / 'posterior.zarr'}, summary-*.csv and uncertainty.png")
    return posterior


def build_kernel(name: str | None, settings: Mapping[str, Any], own: Kernel) -> Kernel:
    """The kernel a command line names, with its settings.

    Without a name, the problem's own kernel; the settings change it either way.

    Raises:
        ValueError: for an unknown kernel or setting, each with the nearest one that exists.
    """
    kernel = own if name in (None, type(own).__name__) else _default_of(str(name))
    known = {field.name: field for field in fields(kernel)}
    for key, value in settings.items():
        look_up(f"setting of {type(kernel).__name__}", key, known)
        if isinstance(value, str) and not isinstance(getattr(kernel, key), str):
            raise ValueError(f"--set {key}={value}: {value!r} is not a number, True or False.")
    return replace(kernel, **settings)


def _default_of(name: str) -> Kernel:
    """The kernel of a name with its default settings."""
    kind = look_up("kernel", name, kernels()).kernel
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if needed:
        raise ValueError(
            f"--kernel {name} needs {', '.join(needed)}, which only Python can say; use bayes_ir.sample."
        )
    return kind()


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

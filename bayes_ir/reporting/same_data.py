"""Runs may be compared when they are posteriors of the same image from the same measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bayes_ir.reporting.opening import Run

__all__ = ["common_truth", "distinct_names", "refuse_other_data"]


def refuse_other_data(runs: Sequence[Run]) -> None:
    """Every run against the first: image site, shape of an image, measurements, bit by bit.

    Raises:
        ValueError: fewer than two runs, or the first difference that is found, in words.
    """
    if len(runs) < 2:
        raise ValueError(f"compare: got {len(runs)} run; expected at least two runs of the same data")
    first = runs[0]
    for run in runs[1:]:
        pair = f"{first.name} and {run.name} cannot be compared"
        mine, other = _image(first), _image(run)
        if mine != other:
            raise ValueError(
                f"{pair}: the first is a posterior of {mine[0]} with draws of shape {mine[1]}, the second of "
                f"{other[0]} with {other[1]}; give runs of one problem"
            )
        y, z = _observed(first), _observed(run)
        if y.keys() != z.keys():
            raise ValueError(
                f"{pair}: they observe different sites, {sorted(y)} and {sorted(z)}; give runs of one problem"
            )
        for site in y:
            if y[site].shape != z[site].shape:
                raise ValueError(
                    f"{pair}: the data {site} have {y[site].size} and {z[site].size} numbers; give runs of one problem"
                )
            same = (y[site] == z[site]) | (np.isnan(y[site]) & np.isnan(z[site]))
            if not same.all():
                raise ValueError(
                    f"{pair}: their data differ, {site} in {int((~same).sum())} of {same.size} measurements; give runs "
                    "with the same problem, image and --seed (a seed makes the noise too)"
                )


def common_truth(runs: Sequence[Run]) -> np.ndarray | None:
    """The truth that the runs know; `None` if none does.

    Raises:
        ValueError: two runs know different ones.
    """
    known = [run for run in runs if run.truth is not None]
    for run in known[1:]:
        if not np.array_equal(known[0].truth, run.truth):  # type: ignore[arg-type]
            raise ValueError(
                f"{known[0].name} and {run.name} know different truths though their data agree; one of the two "
                "files truth.npy is from another run: move it away"
            )
    return known[0].truth if known else None


def distinct_names(runs: Sequence[Run]) -> list[Run]:
    """The runs, those of one name numbered."""
    names = [run.name for run in runs]
    return [
        replace(run, name=f"{run.name} ({names[: i + 1].count(run.name)})")
        if names.count(run.name) > 1
        else run
        for i, run in enumerate(runs)
    ]


def _image(run: Run) -> tuple[str, tuple[int, ...]]:
    from bayes_ir.analysis.draws import posterior_draws

    draws = posterior_draws(run.posterior)
    return str(draws.name), tuple(draws.shape[2:])


def _observed(run: Run) -> dict[str, np.ndarray]:
    if "observed_data" not in run.posterior.children:
        raise ValueError(
            f"{run.name} has no group observed_data, so that its data cannot be compared; expected a posterior of "
            "bayes_ir.sample"
        )
    found = run.posterior["observed_data"].dataset.data_vars
    return {str(name): np.asarray(values.values, dtype=np.float64) for name, values in found.items()}

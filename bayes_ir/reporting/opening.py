"""A run as a report needs it: its posterior, and what was written beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayes_ir.run_record import RunRecord, read_exact, read_record, read_truth

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

__all__ = ["Run", "open_run"]

_STORE = "posterior.zarr"


@dataclass(frozen=True)
class Run:
    """A run that was opened.

    Attributes:
        name: what it is called on a page.
        posterior: its draws.
        record: what it was asked, if that was written down.
        truth: the truth, if it is known.
        exact: its errors against the exact posterior, beside those of exact draws, if that is known.
    """

    name: str
    posterior: xr.DataTree
    record: RunRecord | None = None
    truth: np.ndarray | None = None
    exact: pd.DataFrame | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Attributes of the root of the posterior."""
        return {str(name): value for name, value in self.posterior.attrs.items()}

    @property
    def unfinished(self) -> str:
        """Which part of an unfinished run this is; empty for a finished one."""
        return str(self.posterior.attrs.get("partial", ""))

    @property
    def kernel(self) -> str:
        """The kernel's name."""
        return str(self.posterior.attrs.get("kernel", "unknown kernel")).split("(")[0]


def open_run(path: str | os.PathLike[str], *, partial: bool = False) -> Run:
    """Open a folder that `bayes-ir run` made, or a store of `bayes_ir.sample`.

    What was written beside a store called `posterior.zarr` belongs to it.

    Args:
        path: the folder, or the store itself.
        partial: whether the finished part of an unfinished run will do.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: it holds no posterior, or an unfinished one and `partial` is not set.
    """
    from bayes_ir.analysis import open_posterior

    folder = Path(path)
    if not folder.exists():
        raise FileNotFoundError(f"there is no run at {folder}")
    whole = (folder / _STORE).exists()
    if not whole and not (folder / "blocks").is_dir():
        raise ValueError(
            f"{folder} holds no {_STORE} and is no posterior store itself; expected a folder made by `bayes-ir run`, "
            "or the store= of bayes_ir.sample"
        )
    posterior = open_posterior(folder / _STORE if whole else folder, partial=True)
    beside = folder if whole else folder.resolve().parent if folder.name == _STORE else None
    run = Run(
        folder.resolve().name if whole or beside is None else beside.name,
        posterior,
        None if beside is None else read_record(beside),
        None if beside is None else read_truth(beside),
        None if beside is None else read_exact(beside),
    )
    if run.unfinished and not partial:
        raise ValueError(
            f"{folder} is unfinished: of its draws there are {run.unfinished}. Run the same command again to finish "
            "it, or ask for what there is with --partial (partial=True); the page will say so"
        )
    return run

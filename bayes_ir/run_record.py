"""What a run was asked, written beside its draws: `run.json`, `truth.npy` where the truth is known, and `exact.csv`
where the exact posterior is.

A store knows its settings, which its draws depend on.  The record holds what they do not depend on and a reader wants
to know: the name of the problem, the command that repeats it, the model as Pyro reads it.  It is no part of the store,
so that a store is resumed as before, and one without a record is still a posterior.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EXACT", "RunRecord", "command_line", "read_exact", "read_record", "read_truth", "write_record"]

FORMAT = "bayes_ir run, version 1"
EXACT = "exact.csv"
_RECORD, _TRUTH = "run.json", "truth.npy"


@dataclass(frozen=True)
class RunRecord:
    """What a run was asked.

    Attributes:
        problem: name of the problem.
        about: the problem in a sentence.
        command: the command that repeats it.
        model: relations of its model, of `model_relations`.
        versions: versions of the packages.
    """

    problem: str
    about: str = ""
    command: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def write_record(folder: Path, record: RunRecord, truth: Any = None) -> None:
    """Write the record into a folder, each file as a whole or not at all.

    Raises:
        OSError: when the folder cannot be written.
    """
    if truth is not None:
        beside = folder / f"{_TRUTH}.partial"
        with beside.open("wb") as file:
            np.save(file, np.asarray(truth))
        os.replace(beside, folder / _TRUTH)
    beside = folder / f"{_RECORD}.partial"
    beside.write_text(json.dumps({"format": FORMAT} | asdict(record), indent=1) + "\n", encoding="utf-8")
    os.replace(beside, folder / _RECORD)


def read_record(folder: Path) -> RunRecord | None:
    """The record in a folder; ``None`` where there is none, as of a run of an earlier version.

    Raises:
        ValueError: when what is there is no record of this version.
    """
    path = folder / _RECORD
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        made = found.pop("format")
        if made == FORMAT:
            return RunRecord(**found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is no record of a run ({error}); move it away to do without it, or run the command again, which "
            "writes it anew."
        ) from error
    raise ValueError(
        f"{path} has the format {made!r}; this version reads {FORMAT!r}. Move it away to do without it."
    )


def read_truth(folder: Path) -> np.ndarray | None:
    """The truth in a folder, ``None`` where there is none.

    Raises:
        ValueError: when the file is not one array of numbers.
    """
    path = folder / _TRUTH
    if not path.exists():
        return None
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is no array of numbers ({error}); move it away to do without the truth."
        ) from error


def read_exact(folder: Path) -> pd.DataFrame | None:
    """The comparison with the exact posterior in a folder, ``None`` where there is none.

    Raises:
        ValueError: when the file is no table of numbers.
    """
    import pandas as pd

    path = folder / EXACT
    if not path.exists():
        return None
    try:
        return pd.read_csv(path, index_col=0).astype(np.float64)
    except ValueError as error:
        raise ValueError(
            f"{path} is no table of numbers ({error}); move it away to do without the comparison."
        ) from error


def command_line(context: Any) -> str:
    """The command that a typer context was made by, with what was given and without what was left at its default."""
    words = ["bayes-ir", *context.command_path.split()[1:]]
    for parameter in context.command.params:
        if context.get_parameter_source(parameter.name).name != "COMMANDLINE":
            continue
        value = context.params[parameter.name]
        if parameter.param_type_name == "argument":
            words.append(str(value))
        elif isinstance(value, bool):
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                words += [parameter.opts[0], str(one)]
    return shlex.join(words)

"""Replications of a calibration on disk: one small file each, written beside its place and renamed into it.

A file that is there is whole, so a run that was killed at any instant goes on with the files that are missing. The
number of replications may grow between runs; everything else they depend on is in `settings.json` and may not change.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from bayes_ir.analysis.posterior import json_attributes

__all__ = ["ReplicationStore"]

_FORMAT = "bayes_ir calibration, version 1"


class ReplicationStore:
    """Keeps named arrays of each replication; in memory, or in a directory.

    Args:
        path: the directory, made here or by an earlier run with the same settings; None keeps all in memory.
        settings: everything that a replication depends on, JSON values.
        resume: whether to go on with a store that is there already.

    Raises:
        ValueError: the path holds something else, or replications made with other settings; each is named.
        FileExistsError: there is a store already and `resume` is False.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, settings: Mapping[str, Any], resume: bool = True
    ) -> None:
        self.path = None if path is None else Path(path)
        self._kept: dict[int, dict[str, np.ndarray]] = {}
        if self.path is None:
            return
        asked = {"format": _FORMAT} | json_attributes(settings)
        record = self.path / "settings.json"
        if self.path.exists() and (
            not self.path.is_dir() or (any(self.path.iterdir()) and not record.exists())
        ):
            raise ValueError(f"{self.path} holds something that is no calibration; choose another path.")
        if not record.exists():
            self.path.mkdir(parents=True, exist_ok=True)
            _put(record, (json.dumps(asked, indent=1) + "\n").encode())
            return
        if not resume:
            raise FileExistsError(
                f"{self.path} already holds a calibration and resume=False was given; choose another path, delete "
                "that directory yourself, or resume the run"
            )
        found = json.loads(record.read_text())
        other = [name for name in {**found, **asked} if found.get(name) != asked.get(name)]
        if other:
            told = "; ".join(f"{name} was {found.get(name)!r}, now {asked.get(name)!r}" for name in other)
            raise ValueError(f"{self.path} was made with other settings ({told}); choose another path.")

    def done(self, index: int) -> bool:
        """Whether replication `index` is there as a whole."""
        if self.path is None or index in self._kept:
            return index in self._kept
        return self._read(index) is not None

    def write(self, index: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep one replication."""
        if self.path is None:
            self._kept[index] = dict(arrays)
            return
        packed = BytesIO()
        np.savez(packed, allow_pickle=False, **arrays)
        _put(self._file(index), packed.getvalue())

    def read(self, index: int) -> dict[str, np.ndarray]:
        """The arrays of a replication that is there.

        Raises:
            KeyError: it is not.
        """
        found = self._kept[index] if self.path is None else self._read(index)
        if found is None:
            raise KeyError(f"replication {index} is not in {self.path}")
        return found

    def _file(self, index: int) -> Path:
        assert self.path is not None
        return self.path / f"{index:07d}.npz"

    def _read(self, index: int) -> dict[str, np.ndarray] | None:
        """The arrays of a file; None where it is missing or damaged, so that it is made again."""
        try:
            with np.load(BytesIO(self._file(index).read_bytes()), allow_pickle=False) as packed:
                return {name: packed[name] for name in packed.files}
        except (FileNotFoundError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None


def _put(path: Path, content: bytes) -> None:
    handle, beside = tempfile.mkstemp(prefix=".", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise

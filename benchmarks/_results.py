"""Where measured figures go: ``benchmarks/results/NAME.json``, with the machine that made them."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

__all__ = ["kept_results", "write_results"]


def kept_results(name: str) -> Any:
    """The figures written before under a name, for a study that goes on; an empty list if there are none."""
    path = _path(name)
    return json.loads(path.read_text())["figures"] if path.exists() else []


def _path(name: str) -> Path:
    return Path(__file__).parent / "results" / f"{name}.json"


def write_results(name: str, figures: Any) -> None:
    """Write figures, the command and the machine as JSON."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    record = {
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{device}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}",
        "bayes_ir": version("bayes-ir"),
        "figures": figures,
    }
    path = _path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")

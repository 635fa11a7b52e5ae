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

__all__ = ["write_results"]


def write_results(name: str, figures: Any) -> None:
    """Write figures, the command and the machine as JSON."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    record = {
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{device}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}",
        "bayes_ir": version("bayes-ir"),
        "figures": figures,
    }
    path = Path(__file__).parent / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {path}")

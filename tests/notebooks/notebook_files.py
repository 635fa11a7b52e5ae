"""What is asked of every notebook: that its script runs, and that the executed notebook beside it is that script's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
BYTES = 400_000
SECONDS = 600  # of a short run, on a machine that does much else
# A path of somebody's machine: /tmp/x, /home/x, C:\x; not part of an address or of a longer word.
_PATH = re.compile(r"(?<![\w.:/])(?:/(?:tmp|home|work|root|usr|opt|var|mnt|private|Users)/|[A-Z]:\\)[\w.-]+")


def run_short(source: Path, folder: Path) -> None:
    """Runs a notebook as the script that it is, in a folder of its own; a failure shows the line and the cell."""
    ran = subprocess.run(
        [sys.executable, str(source)],
        env={**os.environ, "BAYES_IR_SHORT": "1", "MPLBACKEND": "Agg"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    if ran.returncode:
        found = re.findall(rf'File "{re.escape(str(source))}", line (\d+)', ran.stderr)
        cell = cell_at(source.read_text(), int(found[0])) if found else "?"
        raise AssertionError(f"{source.name} failed in\n\n{cell}\n\n{ran.stderr}")


def cell_at(text: str, line: int) -> str:
    """The cell of a script in the percent format that has the line, counted from 1."""
    lines = text.split("\n")
    starts = [i for i, told in enumerate(lines) if told.startswith("# %%")]
    start = max((i for i in starts if i < line), default=0)
    end = min((i for i in starts if i >= line), default=len(lines))
    return "\n".join(lines[start:end]).strip()


def faults(source: Path) -> list[str]:
    """What is wrong with the executed notebook beside a source."""
    path = source.with_suffix(".ipynb")
    if not path.exists():
        return [f"there is no {path.name}; run `make notebooks`"]
    notebook = nbformat.read(path, as_version=4)
    found = []
    if path.stat().st_size > BYTES:
        found.append(f"{path.name} has {path.stat().st_size} bytes, above {BYTES}")
    written, made = _cells(jupytext.read(source)), _cells(notebook)
    if written != made:
        first = next(
            (i for i, pair in enumerate(zip(written, made, strict=False)) if pair[0] != pair[1]), None
        )
        where = f"{len(made)} cells, not {len(written)}" if first is None else f"another cell {first}"
        found.append(f"{path.name} has {where}; run `make notebooks`")
    code = [(i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    if [cell.execution_count for _, cell in code] != list(range(1, len(code) + 1)):
        found.append("the cells were not run once each and in order")
    for number, cell in code:
        if any(output.output_type == "error" for output in cell.outputs):
            found.append(f"cell {number} ended in an error")
    for number, cell in enumerate(notebook.cells):
        texts = [cell.source, *(text for output in cell.get("outputs", []) for text in _texts(output))]
        found += [f"cell {number} has the path {told}" for text in texts for told in _PATH.findall(text)]
    return found


def _cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def _texts(output: nbformat.NotebookNode) -> list[str]:
    """Text of an output; of pictures there is none to read."""
    if output.output_type == "stream":
        return [output.text]
    if output.output_type == "error":
        return output.traceback
    return [value for kind, value in output.data.items() if isinstance(value, str) and kind != "image/png"]

"""Runs the notebooks from first cell to last and writes them beside their sources, outputs included.

    python docs/execute_notebooks.py
    python docs/execute_notebooks.py notebooks/1_one_bit.py

A notebook is edited as `notebooks/NAME.py` (jupytext's percent format); `notebooks/NAME.ipynb` is made from it and not
edited. Cells are numbered instead of named at random and no times are kept, so that a run that gives the same figures
gives the same file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
SECONDS = 1800  # of one cell


def executed(source: Path) -> nbformat.NotebookNode:
    """The notebook of a source, run in the folder of the source.

    Raises:
        nbclient.exceptions.CellExecutionError: with the cell and its traceback.
    """
    notebook = jupytext.read(source)
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name=KERNEL["name"],
        record_timing=False,
        resources={"metadata": {"path": str(source.parent)}},
    )
    # Progress bars of libraries ask for widgets, of which a page has none, and name a path of this machine.
    notebook = client.execute(env={**os.environ, "PYTHONWARNINGS": "ignore:IProgress not found"})
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells):
        cell["id"], cell["metadata"] = f"cell-{number}", {}
    return notebook


def main(names: Iterable[Path]) -> None:
    for source in names:
        target = source.with_suffix(".ipynb")
        nbformat.write(executed(source), target)
        print(f"{target.name}: {target.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="*", type=Path, help="which, by default all of notebooks/*.py")
    main(parser.parse_args().sources or sorted(NOTEBOOKS.glob("*.py")))

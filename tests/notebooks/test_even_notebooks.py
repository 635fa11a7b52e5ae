"""Notebooks of even number in their short mode; a file to each half, since a file keeps to one process."""

import pytest
from notebook_files import SOURCES, run_short

SOURCES_HERE = [source for source in SOURCES if int(source.stem.split("_")[0]) % 2 == 0]


@pytest.mark.parametrize("source", SOURCES_HERE, ids=lambda source: source.stem)
def test_a_notebook_runs(source, tmp_path):
    run_short(source, tmp_path)

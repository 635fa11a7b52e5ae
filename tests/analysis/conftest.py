import pytest
from made_blocks import SETTINGS, constants, make_layout, observed, run

from bayes_ir.analysis.store import MemorySink


@pytest.fixture
def layout():
    return make_layout()


@pytest.fixture
def memory_run():
    """A finished run in memory: memory_run(layout, diverging=...)."""

    def make(layout, settings=SETTINGS, **how):
        return run(MemorySink(layout, observed(layout), constants(layout), settings), **how)

    return make

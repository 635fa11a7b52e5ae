import matplotlib
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


@pytest.fixture
def closed_figures():
    """Figures are closed after the test, and it changed nobody's style."""
    import matplotlib.pyplot as plt

    matplotlib.use("Agg")
    before = dict(matplotlib.rcParams)
    yield
    plt.close("all")
    assert dict(matplotlib.rcParams) == before

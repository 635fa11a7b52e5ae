import importlib

import arviz_base
import arviz_stats
import matplotlib
import numpy as np
import pytest
from made_blocks import SETTINGS, constants, make_layout, observed, run

from bayes_ir.analysis.zarr_store import ZarrSink

LAYOUT = make_layout(event_shape=(1, 2, 2), draws=30, chains=4, block_size=10)


@pytest.fixture(params=["memory", "store"])
def tree(request, memory_run, tmp_path):
    if request.param == "memory":
        return memory_run(LAYOUT)
    return run(ZarrSink(tmp_path / "s.zarr", LAYOUT, observed(LAYOUT), constants(LAYOUT), SETTINGS))


def test_arviz_stats_reads_the_tree(tree):
    table = arviz_stats.summary(tree, round_to="none")
    pooled = tree["posterior"]["x"].values.reshape(120, 4)
    assert list(table.index) == [f"x[0, {row}, {column}]" for row in range(2) for column in range(2)]
    np.testing.assert_allclose(table["mean"], pooled.mean(0), rtol=1e-5)
    effective = arviz_stats.ess(tree)["x"]
    assert effective.dims == ("x_channel", "x_row", "x_column") and (effective > 30).all()
    assert arviz_stats.loo(tree).n_data_points == 5
    assert arviz_base.extract(tree).sizes["sample"] == 120


def test_arviz_plots_and_the_preview_of_arviz_read_the_tree(tree):
    matplotlib.use("Agg")
    try:
        az = importlib.import_module("arviz.preview")  # ArviZ before 1.0
    except ModuleNotFoundError:
        az = importlib.import_module("arviz")
    assert az.rhat(tree)["x"].shape == (1, 2, 2)
    collection = az.plot_trace(tree, var_names="x", backend="matplotlib")
    assert len(np.ravel(collection.get_viz("figure").axes)) == 4
    matplotlib.pyplot.close("all")

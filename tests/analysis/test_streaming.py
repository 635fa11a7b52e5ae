"""A stored posterior read in pieces gives what all draws in memory give, and holds no more than a piece."""

import shutil
import tracemalloc
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from made_blocks import SETTINGS, constants, make_block, make_layout, observed, run
from xarray.backends import BackendArray
from xarray.core import indexing

from bayes_ir import analysis
from bayes_ir.analysis import streaming
from bayes_ir.analysis.draws import posterior_draws
from bayes_ir.analysis.zarr_store import ZarrSink

LAYOUT = make_layout(event_shape=(2, 6, 5), draws=23, chains=3, block_size=4)


def softmax(images):
    scores = np.exp(images.reshape(len(images), -1)[:, :3])
    return scores / scores.sum(axis=1, keepdims=True)


CHOSEN = {"mean": np.mean, "area": analysis.AreaAbove(0.3), "edge": analysis.EdgePosition(row=2)}
STATISTICS = {
    "mean_map": analysis.mean_map,
    "sd_map": analysis.sd_map,
    "median_map": analysis.median_map,
    "quantile_map": lambda p: analysis.quantile_map(p, [0.1, 0.7]),
    "interval_map": analysis.interval_map,
    "hdi_map": analysis.hdi_map,
    "interval_width_map": lambda p: analysis.interval_width_map(p, kind="hdi"),
    "exceedance_map": lambda p: analysis.exceedance_map(p, 0.2),
    "probability_map": lambda p: analysis.probability_map(p, lambda x: x > np.roll(x, 1, -1)),
    "correlation_map": lambda p: analysis.correlation_map(p, (0,) * (posterior_draws(p).ndim - 2)),
    "correlation_with_a_functional": lambda p: analysis.correlation_map(p, np.mean),
    # As many columns as pixels: settled after one pass, though the draws are white.
    "principal_modes": lambda p: analysis.principal_modes(p, 3, oversampling=100),
    "functional_draws": lambda p: analysis.functional_draws(p, CHOSEN)["posterior"].to_dataset(),
    "functional_table": lambda p: xr.Dataset(analysis.functional_table(p, CHOSEN)),
    "decision_entropy": lambda p: analysis.decision_entropy(p, softmax),
    "draws_needed": lambda p: xr.Dataset(vars(analysis.draws_needed(p, np.mean, 0.01))),
    "summary": lambda p: xr.Dataset(analysis.summary(p).functionals),
}


TILED = ("median_map", "quantile_map", "interval_map", "hdi_map", "interval_width_map")
DIVERGING = {(0, 1), (2, 22), (2, 20)}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "s.zarr"
    return run(ZarrSink(path, LAYOUT, observed(LAYOUT), constants(LAYOUT), SETTINGS), diverging=DIVERGING)


@pytest.mark.filterwarnings("ignore::bayes_ir.analysis.NonFiniteDrawsWarning")
@pytest.mark.parametrize("name", STATISTICS)
def test_streamed_equals_in_memory_to_rounding(name, tree, memory_run, monkeypatch):
    in_memory = STATISTICS[name](memory_run(LAYOUT, diverging=DIVERGING))
    xr.testing.assert_allclose(STATISTICS[name](tree), in_memory, rtol=1e-12, atol=1e-13)
    if name in TILED:
        size = 3 * 23 * 4
        monkeypatch.setattr(streaming, "_TILE_BYTES", 20 * size)  # 4 tiles, straight from the store
        xr.testing.assert_identical(STATISTICS[name](tree), in_memory)
        monkeypatch.setattr(streaming, "_TILE_BYTES", 7 * size)  # 12 tiles, by the scratch file
        xr.testing.assert_identical(STATISTICS[name](tree), in_memory)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
        xr.testing.assert_identical(STATISTICS[name](tree), in_memory)


@pytest.mark.parametrize("shape", [(), (7,), (2, 7, 5), (3, 1, 4, 4), (2, 0)])
@pytest.mark.parametrize("pixels", [1, 5, 12, 1000])
def test_tiles_cover_every_pixel_once_and_keep_within_their_size(shape, pixels):
    seen = np.zeros(shape, dtype=int)
    for tile in streaming._tiles(shape, pixels):
        assert seen[tile].size <= pixels
        seen[tile] += 1
    assert (seen == 1).all()


class Recording(BackendArray):
    """An array on no disk that remembers how much of it was asked for at a time."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.asked = values, values.shape, values.dtype, []

    def __getitem__(self, key):
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key):
        # An outer index: a list of draws or pixels is not expected, only numbers and slices.
        part = self.values[key]
        self.asked.append(part.nbytes)
        return part


def recorded(path, source=True):
    values = np.random.default_rng(3).normal(size=(2, 200, 1, 8, 8)).astype("float32")
    array = Recording(values)
    dims = ("chain", "draw", "x_channel", "x_row", "x_column")
    variable = xr.Variable(
        dims, indexing.LazilyIndexedArray(array), encoding={"preferred_chunks": {"draw": 20}}
    )
    if source:
        variable.encoding["source"] = str(path / "s.zarr")
    return array, xr.Dataset({"x": variable})


@pytest.mark.parametrize("name", STATISTICS)
def test_no_more_than_a_block_is_asked_for_and_each_but_a_few_times(name, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "_TILE_BYTES", 4 * 400 * 4)  # 16 tiles of 4 pixels: by the scratch file
    array, data = recorded(tmp_path)
    STATISTICS[name](data)
    block, whole = 20 * 64 * 4, array.values.nbytes
    assert max(array.asked) == block
    assert sum(array.asked) == {"summary": 3, "principal_modes": 2}.get(name, 1) * whole
    assert not list(tmp_path.iterdir())  # the scratch file has no name


@pytest.mark.parametrize("name", ["median_map", "hdi_map"])
def test_draws_that_are_nowhere_on_a_disk_are_read_tile_by_tile(name, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "_TILE_BYTES", 16 * 400 * 4)
    array, data = recorded(tmp_path, source=False)
    STATISTICS[name](data)
    assert max(array.asked) == 16 * 400 * 4 and sum(array.asked) == 2 * array.values.nbytes


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """2.6 MiB of draws, 5.3 in float64; a block is 0.1."""
    layout = make_layout(event_shape=(1, 24, 24), draws=600, chains=2, block_size=50)
    sink = ZarrSink(tmp_path_factory.mktemp("larger") / "s.zarr", layout, observed(layout))
    return run(sink)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_store_needs_memory_for_a_block_and_a_tile(name, larger, monkeypatch):
    monkeypatch.setattr(streaming, "_TILE_BYTES", 2**17)  # 21 tiles
    how = STATISTICS[name]
    if name == "principal_modes":  # no more columns than need be held
        how = partial(analysis.principal_modes, k=3, passes=1, tolerance=np.inf)
    peaks = []
    for _ in range(2):  # of what is imported or cached on the way the first run may bear the cost
        tracemalloc.start()
        try:
            how(larger)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert min(peaks) < 1.3 * 2**20


def test_a_stored_posterior_knows_where_it_is_and_can_be_written_elsewhere(tree, tmp_path):
    draws = posterior_draws(tree)
    assert streaming._scratch_place(draws) is not None
    assert streaming._scratch_place(draws.copy(data=draws.values).drop_encoding()) is None
    tree.to_zarr(tmp_path / "copy.zarr", consolidated=False)
    again = xr.open_datatree(tmp_path / "copy.zarr", engine="zarr", consolidated=False)
    xr.testing.assert_identical(again["posterior"].to_dataset(), tree["posterior"].to_dataset())


def test_a_scratch_file_goes_where_there_is_room(tmp_path, monkeypatch):
    draws = posterior_draws(recorded(tmp_path)[1])
    assert streaming._scratch_place(draws) == tmp_path
    monkeypatch.setattr(streaming.os, "access", lambda path, mode: path != tmp_path)
    monkeypatch.setattr(streaming, "gettempdir", lambda: str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    assert streaming._scratch_place(draws) == tmp_path / "elsewhere"


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    layout = make_layout(event_shape=(1, 4, 3), draws=40, chains=2, block_size=8)
    sink = ZarrSink(tmp_path_factory.mktemp("unfinished") / "s.zarr", layout, observed(layout))
    for chain, index in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 3)):
        sink.write(make_block(layout, chain, index))
    return sink


@pytest.mark.parametrize("name", STATISTICS)
def test_a_store_still_being_written_is_shown_as_far_as_it_is_there(name, unfinished, memory_run):
    with pytest.raises(ValueError, match=r"holds 6 of 10 blocks: the run has not finished.*partial=True"):
        analysis.open_posterior(unfinished.path)
    shown = analysis.open_posterior(unfinished.path, partial=True)
    leading = memory_run(unfinished.layout)["posterior"].to_dataset().isel(draw=slice(16))
    xr.testing.assert_allclose(STATISTICS[name](shown), STATISTICS[name](leading), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_run_without_draws_of_an_image_is_refused(name):
    tree = xr.DataTree.from_dict({"observed_data": xr.Dataset({"y": ("y_dim_0", np.ones(3))})})
    with pytest.raises(ValueError, match=r"the tree has no group 'posterior', only \['observed_data'\]"):
        STATISTICS[name](tree)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_run_without_a_finite_draw_is_refused(name):
    values = np.full((2, 6, 1, 4, 3), np.nan)
    data = xr.Dataset({"x": (("chain", "draw", "x_channel", "x_row", "x_column"), values)})
    with pytest.raises(ValueError, match="none of the 12 draws is finite: the sampler diverged"):
        STATISTICS[name](data)

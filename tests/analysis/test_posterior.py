import numpy as np
import pytest
import torch
import xarray as xr
from made_blocks import ATTRS, SETTINGS, Block, constants, make_block, make_layout, observed

from bayes_ir.analysis.posterior import json_attributes
from bayes_ir.analysis.store import MemorySink, largest_rectangle


def test_tree_has_arvizs_groups_dims_and_integer_coordinates(layout, memory_run):
    tree = memory_run(layout)
    assert set(tree.children) == {
        "posterior",
        "sample_stats",
        "log_likelihood",
        "observed_data",
        "constant_data",
    }
    x = tree["posterior"]["x"]
    assert x.dims == ("chain", "draw", "x_channel", "x_row", "x_column")
    assert x.shape == (2, 6, 1, 4, 3)
    for dim in x.dims:
        np.testing.assert_array_equal(x[dim], np.arange(x.sizes[dim]))
    assert tree["log_likelihood"]["y"].dims == ("chain", "draw", "y_dim_0")
    assert tree["observed_data"]["y"].dims == ("y_dim_0",)
    assert tree["sample_stats"]["nfe"].dims == ("chain", "draw")
    assert tree["constant_data"]["x_back_projection"].dims == ("x_channel", "x_row", "x_column")
    assert tree["constant_data"]["noise_std"].dims == ()
    assert tree.attrs == {"kernel": "Exact()", "seed": 0, "data_range": [-1.0, 1.0], **ATTRS}


def test_every_draw_lies_where_its_block_says(layout, memory_run):
    tree = memory_run(layout)
    for chain in range(2):
        for index in range(2):
            block, span = make_block(layout, chain, index), layout.draws_of(index)
            np.testing.assert_array_equal(tree["posterior"]["x"][chain, span], block.draws)
            np.testing.assert_array_equal(tree["log_likelihood"]["y"][chain, span], block.log_likelihood["y"])
            np.testing.assert_array_equal(
                tree["sample_stats"]["log_lik"][chain, span], block.stats["log_lik"]
            )


def test_blocks_of_tensors_are_taken(layout, memory_run):
    sink = MemorySink(layout, {"y": torch.from_numpy(observed(layout)["y"])}, constants(layout), SETTINGS)
    for chain in range(2):
        for index in range(2):
            b = make_block(layout, chain, index)
            stats = {name: torch.from_numpy(value) for name, value in b.stats.items()}
            draws, log_likelihood = torch.from_numpy(b.draws), {"y": torch.from_numpy(b.log_likelihood["y"])}
            sink.write(Block(chain, index, b.start, draws, log_likelihood, stats))
    xr.testing.assert_identical(sink.finish(ATTRS), memory_run(layout))


@pytest.mark.parametrize(
    ("event_shape", "dims"),
    [
        ((7,), ("x_dim_0",)),
        ((2, 3), ("x_dim_0", "x_dim_1")),
        ((), ()),
        ((1, 2, 2, 2), tuple(f"x_dim_{i}" for i in range(4))),
    ],
)
def test_events_that_are_no_images_get_numbered_axes(event_shape, dims, memory_run):
    tree = memory_run(make_layout(event_shape=event_shape, observed={"y": (2, 2)}))
    assert tree["posterior"]["x"].dims == ("chain", "draw", *dims)
    assert tree["log_likelihood"]["y"].dims == ("chain", "draw", "y_dim_0", "y_dim_1")


def test_a_block_that_does_not_fit_is_refused_in_words(layout):
    sink = MemorySink(layout, observed(layout))
    good = make_block(layout, 1, 0)
    with pytest.raises(ValueError, match=r"block 2 of chain 0 lies outside a run of 2 chains with 2 blocks"):
        sink.write(Block(0, 2, 8, good.draws, good.log_likelihood, good.stats))
    with pytest.raises(ValueError, match=r"block 1 of chain 0 starts at draw 3, expected 4"):
        sink.write(Block(0, 1, 3, good.draws, good.log_likelihood, good.stats))
    with pytest.raises(
        ValueError, match=r"chain 1: posterior/x has shape \(4, 4, 3\), expected \(4, 1, 4, 3\)"
    ):
        sink.write(Block(1, 0, 0, good.draws[:, 0], good.log_likelihood, good.stats))
    with pytest.raises(ValueError, match=r"sample_stats/nfe has shape \(3,\), expected \(4,\)"):
        sink.write(Block(1, 0, 0, good.draws, good.log_likelihood, {"nfe": np.zeros(3)}))
    assert sink.pending == 4


def test_blocks_of_one_posterior_record_the_same_things(layout):
    sink = MemorySink(layout, observed(layout))
    sink.write(make_block(layout, 0, 0))
    with pytest.raises(ValueError, match=r"posterior/x is float64, the earlier blocks have float32"):
        sink.write(make_block(layout, 0, 1, dtype="float64"))
    b = make_block(layout, 0, 1)
    with pytest.raises(
        ValueError, match=r"differs from the earlier blocks in what it records: sample_stats/nfe"
    ):
        sink.write(
            Block(0, 1, 4, b.draws, b.log_likelihood, {k: v for k, v in b.stats.items() if k != "nfe"})
        )
    assert sink.done(0, 0) and not sink.done(0, 1)


def test_an_unfinished_run_shows_only_draws_that_were_made(layout):
    sink = MemorySink(layout, observed(layout))
    with pytest.raises(ValueError, match="no complete first block"):
        sink.finish({}, partial=True)
    for chain, index in ((0, 0), (1, 0), (1, 1)):
        sink.write(make_block(layout, chain, index))
    with pytest.raises(ValueError, match=r"3 of 4 blocks: the run has not finished"):
        sink.finish({})
    tree = sink.finish({}, partial=True)
    assert tree["posterior"]["x"].shape == (2, 4, 1, 4, 3)
    assert tree["posterior"]["x"].notnull().all()
    assert tree.attrs["partial"] == "chains [0, 1] of 2, the first 4 of 6 draws of each"


def test_chains_of_a_partial_tree_keep_their_numbers(layout):
    sink = MemorySink(layout, observed(layout))
    for index in range(2):
        sink.write(make_block(layout, 1, index))
    tree = sink.finish({}, partial=True)
    np.testing.assert_array_equal(tree["posterior"]["chain"], [1])
    np.testing.assert_array_equal(tree["posterior"]["x"][0, :4], make_block(layout, 1, 0).draws)


@pytest.mark.parametrize(
    ("lengths", "chains", "draws"),
    [
        ([8, 3, 0, 0], [0], 8),
        ([8, 5, 0, 0], [0, 1], 5),
        ([4, 8], [0, 1], 4),
        ([0, 0], [], 0),
        ([2, 9, 9, 9], [1, 2, 3], 9),
    ],
)
def test_largest_rectangle(lengths, chains, draws):
    assert largest_rectangle(lengths) == (chains, draws)


def test_settings_are_compared_as_json():
    made = json_attributes({"a": (1, 2), "b": np.float32(0.5), "c": np.arange(2), "d": None})
    assert made == {"a": [1, 2], "b": 0.5, "c": [0, 1], "d": None}
    with pytest.raises(ValueError, match=r"setting 'steps' .* nan, which JSON cannot hold"):
        json_attributes({"steps": float("nan")})
    with pytest.raises(ValueError, match="setting 'kernel'"):
        json_attributes({"kernel": object()})


def test_layouts_that_cannot_be_are_refused(layout):
    with pytest.raises(ValueError, match="draws must be a positive integer, got 0"):
        make_layout(draws=0)
    with pytest.raises(ValueError, match="block_size must be a positive integer, got True"):
        make_layout(block_size=True)
    with pytest.raises(ValueError, match=r"observed data 'y' has shape \(4,\), expected \(5,\)"):
        MemorySink(layout, {"y": np.zeros(4)})
    with pytest.raises(ValueError, match=r"constant 'c' has 2 axes \(shape \(2, 2\)\), but 1 names"):
        MemorySink(layout, observed(layout), {"c": (("a",), np.zeros((2, 2)))})
    with pytest.raises(ValueError, match="constant 'c' has size 2 along 'y_dim_0', which has size 5"):
        MemorySink(layout, observed(layout), {"c": (("y_dim_0",), np.zeros(2))})


def test_a_plate_and_further_sites_have_axes_of_their_own():
    layout = make_layout(
        plate=("images", 3), observed={"y": (5,), "bits": (2,)}, others={"sigma": (), "gain": (2,)}, chains=1
    )
    rng = np.random.default_rng(0)
    data = {"y": rng.normal(size=(3, 5)), "bits": rng.normal(size=(3, 2))}
    sink = MemorySink(layout, data)
    blocks = []
    for index, n in enumerate((4, 2)):
        log_likelihood = {"y": rng.normal(size=(n, 3, 5)), "bits": rng.normal(size=(n, 3, 2))}
        others = {"sigma": rng.normal(size=n), "gain": rng.normal(size=(n, 2))}
        draws = rng.normal(size=(n, 3, 1, 4, 3))
        blocks.append(Block(0, index, 4 * index, draws, log_likelihood, {"nfe": np.full((n, 3), 7)}, others))
        sink.write(blocks[-1])
    tree = sink.finish({})
    assert tree["posterior"]["x"].dims == ("chain", "draw", "images", "x_channel", "x_row", "x_column")
    assert tree["posterior"]["gain"].dims == ("chain", "draw", "gain_dim_0")
    assert tree["sample_stats"]["nfe"].dims == ("chain", "draw", "images")
    assert tree["log_likelihood"]["bits"].dims == ("chain", "draw", "images", "bits_dim_0")
    np.testing.assert_array_equal(tree["observed_data"]["bits"], data["bits"])
    np.testing.assert_array_equal(tree["posterior"]["sigma"][0, 4:], blocks[1].others["sigma"])


def test_two_sites_of_one_name_and_blocks_without_a_site_are_refused():
    with pytest.raises(ValueError, match=r"two sites are called 'y'"):
        make_layout(others={"y": ()})
    layout = make_layout(others={"sigma": ()})
    with pytest.raises(ValueError, match=r"has the sites \['y'\], expected \['y', 'sigma'\]"):
        MemorySink(layout, observed(layout)).write(make_block(layout, 0, 0))

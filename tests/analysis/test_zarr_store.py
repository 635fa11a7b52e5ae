import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from made_blocks import ATTRS, SETTINGS, Block, constants, files, make_block, make_layout, observed, run

from bayes_ir.analysis.zarr_reading import open_posterior
from bayes_ir.analysis.zarr_store import ZarrSink

HERE = Path(__file__).parent


def sink(path, layout, settings=SETTINGS, **how):
    return ZarrSink(path, layout, observed(layout), constants(layout), settings, **how)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "digit.zarr"


@pytest.fixture(autouse=True)
def flushed(monkeypatch):
    """Inodes of what was flushed, in order; a kill does not need it, and a busy disk is slow."""
    inodes = []
    monkeypatch.setattr(os, "fsync", lambda handle: inodes.append(os.fstat(handle).st_ino))
    return inodes


def test_a_store_reads_back_as_the_tree_in_memory(path, layout, memory_run):
    made = run(sink(path, layout))
    xr.testing.assert_identical(made.load(), memory_run(layout))
    xr.testing.assert_identical(open_posterior(path).load(), memory_run(layout))


def test_xarray_opens_a_finished_store_without_a_warning(path, layout, memory_run):
    run(sink(path, layout))
    with xr.open_datatree(path, engine="zarr") as tree:
        xr.testing.assert_identical(
            tree["posterior"].to_dataset().load(), memory_run(layout)["posterior"].to_dataset()
        )


def test_one_block_is_one_chunk_and_reading_is_lazy(path, layout):
    tree = run(sink(path, layout))
    assert tree["posterior"]["x"].encoding["chunks"] == (1, 4, 1, 4, 3)
    first = path / "posterior" / "x" / "c.0.0.0.0.0"
    first.unlink()
    read = tree["posterior"]["x"].values
    assert np.isnan(read[0, :4]).all() and np.isfinite(read[0, 4:]).all() and np.isfinite(read[1]).all()


def test_a_garbled_chunk_is_noticed(path, layout):
    tree = run(sink(path, layout))
    chunk = path / "posterior" / "x" / "c.1.0.0.0.0"
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(bytes(content))
    with pytest.raises(RuntimeError, match=r"checksum|Zstd|corrupt"):
        tree["posterior"]["x"].load()


# Where the run is killed -> blocks that must be flagged then ("none": the store has no name yet).
KILLS = {
    "before:blocks/zarr.json": "none",
    "before:sample_stats/nfe/zarr.json": "0",
    "before:blocks/complete/c.0.0": "0",
    "before:log_likelihood/y/c.1.0.0": "2",
    "after:blocks/complete/c.1.1": "4",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_at_any_file_the_store_resumes_to_the_same_bits(tmp_path):
    strict = ["-W", "error", "-W", "ignore::DeprecationWarning"]  # newer Pythons dislike fork with threads
    done = subprocess.run(
        [sys.executable, *strict, str(HERE / "kill_everywhere.py"), str(tmp_path), *KILLS],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == list(KILLS.values())
    whole = files(tmp_path / "whole")
    for number, kill in enumerate(KILLS):
        assert files(tmp_path / f"killed-{number}") == whole, kill


def test_every_file_of_a_block_is_flushed_before_its_flag_is_written(path, layout, flushed, monkeypatch):
    store = sink(path, layout)
    put, before_flag = zarr.storage.LocalStore.set, []

    async def noted(self, key, value):
        if key == "blocks/complete/c.0.0":
            before_flag.extend(flushed)
        await put(self, key, value)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", noted)
    store.write(make_block(layout, 0, 0))
    chunks = [p for p in path.rglob("c.0.0*") if p.parent.name in ("x", "y", "nfe", "log_lik", "log_lik_rep")]
    assert len(chunks) == 5
    for chunk in chunks:
        assert {chunk.stat().st_ino, chunk.parent.stat().st_ino} <= set(before_flag), chunk
    flag = path / "blocks" / "complete" / "c.0.0"
    assert flag.stat().st_ino in flushed and flag.stat().st_ino not in before_flag


def test_what_was_flagged_is_not_written_again(path, layout):
    first = sink(path, layout)
    first.write(make_block(layout, 1, 0))
    before = {name: (path / name).stat().st_mtime_ns for name in files(path) if "c.1.0" in name}
    again = sink(path, layout)
    assert again.done(1, 0) and not again.done(0, 0) and again.pending == 3
    run(again)
    assert before == {name: (path / name).stat().st_mtime_ns for name in before}


def test_a_block_without_its_flag_is_made_again(path, layout, memory_run):
    first = sink(path, layout)
    good = make_block(layout, 0, 0)
    first.write(Block(0, 0, 0, good.draws + 1, good.log_likelihood, good.stats))
    (path / "blocks" / "complete" / "c.0.0").unlink()
    xr.testing.assert_identical(run(sink(path, layout)).load(), memory_run(layout))


@pytest.mark.parametrize(
    "grown", [{"draws": 12}, {"draws": 7}, {"chains": 3}, {"draws": 9, "chains": 4}], ids=str
)
def test_run_n_then_resume_to_2n_is_run_2n(tmp_path, grown):
    short, long = make_layout(), make_layout(**grown)
    settings = [SETTINGS | {"draws": n.draws, "chains": n.chains} for n in (short, long)]
    run(sink(tmp_path / "grown", short, settings[0]))
    run(sink(tmp_path / "grown", long, settings[1]))
    run(sink(tmp_path / "whole", long, settings[1]))
    assert files(tmp_path / "grown") == files(tmp_path / "whole")


def test_a_store_that_grows_is_incomplete_until_it_is_finished(path):
    short, long = make_layout(draws=6), make_layout(draws=7)
    run(sink(path, short))
    sink(path, long)
    with pytest.raises(ValueError, match="2 of 4 blocks: the run has not finished"):
        open_posterior(path)
    assert (
        open_posterior(path, partial=True).attrs["partial"].startswith("chains [0, 1] of 2, the first 4 of 7")
    )


def test_interrupted_growth_is_mended_by_the_next_run(tmp_path, monkeypatch):
    short, long = make_layout(), make_layout(draws=12)
    run(sink(tmp_path / "grown", short))
    resize = zarr.Array.resize

    def fails_on_draws(self, shape):
        if self.path == "posterior/x":
            raise KeyboardInterrupt
        resize(self, shape)

    monkeypatch.setattr(zarr.Array, "resize", fails_on_draws)
    with pytest.raises(KeyboardInterrupt):
        sink(tmp_path / "grown", long)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="was being extended to 2 chains of 12 draws"):
        open_posterior(tmp_path / "grown", partial=True)
    run(sink(tmp_path / "grown", long))
    run(sink(tmp_path / "whole", long))
    assert files(tmp_path / "grown") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"was made with seed=0, this run has seed=1\. Use the same settings"),
        (
            {"kernel": "DPS()", "seed": 2},
            r"kernel='Exact\(\)', this run has kernel='DPS\(\)'; with seed=0, this run has seed=2",
        ),
        ({"steps": 5}, "was made without steps, this run has steps=5"),
    ],
)
def test_other_settings_are_named_and_refused(path, layout, changes, message):
    run(sink(path, layout))
    before = files(path)
    with pytest.raises(ValueError, match=message):
        sink(path, layout, SETTINGS | changes)
    assert files(path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_size": 2}, "with block_size=4, this run has block_size=2"),
        ({"draws": 4}, "with draws=6, this run has draws=4"),
        ({"event_shape": (12,)}, r"with event_shape=\[1, 4, 3\], this run has event_shape=\[12\]"),
    ],
)
def test_another_layout_is_refused(path, layout, changes, message):
    run(sink(path, layout))
    with pytest.raises(ValueError, match=message):
        sink(path, make_layout(**changes))


def test_other_data_are_refused(path, layout):
    run(sink(path, layout))
    y, known = observed(layout), constants(layout)
    dims, back = known["x_back_projection"]

    def again(y, **changes):
        return ZarrSink(path, layout, y, {**known, **changes}, SETTINGS)

    with pytest.raises(ValueError, match="made from other data: its observed_data/y differs"):
        again({"y": np.nextafter(y["y"], 1)})
    with pytest.raises(ValueError, match="other data: its constant_data/x_back_projection differs"):
        again(y, x_back_projection=(dims, back + 0.01))
    with pytest.raises(ValueError, match="without the array constant_data/dither, this run has"):
        again(y, dither=((), 0.0))
    # A back projection computed on another device differs in its last bits.
    assert again(y, x_back_projection=(dims, back * np.float32(1 + 1e-6))).pending == 0


def test_nothing_is_overwritten(path, layout, tmp_path):
    run(sink(path, layout))
    before = files(path)
    with pytest.raises(FileExistsError, match="already holds a posterior and resume=False"):
        sink(path, layout, resume=False)
    assert files(path) == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    (tmp_path / "note").write_text("x")
    zarr.create_group(tmp_path / "other.zarr")
    for name in ("thesis", "note", "other.zarr"):
        before = files(tmp_path)
        for resume in (True, False):
            with pytest.raises(ValueError, match="exists and is no posterior store"):
                sink(tmp_path / name, layout, resume=resume)
        assert files(tmp_path) == before


def test_an_empty_directory_will_do(path, layout, memory_run):
    path.mkdir()
    xr.testing.assert_identical(run(sink(path, layout)).load(), memory_run(layout))


def test_opening_what_is_not_there_or_not_finished(path, layout, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no posterior at"):
        open_posterior(path)
    with pytest.raises(ValueError, match="is no posterior store"):
        open_posterior(tmp_path)
    half = sink(path, layout)
    with pytest.raises(ValueError, match="no complete first block"):
        open_posterior(path, partial=True)
    half.write(make_block(layout, 0, 0))
    with pytest.raises(ValueError, match="1 of 4 blocks"):
        open_posterior(path)
    tree = open_posterior(path, partial=True)
    assert dict(tree["posterior"]["x"].sizes) == {
        "chain": 1,
        "draw": 4,
        "x_channel": 1,
        "x_row": 4,
        "x_column": 3,
    }
    np.testing.assert_array_equal(tree["posterior"]["x"][0], make_block(layout, 0, 0).draws)
    assert tree.attrs["partial"] == "chains [0] of 2, the first 4 of 6 draws of each"


@pytest.mark.parametrize("victim", ["log_likelihood/y/c.1.0.0", "blocks/complete/c.1.0"])
def test_a_full_disk_is_reported_in_words_and_can_be_resumed(path, layout, memory_run, monkeypatch, victim):
    store = sink(path, layout)
    store.write(make_block(layout, 0, 0))
    put = zarr.storage.LocalStore.set

    async def full(self, key, value):
        if key == victim:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        await put(self, key, value)

    monkeypatch.setattr(zarr.storage.LocalStore, "set", full)
    words = r"the disk is full at block 0 of chain 1: .*digit.zarr keeps its 1 complete blocks of 4"
    with pytest.raises(OSError, match=words) as caught:
        store.write(make_block(layout, 1, 0))
    assert caught.value.errno == errno.ENOSPC
    assert not store.done(1, 0)
    monkeypatch.undo()
    assert not sink(path, layout).done(1, 0)
    xr.testing.assert_identical(run(sink(path, layout)).load(), memory_run(layout))


def test_other_errors_of_the_disk_pass_unchanged(path, layout, monkeypatch):
    store = sink(path, layout)

    async def broken(self, key, value):
        raise OSError(errno.EIO, "the cable is out")

    monkeypatch.setattr(zarr.storage.LocalStore, "set", broken)
    with pytest.raises(OSError, match="the cable is out"):
        store.write(make_block(layout, 0, 0))


def test_the_first_block_decides_what_is_recorded(path, layout):
    store = sink(path, layout)
    store.write(make_block(layout, 0, 0))
    with pytest.raises(ValueError, match="posterior/x is float64, the earlier blocks have float32"):
        sink(path, layout).write(make_block(layout, 0, 1, dtype="float64"))
    assert store.finish(ATTRS, partial=True)["posterior"]["x"].dtype == np.float32

"""Replications on disk: what is written comes back, what is damaged is made again, other settings are refused."""

import numpy as np
import pytest

from bayes_ir.analysis.replication_store import ReplicationStore

ARRAYS = {"less": np.array([3, 4]), "v": np.array([0.25, 0.5])}


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_is_written_comes_back(tmp_path, on_disk):
    store = ReplicationStore(tmp_path / "runs" / "one" if on_disk else None, {"seed": 1})
    store.write(5, ARRAYS)
    assert store.done(5) and not store.done(4)
    assert all((store.read(5)[name] == array).all() for name, array in ARRAYS.items())
    with pytest.raises(KeyError):
        store.read(4)


def test_a_damaged_file_is_made_again(tmp_path):
    store = ReplicationStore(tmp_path, {"seed": 1})
    store.write(0, ARRAYS)
    file = tmp_path / "0000000.npz"
    whole = file.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert not ReplicationStore(tmp_path, {"seed": 1}).done(0)
    store.write(0, ARRAYS)
    assert file.read_bytes() == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000000.npz", "settings.json"]


def test_refusals(tmp_path):
    ReplicationStore(tmp_path / "a", {"seed": 1, "kernel": "Exact()"})
    with pytest.raises(ValueError, match=r"other settings \(seed was 1, now 2\)"):
        ReplicationStore(tmp_path / "a", {"seed": 2, "kernel": "Exact()"})
    with pytest.raises(FileExistsError, match="resume=False"):
        ReplicationStore(tmp_path / "a", {"seed": 1, "kernel": "Exact()"}, resume=False)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "photo.png").touch()
    for other in (tmp_path / "b", tmp_path / "b" / "photo.png"):
        with pytest.raises(ValueError, match="no calibration"):
            ReplicationStore(other, {})

import gzip
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from bayes_ir.models.datasets import load_images, load_labels, read_idx


def idx(array, code):
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def digits():
    return np.random.default_rng(0).integers(0, 256, size=(5, 4, 6), dtype=np.uint8)


@pytest.mark.parametrize("name", ["digits-idx3-ubyte.gz", "digits-idx3-ubyte"])
def test_idx_images(tmp_path, digits, name):
    content = idx(digits, 0x08)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    images = load_images(tmp_path / name)
    assert images.shape == (5, 1, 4, 6)
    assert images.dtype == torch.float32
    np.testing.assert_allclose(images[:, 0].numpy() * 255, digits, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "code"), [("u1", 8), ("i1", 9), ("i2", 11), ("i4", 12), ("f4", 13), ("f8", 14)]
)
def test_every_idx_type_is_read(tmp_path, dtype, code):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    (tmp_path / "a").write_bytes(idx(array, code))
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)


@pytest.mark.parametrize(
    ("array", "shape"),
    [
        (np.full((3, 4, 6), 65535, np.uint16), (3, 1, 4, 6)),
        (np.ones((3, 4, 6, 3), np.float64), (3, 3, 4, 6)),
        (np.ones((3, 1, 4, 6), np.float32), (3, 1, 4, 6)),
    ],
)
def test_npz_images(tmp_path, array, shape):
    np.savez(tmp_path / "one.npz", array)
    np.savez(tmp_path / "named.npz", images=array, labels=np.zeros(3))
    for name in ("one.npz", "named.npz"):
        images = load_images(tmp_path / name)
        assert images.shape == shape
        assert images.dtype == torch.float32
        assert (images == 1).all()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_folder_of_images(tmp_path, mode):
    (tmp_path / "sub").mkdir()
    Image.new(mode, (6, 4), 0).save(tmp_path / "a.png")
    Image.new(mode, (6, 4), 255 if mode == "L" else (255, 255, 255)).save(tmp_path / "sub" / "b.png")
    (tmp_path / "notes.txt").write_text("not an image")
    images = load_images(tmp_path)
    assert images.shape == (2, 1 if mode == "L" else 3, 4, 6)
    assert (images[0] == 0).all()
    assert (images[1] == 1).all()


def save(path, array):
    np.savez(path, array)
    return path.with_name(path.name)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 6), np.uint8), r"shape \(4, 6\)"),
        (np.zeros((3, 5, 4, 6), np.uint8), "1 or 3 channels"),
        (np.full((3, 4, 6), 255.0), "from 255 to 255"),
        (np.full((3, 4, 6), -0.1), r"already in \[0, 1\]"),
        (np.full((3, 4, 6), np.nan), "finite"),
        (np.full((3, 4, 6), 2, np.int16), "unsigned integers"),
        (np.zeros((0, 4, 6)), "no images"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, array, words):
    with pytest.raises(ValueError, match=words):
        load_images(save(tmp_path / "bad.npz", array))


def test_files_that_are_no_images_are_refused(tmp_path, digits):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_images(tmp_path / "gone.gz")
    with pytest.raises(ValueError, match="no images under"):
        load_images(tmp_path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="idx header"):
        load_images(tmp_path / "text")
    for change in (lambda c: c[:-1], lambda c: c + b"0", lambda c: c[:7]):
        (tmp_path / "cut").write_bytes(change(idx(digits, 0x08)))
        with pytest.raises(ValueError, match="damaged"):
            load_images(tmp_path / "cut")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(idx(digits, 0x08))[:-20])
    with pytest.raises(ValueError, match="damaged"):
        load_images(tmp_path / "cut.gz")
    (tmp_path / "plain.gz").write_bytes(idx(digits, 0x08))
    with pytest.raises(ValueError, match="gzip"):
        load_images(tmp_path / "plain.gz")
    np.savez(tmp_path / "two.npz", a=digits, b=digits)
    with pytest.raises(ValueError, match="a single array"):
        load_images(tmp_path / "two.npz")


def test_images_of_two_sizes_are_refused(tmp_path):
    Image.new("L", (6, 4)).save(tmp_path / "a.png")
    Image.new("L", (4, 6)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png has shape \(6, 4\) but .*a\.png has \(4, 6\)"):
        load_images(tmp_path)


def test_palette_images_and_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", images=np.array([None, {}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        load_images(tmp_path / "objects.npz")
    folder = tmp_path / "palette"
    folder.mkdir()
    Image.new("P", (6, 4)).save(folder / "a.png")
    with pytest.raises(ValueError, match="mode 'P'"):
        load_images(folder)


def test_labels(tmp_path):
    labels = np.array([3, 0, 9, 3], dtype=np.uint8)
    (tmp_path / "labels.gz").write_bytes(gzip.compress(idx(labels, 0x08)))
    np.savez(tmp_path / "one.npz", labels)
    np.savez(tmp_path / "both.npz", images=np.zeros((4, 2, 2)), labels=labels.astype(np.int32))
    for name in ("labels.gz", "one.npz", "both.npz"):
        found = load_labels(tmp_path / name)
        assert found.dtype == torch.int64
        assert found.tolist() == [3, 0, 9, 3]


@pytest.mark.parametrize(
    "array",
    [np.array([0, -1]), np.array([0.0, 1.0]), np.zeros((2, 2), dtype=int), np.zeros(0, dtype=int)],
    ids=["negative", "fractions", "two-dimensional", "empty"],
)
def test_what_is_no_row_of_labels_is_refused(tmp_path, array):
    np.savez(tmp_path / "a.npz", array)
    with pytest.raises(ValueError, match=r"load_labels: .* expected whole numbers from 0"):
        load_labels(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError, match=r"load_labels: .*nowhere\.gz does not exist"):
        load_labels(tmp_path / "nowhere.gz")

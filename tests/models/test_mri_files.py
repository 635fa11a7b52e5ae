"""Files of k-space: written by hand, by loops, by numpy or by h5py, and read back."""

import itertools
import struct
import sys
import warnings

import numpy as np
import pytest
import torch

from bayes_ir.models.operators.complex_images import to_kspace
from bayes_ir.models.operators.mri import SingleCoilMRI
from bayes_ir.models.operators.mri_files import read_cfl, read_fastmri, write_cfl

RNG = np.random.default_rng(0)


def numbers(*shape, dtype=np.complex64):
    return (RNG.normal(size=shape) + 1j * RNG.normal(size=shape)).astype(dtype)


def pair(path, header, data):
    path.with_suffix(".hdr").write_text(header)
    path.with_suffix(".cfl").write_bytes(data)
    return path


@pytest.mark.parametrize("ending", ["", ".cfl", ".hdr"])
def test_cfl_written_by_hand(tmp_path, ending):
    values = numbers(3, 4, 1, 2)
    data = b""
    for map_, z, j, i in itertools.product(
        range(2), range(1), range(4), range(3)
    ):  # the first index runs fastest
        data += struct.pack("<ff", values[i, j, z, map_].real, values[i, j, z, map_].imag)
    header = "# Dimensions\n3 4 1 2 1 1 1 1 1 1 1 1 1 1 1 1 \n# Command\nphantom -x 3 k \n"
    pair(tmp_path / "scan", header, data)
    read = read_cfl(f"{tmp_path}/scan{ending}")
    assert read.dtype == torch.complex64 and read.shape == (3, 4, 1, 2) and read.is_contiguous()
    np.testing.assert_array_equal(read.numpy(), values)
    assert read.squeeze(2).permute(2, 0, 1).shape == (2, 3, 4)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 1, 3), (1, 3, 1, 2), (1,), (2, 3, 1, 1)])
def test_cfl_round_trip(tmp_path, shape):
    values = torch.as_tensor(numbers(*shape))
    write_cfl(tmp_path / "a.b", values)  # a dot in the name is no ending
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.b.cfl", "a.b.hdr"]
    read = read_cfl(tmp_path / "a.b")
    stripped = list(shape)
    while len(stripped) > 1 and stripped[-1] == 1:
        stripped.pop()
    assert torch.equal(read, values.reshape(stripped))
    sizes = (tmp_path / "a.b.hdr").read_text().splitlines()[1].split()
    assert len(sizes) == 16 and [int(size) for size in sizes[: len(shape)]] == list(shape)


def test_cfl_takes_what_can_be_rounded(tmp_path):
    values = numbers(4, 3, dtype=np.complex128)
    for given in (torch.as_tensor(values), values, torch.as_tensor(values).conj().conj(), values.T.copy().T):
        write_cfl(tmp_path / "x.cfl", given)
        np.testing.assert_array_equal(read_cfl(tmp_path / "x.hdr").numpy(), values.astype(np.complex64))
    write_cfl(tmp_path / "x", torch.as_tensor(values).conj())
    np.testing.assert_array_equal(read_cfl(tmp_path / "x").numpy(), values.conj().astype(np.complex64))
    write_cfl(tmp_path / "x", torch.ones(2, 3, requires_grad=True))
    assert torch.equal(read_cfl(tmp_path / "x"), torch.ones(2, 3) + 0j)


SIX = b"\0" * 48
REFUSED_CFL = [
    (
        "# Dimensions\n2 3\n",
        SIX[:-8],
        r"scan\.cfl is cut off: scan\.hdr says \[2, 3\], which is 48 bytes .* has 40",
    ),
    ("# Dimensions\n2 3\n", SIX[:-3], "is cut off"),
    ("# Dimensions\n2 3\n", b"", "is cut off"),
    ("# Dimensions\n2 3\n", SIX + SIX, "is too long"),
    ("# Dimensions\n2 0\n", b"", r"expected positive sizes below the line '# Dimensions' of .*got '2 0'"),
    ("# Dimensions\n2 -3\n", SIX, "got '2 -3'"),
    ("# Dimensions\n2 3.0\n", SIX, "got '2 3.0'"),
    ("# Dimensions\n2 ²\n", SIX, "expected positive sizes"),
    ("# Dimensions\n\n", SIX, "got ''"),
    ("# Dimensions", SIX, "got ''"),
    ("2 3\n", SIX, "expected positive sizes below the line '# Dimensions'"),
    ("", SIX, "expected positive sizes"),
]


@pytest.mark.parametrize(("header", "data", "words"), REFUSED_CFL)
def test_refused_cfl(tmp_path, header, data, words):
    with pytest.raises(ValueError, match=rf"^read_cfl: .*{words}"):
        read_cfl(pair(tmp_path / "scan", header, data))


def test_missing_cfl(tmp_path):
    scan = pair(tmp_path / "scan", "# Dimensions\n2 3\n", SIX)
    scan.with_suffix(".hdr").rename(tmp_path / "other.hdr")
    with pytest.raises(
        FileNotFoundError, match=r"^read_cfl: there is no file .*scan\.hdr; a BART array is a pair"
    ):
        read_cfl(scan)
    with pytest.raises(FileNotFoundError, match=r"no file .*other\.cfl"):
        read_cfl(tmp_path / "other")
    with pytest.raises(TypeError, match=r"^read_cfl: expected a path"):
        read_cfl(b"scan")


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (torch.zeros(0, 3), ValueError, r"expected at least one number, got shape \(0, 3\)"),
        ("words", TypeError, "expected a tensor of numbers, got str"),
        ([None], TypeError, "expected a tensor of numbers, got list"),
    ],
)
def test_refused_write(tmp_path, given, error, words):
    with pytest.raises(error, match=rf"^write_cfl: {words}"):
        write_cfl(tmp_path / "x", given)
    assert not list(tmp_path.iterdir())


def save(path, array, **named):
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, **(named or {"kspace": array}))
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for name, value in (named or {"kspace": array}).items():
                file[name] = value
    return path


KINDS = [".npy", ".npz", ".h5", ".hdf5"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 3, 4, 6)])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("parts", [False, True])
def test_one_slice_of_a_volume(tmp_path, kind, shape, double, parts):
    values = numbers(*shape, dtype=np.complex128 if double else np.complex64)
    stored = np.stack([values.real, values.imag], -1) if parts else values
    file = save(tmp_path / f"volume{kind}", stored)
    for index in (0, 3, np.int64(4)):
        read = read_fastmri(file, slice=index)
        assert read.dtype == (torch.complex128 if double else torch.complex64) and read.is_contiguous()
        np.testing.assert_array_equal(read.numpy(), values[index])


@pytest.mark.parametrize("kind", [".npy", ".npz"])
def test_numpy_files_without_slices(tmp_path, kind):
    for shape in ((4, 6), (3, 4, 6)):
        values = numbers(*shape)
        for stored in (values, values.astype(">c8"), np.stack([values.real, values.imag], -1)):
            np.testing.assert_array_equal(read_fastmri(save(tmp_path / f"x{kind}", stored)).numpy(), values)
    values = numbers(4, 6)
    named = save(tmp_path / "named.npz", None, kspace=values, mask=np.ones(6))
    np.testing.assert_array_equal(read_fastmri(named).numpy(), values)
    only = save(tmp_path / "only.npz", None, anything=values)
    np.testing.assert_array_equal(read_fastmri(str(only)).numpy(), values)


def test_a_file_becomes_a_measurement(tmp_path):
    image = torch.as_tensor(numbers(2, 8, 6, dtype=np.complex128))
    file = save(tmp_path / "volume.npy", to_kspace(image).numpy())
    operator = SingleCoilMRI(torch.ones(8, 6, dtype=torch.bool), dtype=torch.float64)
    x = operator.pinv(operator.select(read_fastmri(file, slice=1)))
    torch.testing.assert_close(torch.complex(*x), image[1])


C = np.complex64
REFUSED = [
    (
        ".npy",
        np.zeros((2, 3, 4, 6), C),
        None,
        ValueError,
        r"holds slices, \(2, 3, 4, 6\); say which, slice=0 to 1",
    ),
    (
        ".h5",
        np.zeros((5, 4, 6), C),
        None,
        ValueError,
        r"volume\.h5 holds slices, .* slice=0 to 4, such as slice=2",
    ),
    (".npy", np.zeros((2, 4, 6), C), 2, ValueError, "has slices 0 to 1, got slice=2"),
    (".h5", np.zeros((2, 4, 6), C), -1, ValueError, "has slices 0 to 1, got slice=-1"),
    (".npz", np.zeros((2, 4, 6), C), 0.5, TypeError, "expected slice to be a whole number, got 0.5"),
    (".npy", np.zeros((2, 4, 6), C), True, TypeError, "expected slice to be a whole number, got True"),
    (
        ".npy",
        np.zeros((4, 6), C),
        0,
        ValueError,
        r"k-space of shape \(4, 6\); expected \(slices, \[coils,\] H, W\)",
    ),
    (".npy", np.zeros(6, C), None, ValueError, r"k-space of shape \(6,\); expected \(\[coils,\] H, W\)"),
    (".npy", np.array(1j), None, ValueError, r"k-space of shape \(\)"),
    (".h5", np.array(1j), None, ValueError, "holds slices"),
    (".npy", np.zeros((2, 2, 3, 4, 6), C), 0, ValueError, r"k-space of shape \(2, 2, 3, 4, 6\)"),
    (
        ".npy",
        np.zeros((4, 6)),
        None,
        TypeError,
        r"holds float64 of shape \(4, 6\); expected complex numbers, or real",
    ),
    (".npy", np.zeros((4, 2), int), None, TypeError, "holds int64 of shape"),
    (".h5", np.zeros((3, 4, 6)), 0, TypeError, "expected complex numbers"),
]


@pytest.mark.parametrize(("kind", "array", "index", "error", "words"), REFUSED)
def test_refused_arrays(tmp_path, kind, array, index, error, words):
    file = save(tmp_path / f"volume{kind}", array)
    with pytest.raises(error, match=rf"^read_fastmri: .*{words}"):
        read_fastmri(file, index)


@pytest.mark.parametrize("kind", [".npz", ".h5"])
def test_refused_without_kspace(tmp_path, kind):
    file = save(tmp_path / f"volume{kind}", None, image=np.zeros((4, 6)), mask=np.ones(6))
    with pytest.raises(
        ValueError, match=rf"^read_fastmri: volume\{kind} holds no 'kspace', only \['image', 'mask'\]"
    ):
        read_fastmri(file, 0)


def test_refused_group(tmp_path):
    file = save(tmp_path / "volume.h5", None, **{"kspace/slice": numbers(4, 6)})
    with pytest.raises(
        ValueError, match=r"^read_fastmri: volume\.h5 holds a group 'kspace', expected an array"
    ):
        read_fastmri(file, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
def test_refused_when_cut_off(tmp_path, kind, share):
    file = save(tmp_path / f"volume{kind}", numbers(40, 40, 40))
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"^read_fastmri: .*cannot be read"):
        read_fastmri(file, 0)


def test_refused_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^read_fastmri: there is no file"):
        read_fastmri(tmp_path / "missing.h5")
    with pytest.raises(
        ValueError, match=r"expected a file \.h5, \.hdf5, \.npy or \.npz, got x\.cfl; see also read_cfl"
    ):
        read_fastmri(pair(tmp_path / "x", "", b"").with_suffix(".cfl"))
    np.save(tmp_path / "objects.npy", np.array([None, 1]), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read as a numpy file"):
        read_fastmri(tmp_path / "objects.npy")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match="cannot be read as a numpy file"):
        read_fastmri(tmp_path / "text.npz")


def test_refused_without_h5py(tmp_path, monkeypatch):
    (tmp_path / "volume.h5").write_bytes(b"\x89HDF")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"^read_fastmri: volume\.h5 is an HDF5 file, .*pip install h5py"):
        read_fastmri(tmp_path / "volume.h5", slice=0)

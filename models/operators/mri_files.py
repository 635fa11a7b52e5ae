r"""Files of k-space: BART's .cfl/.hdr pairs, and arrays in the layout of fastMRI.

A BART array is two files: ``name.hdr``, a text with the sizes below the line ``# Dimensions``, and ``name.cfl``, the
numbers as little-endian complex64 in column-major order (the first index runs fastest).  The usual order of its
dimensions is (readout, phase 1, phase 2, coil, map, ...), so that k-space of one slice (H, W, 1, coils) becomes ours by

    read_cfl(path).squeeze(2).permute(2, 0, 1)        # (coils, H, W)

A fastMRI volume is an HDF5 file whose dataset ``kspace`` is (slices, H, W) for a single coil or (slices, coils, H, W).
Both have DC in the middle and fit ``SingleCoilMRI.select`` and ``MultiCoilMRI.select``.
"""

from __future__ import annotations

import math
import operator
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["read_cfl", "read_fastmri", "write_cfl"]

_HEADING = "# Dimensions"
_BART_DIMENSIONS = 16


class _NoKspace(ValueError):
    """A file that can be read and holds something else."""


def read_cfl(path: str | os.PathLike[str]) -> Tensor:
    """Read a BART pair of files.

    Args:
        path: of the .cfl or the .hdr file, or their common name without ending.

    Returns:
        The array, complex64, shaped as its header says but for trailing dimensions of size one.

    Raises:
        FileNotFoundError: if one of the two files is missing.
        ValueError: for a header without sizes, or if the .cfl file is not as long as they say.
    """
    data, header = _pair("read_cfl", path)
    for file in (header, data):
        if not file.is_file():
            raise FileNotFoundError(
                f"read_cfl: there is no file {file}; a BART array is a pair of .cfl and .hdr files."
            )
    shape = _header_shape(header)
    wanted, found = 8 * math.prod(shape), data.stat().st_size
    if wanted != found:
        what = "cut off" if found < wanted else "too long"
        raise ValueError(
            f"read_cfl: {data} is {what}: {header.name} says {shape}, which is {wanted} bytes of complex64, and the "
            f"file has {found}."
        )
    numbers = np.fromfile(data, dtype="<c8").astype(np.complex64, copy=False)
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return torch.from_numpy(np.ascontiguousarray(numbers.reshape(shape, order="F")))


def write_cfl(path: str | os.PathLike[str], array: Tensor) -> None:
    """Write an array as a BART pair of files, rounded to complex64.

    Args:
        path: of the .cfl or the .hdr file, or their common name without ending.
        array: real or complex.

    Raises:
        TypeError: for something that is neither a tensor nor an array of numbers.
        ValueError: for an empty array, which BART has no header for.
    """
    data, header = _pair("write_cfl", path)
    numbers = (
        array.detach().resolve_conj().resolve_neg().cpu().numpy()
        if isinstance(array, Tensor)
        else np.asarray(array)
    )
    if numbers.dtype.kind not in "biufc":
        raise TypeError(
            f"write_cfl: expected a tensor of numbers, got {type(array).__name__} of {numbers.dtype}."
        )
    if numbers.size == 0:
        raise ValueError(f"write_cfl: expected at least one number, got shape {numbers.shape}.")
    shape = [*numbers.shape, *[1] * (_BART_DIMENSIONS - numbers.ndim)]
    header.write_text(f"{_HEADING}\n{' '.join(map(str, shape))}\n", encoding="ascii")
    data.write_bytes(numbers.astype("<c8").tobytes(order="F"))


def read_fastmri(path: str | os.PathLike[str], slice: int | None = None) -> Tensor:
    """Read the k-space of one slice from an HDF5 file as in fastMRI, or from a numpy file.

    Numbers are complex, or real with a last dimension of two, the real and the imaginary part.

    Args:
        path: .h5 or .hdf5 with a dataset ``kspace`` (slices, [coils,] H, W), which needs h5py; .npy; or .npz with an
            array ``kspace``, or with one array only.
        slice: which one of the first dimension, from 0.  A numpy file without slices, ([coils,] H, W), is read
            with ``None``; an HDF5 file always has them.

    Returns:
        k-space, shape (coils, H, W) or (H, W), complex64, or complex128 from a file in double precision.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: for an HDF5 file without h5py.
        TypeError: for a slice that is no whole number, or numbers that are not complex.
        ValueError: for a file that cannot be read, without k-space, of another number of dimensions, or with no
            such slice.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"read_fastmri: there is no file {file}.")
    ending = file.suffix.lower()
    if ending in (".h5", ".hdf5"):
        return _read_hdf5(file, slice)
    if ending not in (".npy", ".npz"):
        raise ValueError(
            f"read_fastmri: expected a file .h5, .hdf5, .npy or .npz, got {file.name}; see also read_cfl."
        )
    return _one_slice(file, _load_numpy(file), slice)


def _pair(where: str, path: str | os.PathLike[str]) -> tuple[Path, Path]:
    name = os.fspath(path)
    if not isinstance(name, str):
        raise TypeError(f"{where}: expected a path, got {path!r}.")
    stem = name[:-4] if name.endswith((".cfl", ".hdr")) else name
    return Path(f"{stem}.cfl"), Path(f"{stem}.hdr")


def _header_shape(header: Path) -> list[int]:
    lines = [line.strip() for line in header.read_text(encoding="utf-8", errors="replace").splitlines()]
    sizes = lines[lines.index(_HEADING) + 1].split() if _HEADING in lines[:-1] else []
    if not sizes or not all(size.isascii() and size.isdigit() and int(size) > 0 for size in sizes):
        raise ValueError(
            f"read_cfl: expected positive sizes below the line '{_HEADING}' of {header}, got {' '.join(sizes)!r}."
        )
    return [int(size) for size in sizes]


def _kspace_name(file: Path, names: list[str]) -> str:
    if "kspace" in names:
        return "kspace"
    if len(names) == 1 and file.suffix.lower() == ".npz":
        return names[0]
    raise _NoKspace(f"read_fastmri: {file.name} holds no 'kspace', only {sorted(names)}.")


def _load_numpy(file: Path) -> np.ndarray:
    try:
        if file.suffix.lower() == ".npy":
            # Mapped, so that of a large volume only one slice is read.
            return np.load(file, mmap_mode="r", allow_pickle=False)
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return archive[_kspace_name(file, archive.files)]
    except _NoKspace:
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"read_fastmri: {file} cannot be read as a numpy file ({error}).") from error


def _read_hdf5(file: Path, index: int | None) -> Tensor:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"read_fastmri: {file.name} is an HDF5 file, which needs h5py; try pip install h5py."
        ) from error
    try:
        with h5py.File(file, "r") as volume:
            return _one_slice(file, volume[_kspace_name(file, list(volume))], index, has_slices=True)
    except OSError as error:
        raise ValueError(f"read_fastmri: {file} cannot be read as HDF5 ({error}).") from error


def _one_slice(file: Path, array: Any, index: int | None, has_slices: bool = False) -> Tensor:
    where = f"read_fastmri: {file.name}"
    if not hasattr(array, "dtype"):
        raise _NoKspace(f"{where} holds a group 'kspace', expected an array.")
    shape = tuple(array.shape)
    if array.dtype.kind != "c":
        if array.dtype.kind != "f" or shape[-1:] != (2,):
            raise TypeError(
                f"{where} holds {array.dtype} of shape {shape}; expected complex numbers, or real ones with a last "
                "dimension of two, the real and the imaginary part."
            )
        shape = shape[:-1]
    if index is None and (has_slices or len(shape) > 3):
        last = shape[0] - 1 if shape else 0
        raise ValueError(
            f"{where} holds slices, {shape}; say which, slice=0 to {last}, such as slice={last // 2}."
        )
    if len(shape) - (index is not None) not in (2, 3):
        layout = "([coils,] H, W)" if index is None else "(slices, [coils,] H, W)"
        raise ValueError(f"{where} has k-space of shape {shape}; expected {layout}.")
    if index is not None:
        if isinstance(index, bool) or not hasattr(index, "__index__"):
            raise TypeError(f"{where}: expected slice to be a whole number, got {index!r}.")
        if not 0 <= operator.index(index) < shape[0]:
            raise ValueError(f"{where} has slices 0 to {shape[0] - 1}, got slice={index}.")
        array = array[operator.index(index)]
    double = array.dtype.itemsize > (8 if array.dtype.kind == "c" else 4)
    if array.dtype.kind == "c":
        return torch.from_numpy(np.array(array, dtype=np.complex128 if double else np.complex64, order="C"))
    return torch.view_as_complex(
        torch.from_numpy(np.array(array, dtype=np.float64 if double else np.float32, order="C"))
    )

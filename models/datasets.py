"""Reading training images and their labels: idx .gz (the MNIST format), .npz, or a folder of image files.

Images come as float32 (n, C, H, W) in [0, 1]; 8-bit and 16-bit integers are
divided by their largest value, floating point data must already lie in [0, 1].
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["load_images", "load_labels", "read_idx"]

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


def read_idx(path: str | Path) -> np.ndarray:
    """Read an idx array, gzipped or not.

    The header is two zero bytes, a type code, the number of dimensions and their sizes as
    big-endian 32-bit integers; the data follow in C order.

    Raises:
        ValueError: when the header is not idx or the file is shorter or longer than it says.
    """
    path = Path(path)
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"read_idx: {path} is not a whole gzip file ({error}); it is damaged.") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(
            f"read_idx: {path} does not start with an idx header; expected the MNIST file format."
        )
    dtype, rank = np.dtype(_IDX_TYPES[content[2]]), content[3]
    sizes, body = content[4 : 4 + 4 * rank], content[4 + 4 * rank :]
    shape = struct.unpack(f">{len(sizes) // 4}I", sizes[: len(sizes) // 4 * 4])
    if len(sizes) < 4 * rank or len(body) != math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"read_idx: {path} announces {rank} dimensions {shape} of {dtype.itemsize}-byte values but holds "
            f"{len(body)} bytes of them; the file is damaged."
        )
    return np.frombuffer(body, dtype=dtype).reshape(shape)


def load_images(path: str | Path) -> Tensor:
    """Load images (n, C, H, W), float32 in [0, 1], from an idx file, an .npz file or a folder.

    An .npz must hold one array, or one called ``images``: (n, H, W), (n, H, W, C) or (n, C, H, W)
    with 1 or 3 channels.  The images of a folder are read in sorted order and must share one size.

    Raises:
        FileNotFoundError: when nothing is there.
        ValueError: for any content that is not a stack of images in [0, 1].
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"load_images: {path} does not exist; expected an idx .gz file, an .npz file or a folder."
        )
    if path.is_dir():
        array = _read_folder(path)
    elif path.suffix == ".npz":
        array = _read_npz(path)
    else:
        array = read_idx(path)
    return torch.from_numpy(_unit_range(_channels_first(array, path), path))


def load_labels(path: str | Path) -> Tensor:
    """Load the labels of images (n,), int64, from an idx file or an .npz file.

    An .npz must hold one array, or one called ``labels``; it may be that of the images.

    Raises:
        FileNotFoundError: when nothing is there.
        ValueError: for any content that is not a row of whole numbers from 0.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"load_labels: {path} does not exist; expected an idx .gz file or an .npz file."
        )
    array = _read_npz(path, "labels", "load_labels") if path.suffix == ".npz" else read_idx(path)
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer) or array.min() < 0:
        raise ValueError(
            f"load_labels: {path} holds {array.dtype} values of shape {array.shape}; expected whole numbers from 0, "
            "(n,)."
        )
    return torch.from_numpy(array.astype(np.int64))


def _read_npz(path: Path, name: str = "images", caller: str = "load_images") -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        names = archive.files
        if name not in names and len(names) != 1:
            raise ValueError(
                f"{caller}: {path} holds arrays {names}; expected a single array, or one named {name!r}."
            )
        return archive[name if name in names else names[0]]


def _read_folder(path: Path) -> np.ndarray:
    from PIL import Image

    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in _IMAGE_SUFFIXES)
    if not files:
        raise ValueError(
            f"load_images: no images under {path}; expected files ending in {sorted(_IMAGE_SUFFIXES)}."
        )
    images = []
    for file in files:
        with Image.open(file) as image:
            if image.mode in {"1", "P", "CMYK"}:  # indices, bits or inks: not intensities
                raise ValueError(
                    f"load_images: {file} has mode {image.mode!r}; convert it to grey levels 'L' or 'RGB'."
                )
            images.append(np.asarray(image))
        if images[-1].shape != images[0].shape:
            raise ValueError(
                f"load_images: {file} has shape {images[-1].shape} but {files[0]} has {images[0].shape}; "
                "resize them to one size and one number of channels first."
            )
    return np.stack(images)


def _channels_first(array: np.ndarray, path: Path) -> np.ndarray:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[1] in (1, 3):
        return array
    if array.ndim == 4 and array.shape[-1] in (1, 3):
        return np.moveaxis(array, -1, 1)
    raise ValueError(
        f"load_images: {path} holds an array of shape {array.shape}; "
        "expected (n, H, W), (n, H, W, C) or (n, C, H, W) with 1 or 3 channels."
    )


def _unit_range(array: np.ndarray, path: Path) -> np.ndarray:
    if array.size == 0:
        raise ValueError(f"load_images: {path} holds no images; its array has shape {array.shape}.")
    if np.issubdtype(array.dtype, np.unsignedinteger):
        return array.astype(np.float32) / np.iinfo(array.dtype).max
    images = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"load_images: {path} holds {array.dtype} values from {images.min():g} to {images.max():g}; "
            "expected unsigned integers, or finite floating point values already in [0, 1]."
        )
    return images

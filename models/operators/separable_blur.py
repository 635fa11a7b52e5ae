r"""Blur by two one-dimensional kernels, one along the height and one along the width.

The kernel h with n = 2 m + 1 taps is centred and acts by true convolution,

    z_i = sum_k h_k x_{i - (k - m)},    k = 0 .. n - 1,

so an asymmetric kernel is turned round, as in ``scipy.ndimage.convolve1d`` and unlike the correlation of neural
networks.  Pixels beyond the border come from an extension of the image:

    boundary       beyond the border of a b c d      scipy.ndimage    torch.nn.functional.pad
    "reflect"      d c b a | a b c d | d c b a       reflect          (none)
    "mirror"         d c b | a b c d | c b a         mirror           reflect
    "replicate"    a a a a | a b c d | d d d d       nearest          replicate
    "circular"     a b c d | a b c d | a b c d       wrap             circular
    "zero"         0 0 0 0 | a b c d | 0 0 0 0       constant         constant

Along each axis this is a matrix, A_h (H, H) and A_w (W, W), and the blur is their Kronecker product.  The image
keeps its size.  Lengths are in pixels.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_count, as_image_shape, as_real
from bayes_ir.models.operators.kronecker import Kronecker

__all__ = ["SeparableBlur", "convolution_matrix", "gaussian_taps"]

BOUNDARIES = ("reflect", "mirror", "replicate", "circular", "zero")


def gaussian_taps(std: float, radius: int) -> Tensor:
    """Samples of a Gaussian at ``-radius .. radius``, normalised to sum one, float64, (2 radius + 1,)."""
    t = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (t / std) ** 2)
    return kernel / kernel.sum()


def convolution_matrix(kernel: Tensor, size: int, boundary: str) -> Tensor:
    """Convolution of ``size`` pixels with a centred kernel of odd length, as a matrix (size, size)."""
    reach = len(kernel) // 2
    shifts = reach - torch.arange(len(kernel), device=kernel.device)  # tap k reads the pixel at i + m - k
    source = torch.arange(size, device=kernel.device)[:, None] + shifts  # (size, taps)
    taps = kernel.expand(size, -1)
    if boundary == "zero":
        taps = taps * ((source >= 0) & (source < size))
        source = source.clamp(0, size - 1)
    elif boundary == "replicate":
        source = source.clamp(0, size - 1)
    elif boundary == "circular":
        source = source % size
    elif boundary == "reflect":
        source = source % (2 * size)
        source = torch.minimum(source, 2 * size - 1 - source)
    else:  # mirror; a single pixel is its own mirror image
        period = max(2 * size - 2, 1)
        source = source % period
        source = torch.minimum(source, period - source) if size > 1 else source
    return kernel.new_zeros(size, size).scatter_add(1, source, taps)


def _as_kernel(where: str, name: str, value: Any) -> Tensor:
    kernel = as_real(where, name, value, 1)
    if len(kernel) % 2 == 0:
        raise ValueError(
            f"{where}: expected {name} of odd length, which has a centre, got {len(kernel)} taps; append a zero "
            "to say that the centre is the tap before the middle, or put one in front."
        )
    if not kernel.any():
        raise ValueError(f"{where}: all {len(kernel)} taps of {name} are zero: nothing would be observed.")
    return kernel


def _as_odd(where: str, name: str, value: Any) -> int:
    size = as_count(where, name, value)
    if size % 2 == 0:
        raise ValueError(f"{where}: expected an odd {name}, got {size}; try {size - 1} or {size + 1}.")
    return size


def _as_pair(where: str, name: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(
            f"{where}: expected {name} to be a pair (along the height, along the width), got {value!r}."
        )
    return value[0], value[1]


def as_std(where: str, name: str, value: Any) -> float:
    """``value`` as a positive, finite length in pixels."""
    if isinstance(value, bool | str | complex) or not hasattr(value, "__float__"):
        raise TypeError(f"{where}: expected {name} to be a number of pixels, got {value!r}.")
    if not 0 < float(value) < float("inf"):
        raise ValueError(
            f"{where}: expected 0 < {name} < infinity, in pixels, got {value}; no blur is Identity."
        )
    return float(value)


class SeparableBlur(Kronecker):
    """``z = (h_r h_c^T) * x``: every channel is convolved along the height and along the width.

    The kernels are taken as they are, and not normalised; the constructors :meth:`uniform`, :meth:`gaussian`
    and :meth:`anisotropic` make kernels that sum to one, so that a constant image stays as it is (but at a zero
    boundary).

    Args:
        event_shape: shape (C, H, W) of an image, and of a measurement.
        row_kernel: taps ``h_r`` that mix the rows of the image, that is along its height, odd length.
        column_kernel: taps ``h_c`` that mix its columns, along the width, odd length.
        boundary: ``"reflect"`` (half-sample symmetric, the default of scipy.ndimage, not what torch calls
            so), ``"mirror"``, ``"replicate"``, ``"circular"`` or ``"zero"``.
        dtype: dtype of the operator.

    Raises:
        TypeError: for a kernel that is no list of real numbers.
        ValueError: for a kernel of even length or without a tap that is not zero, or an unknown boundary.

    Source: the conventions of ``scipy.ndimage.convolve1d``.
    """

    def __init__(
        self,
        event_shape: Any,
        row_kernel: Any,
        column_kernel: Any,
        boundary: str = "reflect",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        shape = as_image_shape(where, event_shape)
        row_kernel = _as_kernel(where, "row_kernel", row_kernel)
        column_kernel = _as_kernel(where, "column_kernel", column_kernel)
        if boundary not in BOUNDARIES:
            raise ValueError(f"{where}: expected boundary in {list(BOUNDARIES)}, got {boundary!r}.")
        rows = convolution_matrix(row_kernel, shape[1], boundary)
        columns = convolution_matrix(column_kernel, shape[2], boundary)
        super().__init__(rows, columns, event_shape=shape, dtype=dtype)
        self.boundary = boundary
        self.row_kernel, self.column_kernel = row_kernel.to(dtype), column_kernel.to(dtype)  # (n,)

    @classmethod
    def uniform(
        cls, event_shape: Any, size: int, boundary: str = "reflect", dtype: torch.dtype = torch.float32
    ) -> Self:
        """The mean over ``size`` x ``size`` pixels, ``size`` odd."""
        count = _as_odd(f"{cls.__name__}.uniform", "size", size)
        kernel = torch.full((count,), 1 / count, dtype=torch.float64)
        return cls(event_shape, kernel, kernel, boundary, dtype)

    @classmethod
    def gaussian(
        cls,
        event_shape: Any,
        std: float,
        size: int | None = None,
        boundary: str = "reflect",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """A Gaussian of ``std`` pixels on ``size`` taps, odd; by default up to four ``std``, as in scipy.ndimage."""
        return cls._gaussian(
            f"{cls.__name__}.gaussian", event_shape, (std, std), (size, size), boundary, dtype
        )

    @classmethod
    def anisotropic(
        cls,
        event_shape: Any,
        stds: tuple[float, float],
        sizes: tuple[int, int] | None = None,
        boundary: str = "reflect",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """A Gaussian of ``stds`` pixels along height and width, on ``sizes`` taps; see :meth:`gaussian`."""
        where = f"{cls.__name__}.anisotropic"
        pair = (None, None) if sizes is None else _as_pair(where, "sizes", sizes)
        return cls._gaussian(where, event_shape, _as_pair(where, "stds", stds), pair, boundary, dtype)

    @classmethod
    def _gaussian(
        cls,
        where: str,
        event_shape: Any,
        stds: tuple[Any, Any],
        sizes: tuple[Any, Any],
        boundary: str,
        dtype: torch.dtype,
    ) -> Self:
        kernels = []
        for std, size in zip(stds, sizes, strict=True):
            width = as_std(where, "std", std)
            radius = int(4 * width + 0.5) if size is None else _as_odd(where, "size", size) // 2
            kernels.append(gaussian_taps(width, radius))
        return cls(event_shape, kernels[0], kernels[1], boundary, dtype)

    def extra_repr(self) -> str:
        """The lengths of the kernels stand for the kernels."""
        return (
            f"event_shape={tuple(self.event_shape)}, row_kernel=<{len(self.row_kernel)} taps>, "
            f"column_kernel=<{len(self.column_kernel)} taps>, boundary={self.boundary!r}"
        )

r"""Downsampling by a whole factor f, for super-resolution.

Every channel becomes Z = A_h X A_w^T with the same one-dimensional rule along height and width:

    block average     z_i = (1/f) sum_{j = f i}^{f i + f - 1} x_j,
    bicubic           z_i = sum_j w((j + 1/2 - c_i) / f) x_j / sum_j w((j + 1/2 - c_i) / f),  c_i = (i + 1/2) f,
    Gaussian          z_i = (g * x)_{f i},  g_k proportional to exp(-k^2 / (2 sigma^2)).

The bicubic kernel is that of Keys with a = -1/2,

    w(t) = (a+2)|t|^3 - (a+3)|t|^2 + 1 for |t| <= 1,    a (|t|^3 - 5 |t|^2 + 8 |t| - 4) for 1 < |t| < 2,

stretched by f against aliasing.  Beyond the border it is cut off and the rest normalised anew, as in Pillow;
the weights of an output pixel sum to one.  The Gaussian is cut off too, at a whole number of pixels, and the
image reflected at its border (a b c | c b a), as in scipy.ndimage.

Block average and bicubic samples sit in the middle of their f x f blocks, Gaussian samples on the first pixel:
images of both are shifted against each other by (f - 1)/2 pixels.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_count, as_image_shape
from bayes_ir.models.operators.kronecker import Kronecker
from bayes_ir.models.operators.separable_blur import as_std, convolution_matrix, gaussian_taps

__all__ = ["BicubicDownsampling", "BlockAverage", "GaussianDownsampling"]


class _Downsampling(Kronecker):
    """One rule along height and width, ``self._matrix(size)`` of shape (size / factor, size).

    Args:
        event_shape: shape (C, H, W) of an image.
        factor: whole number ``f`` that divides H and W.
        dtype: dtype of the operator.
    """

    def __init__(self, event_shape: Any, factor: int, dtype: torch.dtype) -> None:
        where = type(self).__name__
        shape = as_image_shape(where, event_shape)
        self.factor = as_count(where, "factor", factor)
        if any(side % self.factor for side in shape[1:]):
            common = math.gcd(*shape[1:])
            divisors = ", ".join(str(d) for d in range(1, common + 1) if common % d == 0)
            raise ValueError(
                f"{where}: factor={self.factor} does not divide the sides of event_shape={tuple(shape)}; expected one "
                f"of {divisors}, or crop the image to multiples of {self.factor}."
            )
        rows, columns = self._matrix(shape[1]), self._matrix(shape[2])
        super().__init__(rows, columns, event_shape=shape, dtype=dtype)

    @abstractmethod
    def _matrix(self, size: int) -> Tensor:
        """The map of ``size`` pixels along one side, (size / f, size), float64."""

    def extra_repr(self) -> str:
        """The settings, not the factors."""
        return f"event_shape={tuple(self.event_shape)}, factor={self.factor}"


class BlockAverage(_Downsampling):
    """``z = mean of every f x f block of x``: super-resolution from block averages.

    ``A A^T = I / f^2``: all singular values are ``1/f``.

    Args:
        event_shape: shape (C, H, W) of an image.
        factor: side ``f`` of a block in pixels, which divides H and W.
        dtype: dtype of the operator.

    Raises:
        ValueError: if the factor does not divide both sides.

    Source: Kawar et al. 2022 (DDRM, arXiv 2201.11793).
    """

    def __init__(self, event_shape: Any, factor: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(event_shape, factor, dtype)

    def _matrix(self, size: int) -> Tensor:
        block = torch.full((1, self.factor), 1 / self.factor, dtype=torch.float64)
        return torch.kron(torch.eye(size // self.factor, dtype=torch.float64), block)


class BicubicDownsampling(_Downsampling):
    """``z = x`` resized to 1/f of its sides by the bicubic filter of Pillow, antialiased, ``a = -1/2``.

    Args:
        event_shape: shape (C, H, W) of an image.
        factor: whole number ``f`` that divides H and W.
        dtype: dtype of the operator.

    Raises:
        ValueError: if the factor does not divide both sides.

    Source: Keys 1981, "Cubic convolution interpolation for digital image processing"; ``Image.resize`` of Pillow.
    """

    def __init__(self, event_shape: Any, factor: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(event_shape, factor, dtype)

    def _matrix(self, size: int) -> Tensor:
        a = -0.5
        pixels = torch.arange(size, dtype=torch.float64) + 0.5
        centres = (torch.arange(size // self.factor, dtype=torch.float64) + 0.5) * self.factor
        t = (pixels - centres[:, None]).abs() / self.factor
        near = ((a + 2) * t - (a + 3)) * t**2 + 1
        far = a * (((t - 5) * t + 8) * t - 4)
        w = torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))
        return w / w.sum(-1, keepdim=True)


class GaussianDownsampling(_Downsampling):
    """``z = (g * x)[f i, f j]``: a Gaussian blur against aliasing, then every f-th pixel.

    It is ``scipy.ndimage.gaussian_filter(x, sigma, truncate=truncate, mode="reflect")[::f, ::f]``.

    Args:
        event_shape: shape (C, H, W) of an image.
        factor: whole number ``f`` that divides H and W.
        sigma: standard deviation of the Gaussian in pixels of x; by default ``f / 2``.
        truncate: the Gaussian is cut off at ``floor(truncate sigma + 1/2)`` pixels.
        dtype: dtype of the operator.

    Raises:
        ValueError: if the factor does not divide both sides, or sigma or truncate is not positive.

    Source: ``scipy.ndimage.gaussian_filter``.
    """

    def __init__(
        self,
        event_shape: Any,
        factor: int,
        sigma: float | None = None,
        truncate: float = 4.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        count = as_count(where, "factor", factor)
        self.sigma = count / 2 if sigma is None else as_std(where, "sigma", sigma)
        self.truncate = as_std(where, "truncate", truncate)
        super().__init__(event_shape, count, dtype)

    def _matrix(self, size: int) -> Tensor:
        kernel = gaussian_taps(self.sigma, int(self.truncate * self.sigma + 0.5))
        return convolution_matrix(kernel, size, "reflect")[:: self.factor]

    def extra_repr(self) -> str:
        """The settings, not the factors."""
        return f"{super().extra_repr()}, sigma={self.sigma}, truncate={self.truncate}"

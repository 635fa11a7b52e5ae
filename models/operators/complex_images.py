r"""Complex images as two real channels, and the centred Fourier transform between images and k-space.

A complex image u (H, W) is the real tensor x (2, H, W) of its real and its imaginary part.  The real inner
product of two such tensors is the real part of the complex one,

    <x, x'> = sum_j Re u_j Re u'_j + Im u_j Im u'_j = Re <u, u'>,

so the transpose of a complex-linear map, read as a real one, is its conjugate transpose.

K-space is the orthonormal discrete Fourier transform with the origin of both sides in the middle,

    (F u)_{k l} = (H W)^{-1/2} sum_{m n} u_{m n} exp(-2 pi i ((k - H0) (m - H0) / H + (l - W0) (n - W0) / W)),

H0 = H // 2, W0 = W // 2: the constant term (DC) sits at index (H // 2, W // 2), as in the files of fastMRI and
BART.  F is unitary, so k-space has the unit of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["as_channels", "as_complex", "to_image", "to_kspace"]

_PLANE = (-2, -1)


def as_channels(image: Tensor) -> Tensor:
    """A complex image as real and imaginary channel, (*batch, H, W) -> (*batch, 2, H, W).

    Raises:
        TypeError: for a tensor that is not complex.
        ValueError: for fewer than two dimensions.
    """
    if not isinstance(image, Tensor) or not image.is_complex():
        got = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"as_channels: expected a complex tensor, got {got}; try torch.complex(x, 0 * x).")
    if image.ndim < 2:
        raise ValueError(f"as_channels: expected an image of shape (*batch, H, W), got {tuple(image.shape)}.")
    return torch.stack([image.real, image.imag], dim=-3)


def as_complex(x: Tensor) -> Tensor:
    """Real and imaginary channel as a complex image, (*batch, 2, H, W) -> (*batch, H, W).

    Raises:
        TypeError: for a tensor that is not real floating.
        ValueError: unless there are two channels.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"as_complex: expected a real floating tensor (*batch, 2, H, W), got {got}.")
    if x.ndim < 3 or x.shape[-3] != 2:
        raise ValueError(
            f"as_complex: expected two channels, real and imaginary, (*batch, 2, H, W), got {tuple(x.shape)}; "
            "a file with the pair last, (..., 2), goes through torch.view_as_complex."
        )
    real, imaginary = x.unbind(-3)
    return torch.complex(real, imaginary)


def to_kspace(image: Tensor) -> Tensor:
    """``F u``, the centred orthonormal transform of the last two dimensions; real or complex in, complex out."""
    if image.numel() == 0:  # the FFT refuses an empty batch
        return image + 0j
    shifted = torch.fft.ifftshift(image, dim=_PLANE)
    return torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=_PLANE)


def to_image(kspace: Tensor) -> Tensor:
    """``F^H k``, inverse and conjugate transpose of :func:`to_kspace`."""
    if kspace.numel() == 0:
        return kspace + 0j
    shifted = torch.fft.ifftshift(kspace, dim=_PLANE)
    return torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=_PLANE)

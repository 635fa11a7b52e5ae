r"""The real orthonormal Fourier basis of images.

The orthonormal DFT F of a real image of H x W pixels has F_{-k} = conj(F_k), indices modulo (H, W).
With one frequency k of every pair {k, -k},

    sqrt(2) Re F_k,    sqrt(2) Im F_k,        k and -k different,
    F_k, which is real,                       k = -k: k_1 in {0, H/2} and k_2 in {0, W/2},

are H W real numbers and an orthonormal transform of the image (H/2 and W/2 only for even sides).

``rfft2`` holds the columns k_2 = 0 .. W // 2.  Its columns 0 and W/2 contain both members of their
pairs, and an inverse needs both: what a backend does with a half that is not Hermitian is not defined.
A choice of coefficients is therefore two gathers, one each way, and no scatter:

    c = w parts[source],    parts = w' c[origin],    parts = (Re F, Im F) flattened.

The tables keep w^2 and w' |w'|, which are 2, 1, 1/2, 0 or -1/2 in every precision, where sqrt(2) is rounded.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bayes_ir.models.operators._gather import take

__all__ = [
    "HalfPlane",
    "Packing",
    "half_plane",
    "half_spectrum",
    "inverse_half_spectrum",
    "pack",
    "packing",
    "unpack",
]


class HalfPlane(NamedTuple):
    """Frequencies of a half plane as places in the flattened ``rfft2``, int64.

    Attributes:
        pairs: one member of every pair ``{k, -k}``, shape (P,).
        mirrors: the other member if ``rfft2`` holds it too, else the same one, shape (P,).
        singles: the frequencies ``k = -k``, shape (S,), ``2 P + S = H W``.
    """

    pairs: Tensor
    mirrors: Tensor
    singles: Tensor


class Packing(NamedTuple):
    """Gathers between the chosen coefficients and the parts of the half spectrum."""

    source: Tensor  # (K,), int64
    weight: Tensor  # (K,), w^2
    origin: Tensor  # (2 H (W // 2 + 1),), int64
    scale: Tensor  # (2 H (W // 2 + 1),), w' |w'|


def half_plane(height: int, width: int) -> HalfPlane:
    """The frequencies of images of ``height`` x ``width`` pixels."""
    columns = width // 2 + 1
    k1, k2 = torch.arange(height)[:, None], torch.arange(columns)
    place = k1 * columns + k2
    twice = (2 * k2 % width == 0).expand(height, columns)  # columns that hold both members of a pair
    single = twice & (2 * k1 % height == 0)
    mirror = torch.where(twice, (-k1 % height) * columns + k2, place)
    chosen = ~single & (place <= mirror)
    return HalfPlane(place[chosen], mirror[chosen], place[single])


def packing(height: int, width: int, kept: Tensor) -> Packing:
    """Tables for the coefficients ``kept`` (K,), numbered in the order Re pairs, Im pairs, singles."""
    pairs, mirrors, singles = half_plane(height, width)
    size = height * (width // 2 + 1)
    source = torch.cat([pairs, pairs + size, singles])
    weight = torch.full((len(source),), 2.0, dtype=torch.float64)
    weight[2 * len(pairs) :] = 1.0
    number = torch.full((len(source),), -1)
    number[kept] = torch.arange(len(kept), device=number.device)
    origin, scale = torch.full((2 * size,), -1), torch.zeros(2 * size, dtype=torch.float64)
    origin[source], scale[source] = number, 1 / weight
    p, moved = len(pairs), mirrors != pairs
    origin[mirrors], scale[mirrors] = number[:p], 0.5
    origin[mirrors[moved] + size], scale[mirrors[moved] + size] = number[p : 2 * p][moved], -0.5
    scale[origin < 0] = 0.0
    return Packing(source[kept], weight[kept], origin.clamp(min=0), scale)


def half_spectrum(x: Tensor) -> Tensor:
    """Orthonormal ``rfft2``, (*batch, H, W) -> (*batch, H, W // 2 + 1), for an empty batch too."""
    if x.numel() == 0:  # the FFT refuses it
        return x.new_zeros((*x.shape[:-1], x.shape[-1] // 2 + 1), dtype=x.dtype.to_complex())
    return torch.fft.rfft2(x, norm="ortho")


def inverse_half_spectrum(spectrum: Tensor, width: int) -> Tensor:
    """Inverse of :func:`half_spectrum`."""
    if spectrum.numel() == 0:
        return spectrum.real.new_zeros(*spectrum.shape[:-1], width)
    return torch.fft.irfft2(spectrum, s=(spectrum.shape[-2], width), norm="ortho")


def pack(spectrum: Tensor, source: Tensor, weight: Tensor) -> Tensor:
    """Chosen coefficients of a half spectrum, (*batch, H, W // 2 + 1) -> (*batch, K)."""
    parts = torch.cat([spectrum.real.flatten(-2), spectrum.imag.flatten(-2)], dim=-1)
    return take(parts, source) * weight.sqrt()


def unpack(c: Tensor, origin: Tensor, scale: Tensor, height: int) -> Tensor:
    """Half spectrum of the image with these coefficients, (*batch, K) -> (*batch, H, W // 2 + 1)."""
    real, imaginary = (take(c, origin) * (scale.sign() * scale.abs().sqrt())).chunk(2, dim=-1)
    return torch.complex(real.contiguous(), imaginary.contiguous()).unflatten(-1, (height, -1))

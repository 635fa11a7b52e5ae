r"""Fast orthonormal transforms of the last dimension: T T^T = I in O(n log n).

The discrete cosine transform (DCT-II)

    X_k = c_k sum_j x_j cos(pi k (2 j + 1) / (2 n)),    c_0 = sqrt(1/n),  c_k = sqrt(2/n),

comes from one real FFT of the reordered signal v = (x_0, x_2, ..., x_3, x_1): with V = FFT(v),

    exp(-i pi k / (2 n)) V_k  is proportional to  X_k - i X_{n-k},

so half the spectrum holds all coefficients (Makhoul 1980); up to n = 64 a product with the matrix is
faster than the FFT.  The Walsh-Hadamard transform is
H_n = n^{-1/2} [[1, 1], [1, -1]] kron ... kron [[1, 1], [1, -1]], in Sylvester's order.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["dct", "inverse_dct", "walsh_hadamard"]

_LARGEST_MATRIX = 64


@lru_cache(maxsize=32)
def _twiddles(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``sqrt(2) exp(-i pi k / (2 n))`` for k = 0 .. n // 2, but 1 at k = 0; complex, of the precision of dtype."""
    with torch.inference_mode(False):  # what is kept must serve gradients, too
        k = torch.arange(n // 2 + 1, dtype=torch.float64, device=device)
        modulus = torch.full_like(k, math.sqrt(2.0))
        modulus[0] = 1.0
        return torch.polar(modulus, k * (-math.pi / (2 * n))).to(dtype.to_complex())


@lru_cache(maxsize=32)
def _dct_matrix(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix whose product with rows is their DCT-II, (n, n)."""
    with torch.inference_mode(False), torch.no_grad():
        return _fast_dct(torch.eye(n, dtype=torch.float64, device=device)).to(dtype)


def dct(x: Tensor) -> Tensor:
    """Orthonormal DCT-II of the last dimension, (*batch, n) -> (*batch, n)."""
    n = x.shape[-1]
    return x @ _dct_matrix(n, x.dtype, x.device) if n <= _LARGEST_MATRIX else _fast_dct(x)


def inverse_dct(c: Tensor) -> Tensor:
    """Inverse, and transpose, of :func:`dct`."""
    n = c.shape[-1]
    return c @ _dct_matrix(n, c.dtype, c.device).mT if n <= _LARGEST_MATRIX else _fast_inverse_dct(c)


def _fast_dct(x: Tensor) -> Tensor:
    if x.numel() == 0:  # the FFT refuses an empty batch
        return x
    n = x.shape[-1]
    v = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)
    w = torch.fft.rfft(v, norm="ortho") * _twiddles(n, x.dtype, x.device)  # X_k - i X_{n-k}
    return torch.cat([w.real, -w.imag[..., 1 : (n + 1) // 2].flip(-1)], dim=-1)


def _fast_inverse_dct(c: Tensor) -> Tensor:
    if c.numel() == 0:
        return c
    n = c.shape[-1]
    half = n // 2 + 1
    reversed_c = torch.cat([torch.zeros_like(c[..., :1]), c.flip(-1)[..., : half - 1]], dim=-1)  # X_{n-k}
    v = torch.fft.irfft(
        torch.complex(c[..., :half], -reversed_c) / _twiddles(n, c.dtype, c.device), n=n, norm="ortho"
    )
    x = torch.empty_like(v)
    x[..., ::2] = v[..., : (n + 1) // 2]
    x[..., 1::2] = v[..., (n + 1) // 2 :].flip(-1)
    return x


def walsh_hadamard(x: Tensor) -> Tensor:
    """Orthonormal Walsh-Hadamard transform of the last dimension, its own inverse.

    Raises:
        ValueError: if the last dimension is not a power of two.
    """
    n = x.shape[-1]
    if n & (n - 1):
        raise ValueError(f"walsh_hadamard: expected a power of two in the last dimension, got {n}.")
    x = x / math.sqrt(n)
    bits = n.bit_length() - 1
    while bits > 0:
        digit = min(4, bits)  # products with 16 x 16 matrices, each of which turns the index by one digit
        x = (x.unflatten(-1, (2**digit, -1)).mT @ _sylvester(digit, x)).flatten(-2)
        bits -= digit
    return x


def _sylvester(bits: int, like: Tensor) -> Tensor:
    """The Hadamard matrix of order ``2**bits``, entries 1 and -1."""
    h = like.new_ones(1, 1)
    for _ in range(bits):
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h

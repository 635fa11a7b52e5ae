r"""Single-coil magnetic resonance imaging: z = M F u, sampled k-space of an image.

F is the centred orthonormal Fourier transform (:func:`to_kspace`) and M keeps the K sampled points.  A complex
image u is the real tensor of its two parts, and so is z, whence A A^T = I: U = I, s = 1, V = A^T.

Of a *real* image the spectrum is symmetric, (F x)_{-k} = conj (F x)_k, and the rows of A are neither orthogonal
nor of unit norm.  Points k and -k span the same two directions of the image, and the decomposition pairs them:

    sampled point                     singular values         left vectors
    k = -k (DC, Nyquist)              1                       Re z_k        (Im z_k is always zero)
    k and -k                          1, 1                    (Re z_k + Re z_{-k}) / sqrt 2, (Im z_k - Im z_{-k}) / sqrt 2
    k without -k                      1 / sqrt 2, 1 / sqrt 2  Re z_k, Im z_k

With white noise of the same size on every number of z, a pair is an average of two readings.
"""  # noqa: E501 (a table)

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_shape
from bayes_ir.models.operators._gather import take
from bayes_ir.models.operators.complex_images import as_channels, as_complex
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.svd import SVD, OrthonormalRowsSVD

__all__ = ["ConjugatePairsSVD", "SingleCoilMRI", "as_channels", "as_complex"]


def as_sampling_mask(where: str, mask: Any) -> Tensor:
    """``mask`` as a bool tensor (H, W) with at least one sampled point."""
    mask = torch.as_tensor(mask)
    if mask.dtype != torch.bool:
        raise TypeError(f"{where}: expected a bool mask, got {mask.dtype}; try mask > 0.")
    if mask.ndim != 2:
        raise ValueError(
            f"{where}: expected a mask of shape (H, W), got {tuple(mask.shape)}; a mask of columns (W,) is "
            "mask.expand(H, W)."
        )
    if not mask.any():
        raise ValueError(
            f"{where}: none of the {mask.numel()} points of k-space is sampled; True means sampled."
        )
    return mask


def points_of(mask: Tensor) -> Tensor:
    """Where the sampled points, in row-major order, are in an FFT, whose DC comes first; shape (K,)."""
    (row, column), (height, width) = mask.nonzero().unbind(-1), mask.shape
    return (row - height // 2) % height * width + (column - width // 2) % width


def sample(image: Tensor, points: Tensor) -> Tensor:
    """The points of the FFT of an image, (*batch, H, W) -> (*batch, 2, K), real and imaginary."""
    # The FFT refuses an empty batch.
    kspace = torch.fft.fft2(image, norm="ortho") if image.numel() else image + 0j
    return parts(take(kspace.flatten(-2), points))


def fill(z: Tensor, points: Tensor, plane: torch.Size) -> Tensor:
    """Transpose of :func:`sample`: the inverse FFT with zeros elsewhere, (*batch, 2, K) -> complex (*batch, H, W)."""
    k = torch.complex(*z.unbind(-2))
    kspace = k.new_zeros(*k.shape[:-1], plane.numel()).index_copy(-1, points, k).unflatten(-1, plane)
    return torch.fft.ifft2(kspace, norm="ortho") if z.numel() else kspace


def parts(k: Tensor) -> Tensor:
    """Real and imaginary parts, complex (*batch, K) -> (*batch, 2, K)."""
    return torch.stack([k.real, k.imag], dim=-2)


def expect_kspace(where: str, kspace: Any, shape: torch.Size) -> None:
    """Refuse ``kspace`` unless it is a complex tensor (*batch, *shape)."""
    if not isinstance(kspace, Tensor) or not kspace.is_complex():
        got = kspace.dtype if isinstance(kspace, Tensor) else type(kspace).__name__
        raise TypeError(
            f"{where}: expected k-space as a complex tensor, got {got}; see as_complex and torch.view_as_complex."
        )
    if kspace.shape[-len(shape) :] != shape:
        wanted = ", ".join(["*batch", *map(str, shape)])
        raise ValueError(f"{where}: expected k-space of shape ({wanted}), got {tuple(kspace.shape)}.")


class SingleCoilMRI(LinearOperator):
    """``z = M F x``: the sampled points of the centred orthonormal Fourier transform of an image.

    ``x`` is (2, H, W), the real and the imaginary part of the image, or (1, H, W) for a real image; ``z`` is
    (2, K), the real and the imaginary parts of the K sampled points in row-major order, in the unit of x.

    Args:
        mask: True where k-space is sampled, bool, shape (H, W), DC at (H // 2, W // 2); see ``mri_masks``.
        event_shape: (2, H, W), the default, or (1, H, W).
        dtype: dtype of the operator.

    Raises:
        TypeError: if the mask is not boolean.
        ValueError: if the mask is not (H, W) or empty, or the image shape is another than these two.

    Source: Lustig, Donoho and Pauly 2007, "Sparse MRI: the application of compressed sensing for rapid MR imaging".
    """

    structured = True

    def __init__(self, mask: Tensor, event_shape: Any = None, dtype: torch.dtype = torch.float32) -> None:
        where = type(self).__name__
        mask = as_sampling_mask(where, mask)
        plane = tuple(mask.shape)
        shape = (2, *plane) if event_shape is None else tuple(as_shape(where, "event_shape", event_shape))
        if shape not in ((2, *plane), (1, *plane)):
            raise ValueError(
                f"{where}: expected event_shape={(2, *plane)}, real and imaginary channel, or {(1, *plane)}, a real "
                f"image, for a mask of shape {plane}, got {shape}."
            )
        super().__init__(shape, (2, int(mask.sum())), dtype, mask.device)
        self.mask = mask  # (H, W)
        self.points = points_of(mask)  # (K,)

    def forward(self, x: Tensor) -> Tensor:
        """Shift, transform, select."""
        x = torch.fft.ifftshift(x, dim=(-2, -1))
        return sample(as_complex(x) if self.event_shape[0] == 2 else x.squeeze(-3), self.points)

    def adjoint(self, z: Tensor) -> Tensor:
        """The zero-filled reconstruction ``F^H M^T z``; of a real image, its real part."""
        self._expect_measurement(z)
        image = fill(z, self.points, self.mask.shape)
        x = as_channels(image) if self.event_shape[0] == 2 else image.real.unsqueeze(-3)
        return torch.fft.fftshift(x, dim=(-2, -1))

    def select(self, kspace: Tensor) -> Tensor:
        """The measurement ``z`` in a recorded k-space, complex (*batch, H, W) -> (*batch, 2, K)."""
        expect_kspace(f"{type(self).__name__}.select", kspace, self.mask.shape)
        return parts(kspace.to(self.device, self.dtype.to_complex())[..., self.mask])

    def decompose(self) -> SVD:
        """``U = I``, ``s = 1``, ``V = A^T``; of a real image, by pairs of conjugate points."""
        return OrthonormalRowsSVD(self) if self.event_shape[0] == 2 else ConjugatePairsSVD(self)

    def extra_repr(self) -> str:
        """The number of sampled points stands for the mask."""
        return (
            f"mask=<{len(self.points)} of {self.mask.numel()} sampled>, event_shape={tuple(self.event_shape)}"
        )


class ConjugatePairsSVD(SVD):
    """Decomposition of the sampled Fourier transform of a real image, ``s`` being 1 or ``1 / sqrt 2``.

    Every column of ``U`` has at most two entries and every row at most one, so ``U`` is four vectors of indices and
    weights; ``V = A^T U diag(1/s)``.

    Args:
        operator: ``A``, for images (1, H, W).
    """

    def __init__(self, operator: SingleCoilMRI) -> None:
        points, device = operator.points, operator.device
        (height, width), k = operator.mask.shape, len(points)
        index = torch.arange(k, device=device)
        mirrored = -(points // width) % height * width + -(points % width) % width  # where -k would be
        place = torch.full((height * width,), -1, device=device).index_copy(0, points, index)
        partner = place[mirrored]  # (K,), -1: not sampled
        own = index[partner == index]
        pair = index[partner > index]
        single = index[partner < 0]
        other = partner[pair]

        half = 0.5**0.5
        ones = torch.ones(k, dtype=torch.float64, device=device)
        zeros = torch.zeros_like(ones)
        split = half * ones[: len(pair)]
        blocks = [  # first entry, its weight, second entry, its weight, singular value
            (own, ones, own, zeros, 1.0),
            (pair, split, other, split, 1.0),
            (pair + k, split, other + k, -split, 1.0),
            (single, ones, single, zeros, half),
            (single + k, ones, single + k, zeros, half),
        ]
        s = torch.cat([torch.full_like(ones[: len(first)], value) for first, _, _, _, value in blocks])
        super().__init__(s, operator.event_shape, operator.measurement_shape, operator.dtype)
        self.operator = operator
        self.first = torch.cat([block[0] for block in blocks])  # (r,), rows of U, z flattened
        self.second = torch.cat([block[2] for block in blocks])  # (r,)
        weights = [
            torch.cat([block[i][: len(block[0])] for block in blocks]).to(operator.dtype) for i in (1, 3)
        ]
        self.first_weight, self.second_weight = weights  # (r,)
        column = torch.arange(len(s), device=device)
        # The second entry first: where both are one entry its weight of zero is overwritten.
        column_of = torch.zeros(2 * k, dtype=column.dtype, device=device)
        self.column_of = column_of.index_copy(0, self.second, column).index_copy(
            0, self.first, column
        )  # (2 K,)
        weight = torch.zeros(2 * k, dtype=operator.dtype, device=device).index_copy(
            0, self.second, weights[1]
        )
        self.weight = weight.index_copy(0, self.first, weights[0])  # (2 K,), zero for the null rows

    def left(self, c: Tensor) -> Tensor:
        """``U c``: every number of z is one coefficient times its weight."""
        self._expect("c", c, self.singular_values.shape)
        return (take(c, self.column_of) * self.weight).unflatten(-1, self.measurement_shape)

    def left_adjoint(self, z: Tensor) -> Tensor:
        """``U^T z``: the weighted sum or difference of a pair."""
        self._expect("z", z, self.measurement_shape)
        flat = z.flatten(-2)
        first = take(flat, self.first) * self.first_weight
        return first + take(flat, self.second) * self.second_weight

    def right(self, c: Tensor) -> Tensor:
        """``V c = A^T U diag(1/s) c``."""
        self._expect("c", c, self.singular_values.shape)
        return self.operator.adjoint(self.left(c / self.singular_values.to(c.dtype)))

    def right_adjoint(self, x: Tensor) -> Tensor:
        """``V^T x = diag(1/s) U^T A x``."""
        self._expect("x", x, self.event_shape)
        return self.left_adjoint(self.operator.forward(x)) / self.singular_values.to(x.dtype)

    def gram_diagonal(self) -> Tensor:
        """1 and 0 for the real and imaginary part of DC and Nyquist, 1/2 for all other points."""
        s = self.singular_values.to(self.dtype)
        return (self.weight * s[self.column_of]).square().unflatten(-1, self.measurement_shape)

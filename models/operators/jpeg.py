r"""JPEG: quantisation of the 8 x 8 cosine coefficients of an image.

With pixels scaled to levels v = 255 (x - low) / (high - low), the encoder does, and the decoder undoes,

    Y  = 0.299 R + 0.587 G + 0.114 B,                                (three channels; a grey image is its own Y)
    Cb = (B - Y) / 1.772 + 128,    Cr = (R - Y) / 1.402 + 128,
    F  = D (block - 128) D^T                                         (orthonormal DCT-II of every 8 x 8 block)
    c  = round(F / Q),                                               (halves away from zero)

with Q the example tables of Annex K of the standard, for Y and for Cb and Cr, scaled to a quality q by the rule
of the IJG library: Q = clip(floor((s Q_50 + 50) / 100), 1, 255), s = floor(5000 / q) below q = 50 and 200 - 2 q
from there on.  With subsampling "4:2:0" Cb and Cr are means of 2 x 2 pixels, and each stands for its four pixels
in the decoder.  Incomplete blocks are filled up by repeating the last row and column, as libjpeg does.

z = decode(encode(x)) is an image.  Without rounding of pixels decode is linear and undoes the transform exactly,
so encode(decode(c)) = c for whole numbers c, and the identity is a pseudo-inverse, A(A^+(A(x))) = A(x), if the
sides are multiples of 8 (16 with "4:2:0").  On other sides what is decoded outside the image is lost, and
compressing twice is not compressing once.

An 8-bit codec also rounds: pixels, Y, Cb and Cr on both sides, each clipped to 0..255, and F to eighths.
round_pixels = True does the same, and gives up A(A^+(A(x))) = A(x) for it.  Against Pillow (libjpeg-turbo) on
photographs at qualities from 10 to 100, "4:4:4", it then gives 89 to 99 % of the values exactly, differs by 0.005
to 0.13 levels on average, by more than 2 in under 0.6 % of the values and by 8 at most: blocks in which integer
arithmetic rounds a coefficient the other way.  Without round_pixels the mean difference is 0.02 to 0.9 levels.
With "4:2:0" it is 0.3 to 1 level, because libjpeg interpolates Cb and Cr between pixels by default.

The gradient is straight-through: roundings count as the identity.  Without subsampling and rounded pixels it
is the identity; with "4:2:0" it is linear, the mean of the colour differences over 2 x 2 pixels; with rounded
pixels it is zero through values that are clipped.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_count, as_image_shape, expect
from bayes_ir.models.operators._image_checks import as_data_range
from bayes_ir.models.operators.base import Operator
from bayes_ir.models.operators.rounding import straight_through

__all__ = ["JPEG"]

_LUMA = (  # ITU-T T.81, table K.1
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (  # table K.2
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *4 * ((99,) * 8,),
)


def _scaled(table: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """Quantisation table of a quality, (8, 8), float64."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((torch.tensor(table) * scale + 50) // 100).clamp(1, 255).double()


def _filled(x: Tensor, rows: int, columns: int) -> Tensor:
    """``x`` with its last row and column repeated until the sides are multiples of ``rows`` and ``columns``."""
    for dim, multiple in ((-2, rows), (-1, columns)):
        size = x.shape[dim]
        if size % multiple:
            place = torch.arange(math.ceil(size / multiple) * multiple, device=x.device)
            x = x.index_select(dim, place.clamp(max=size - 1))
    return x


def _round_half_away(x: Tensor) -> Tensor:
    return straight_through(x, torch.add(x, x.sign(), alpha=0.5).trunc())


class JPEG(Operator):
    """``z = decode(encode(x))``: the image after JPEG compression; straight-through gradient.

    Annex K tables at an IJG quality; the entropy coding, which loses nothing, is left out.

    Args:
        event_shape: (1, H, W) for grey or (3, H, W) for red, green and blue; any sides.
        quality: ``q``, whole number from 1 (coarsest) to 100.
        data_range: ``(low, high)``, levels 0 and 255 in the unit of x; z has the same unit.
        subsampling: ``"4:4:4"``, or ``"4:2:0"`` for colour differences at half the resolution.
        round_pixels: round and clip to 8 bits wherever an 8-bit codec does.
        dtype: dtype of the operator.

    Attributes:
        tables: ``Q`` of every component, shape (C, 8, 8), in levels.

    Raises:
        TypeError: if ``quality`` is no whole number, or ``data_range`` no pair of numbers.
        ValueError: for other channels than 1 or 3, a quality outside 1..100, an unknown subsampling, or "4:2:0"
            for a grey image.

    Source: ITU-T T.81 (1992), Annexes A and K; T.871 (JFIF) for the colours; the IJG's libjpeg for the quality.
    """

    def __init__(
        self,
        event_shape: Any,
        quality: int = 75,
        data_range: tuple[float, float] = (0.0, 1.0),
        subsampling: str = "4:4:4",
        round_pixels: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        shape = as_image_shape(where, event_shape)
        if shape[0] not in (1, 3):
            raise ValueError(f"{where}: expected 1 or 3 channels, grey or RGB, got {shape[0]}.")
        self.quality = as_count(where, "quality", quality)
        if self.quality > 100:
            raise ValueError(f"{where}: expected quality in 1..100, got {self.quality}.")
        if subsampling not in ("4:4:4", "4:2:0"):
            raise ValueError(f"{where}: expected subsampling '4:4:4' or '4:2:0', got {subsampling!r}.")
        if subsampling == "4:2:0" and shape[0] == 1:
            raise ValueError(f"{where}: a grey image has no colours to subsample; try subsampling='4:4:4'.")
        super().__init__(shape, shape, dtype)
        self.data_range = as_data_range(where, data_range)
        self.subsampling, self.round_pixels = subsampling, bool(round_pixels)
        tables = torch.stack([_scaled(t, self.quality) for t in (_LUMA, _CHROMA, _CHROMA)[: shape[0]]])
        self.tables = tables.to(self.dtype)  # (C, 8, 8)
        # Rows of the DCT-II up to their norms: +-1 at the frequencies 0 and 4, so that sums of whole numbers, and
        # the halves among the coefficients, are exact in every precision.
        k, n = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
        cosines = torch.cos(math.pi * k * (2 * n + 1) / 16)
        cosines[4] = cosines[4].sign()
        squares = cosines.square().sum(1).round()  # 8 or 4
        self.cosines = torch.kron(cosines, cosines).to(self.dtype)  # (64, 64), of a flattened block
        self.norms = torch.kron(squares, squares).sqrt().to(self.dtype)  # (64,)
        # RGB to YCbCr in whole numbers over a denominator.  libjpeg rounds halves of Cb and Cr, frequent in greys,
        # down: no other value is as near to a half as 1e-4.
        colours = torch.tensor([[299, 587, 114], [-299, -587, 886], [701, -587, -114]], dtype=torch.float64)
        over = torch.tensor([[1000], [1772], [1402]], dtype=torch.float64)
        self.colours, self.over = colours.to(self.dtype), over.to(self.dtype)
        self.inverse_colours = torch.linalg.inv(colours / over).to(self.dtype)
        self.middle = torch.tensor([[0.0], [128.0], [128.0]], dtype=self.dtype)
        self.half = torch.tensor([[0.5], [0.4999], [0.4999]], dtype=self.dtype)

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        """The quantised coefficients of an image (*batch, C, H, W), whole numbers.

        Returns:
            One tensor (*batch, rows of blocks, columns of blocks, 8, 8) for Y, and for colour also Cb and Cr;
            vertical, then horizontal frequencies, ascending.

        Raises:
            ValueError: for a wrong shape or device.
            TypeError: for another dtype.
        """
        expect(f"{type(self).__name__}.encode", "x", x, self.event_shape, self.dtype, self.device)
        groups = (c.unflatten(-1, (8, 8)).unbind(-5) for c in self._encode(x))
        return tuple(component for group in groups for component in group)

    def decode(self, coefficients: tuple[Tensor, ...]) -> Tensor:
        """The image (*batch, C, H, W) of quantised coefficients, given as :meth:`encode` gives them.

        Raises:
            ValueError: for another number of components, or other shapes, than :meth:`encode` gives.
        """
        where = f"{type(self).__name__}.decode"
        if len(coefficients) != self.event_shape[0]:
            raise ValueError(f"{where}: expected {self.event_shape[0]} components, got {len(coefficients)}.")
        for index, c in enumerate(coefficients):
            expect(where, f"component {index}", c, self._blocks(index), self.dtype, self.device)
        return self._decode([torch.stack(coefficients[group], -5).flatten(-2) for group in self._groups])

    @property
    def _groups(self) -> list[slice]:
        """Components of one size, which are coded together."""
        return [slice(0, 1), slice(1, 3)] if self.subsampling == "4:2:0" else [slice(0, 3)]

    def _blocks(self, component: int) -> torch.Size:
        side = 16 if component > 0 and self.subsampling == "4:2:0" else 8
        return torch.Size([*(math.ceil(size / side) for size in self.event_shape[1:]), 8, 8])

    def _rounded(self, level: Tensor, half: Tensor | float = 0.5) -> Tensor:
        """What 8 bits hold of a level."""
        if not self.round_pixels:
            return level
        held = level.clamp(0, 255)
        return straight_through(held, (held + half).floor())

    def _encode(self, x: Tensor) -> list[Tensor]:
        low, high = self.data_range
        planes = self._rounded((x - low) * (255 / (high - low)))
        if self.event_shape[0] == 1:
            return [self._quantise(planes, self.tables)]
        planes = self.colours @ planes.flatten(-2) / self.over + self.middle
        planes = self._rounded(planes, self.half).unflatten(-1, self.event_shape[1:])
        if self.subsampling == "4:4:4":
            return [self._quantise(planes, self.tables)]
        # Means of 2 x 2 pixels; libjpeg fills up columns to whole blocks before it takes means, rows after.
        luma, wide = planes[..., :1, :, :], _filled(planes[..., 1:, :, :], 2, 16)
        small = self._rounded(wide.unflatten(-2, (-1, 2)).unflatten(-1, (-1, 2)).mean((-3, -1)))
        return [self._quantise(luma, self.tables[:1]), self._quantise(small, self.tables[1:])]

    def _quantise(self, planes: Tensor, tables: Tensor) -> Tensor:
        """Coefficients (*batch, c, rows of blocks, columns of blocks, 64) of planes (*batch, c, H, W)."""
        blocks = (_filled(planes, 8, 8) - 128).unflatten(-2, (-1, 8)).unflatten(-1, (-1, 8)).transpose(-3, -2)
        frequencies = blocks.flatten(-2) @ self.cosines.mT / self.norms
        if self.round_pixels:
            frequencies = _round_half_away(8 * frequencies) / 8
        return _round_half_away(frequencies / tables.flatten(1)[:, None, None])

    def _decode(self, coefficients: list[Tensor]) -> Tensor:
        low, high = self.data_range
        height, width = self.event_shape[1:]
        decoded: list[Tensor] = []
        for c, group in zip(coefficients, self._groups, strict=True):
            weighted = c * (self.tables[group].flatten(1) / self.norms)[:, None, None]
            blocks = (weighted @ self.cosines + 128).unflatten(-1, (8, 8)).transpose(-3, -2)
            plane = self._rounded(blocks.flatten(-4, -3).flatten(-2))
            if decoded:  # colours at half the resolution
                plane = plane.repeat_interleave(2, -2).repeat_interleave(2, -1)
            decoded.append(plane[..., :height, :width])
        planes = torch.cat(decoded, -3)
        if self.event_shape[0] == 3:
            colours = self.inverse_colours @ (planes.flatten(-2) - self.middle)
            planes = self._rounded(colours.unflatten(-1, (height, width)))
        return low + planes * ((high - low) / 255)

    def forward(self, x: Tensor) -> Tensor:
        """Encode, then decode."""
        return self._decode(self._encode(x))

    def pinv(self, z: Tensor) -> Tensor:
        """``A^+ z = z``: a compressed image is decoded as itself; see the module for when A A^+ A = A."""
        expect(f"{type(self).__name__}.pinv", "z", z, self.measurement_shape, self.dtype, self.device)
        return z

    def extra_repr(self) -> str:
        rounded = ", round_pixels=True" if self.round_pixels else ""
        return (
            f"event_shape={tuple(self.event_shape)}, quality={self.quality}, data_range={self.data_range}, "
            f"subsampling={self.subsampling!r}{rounded}"
        )

r"""Parallel-beam computed tomography: the Radon transform with its transpose.

View a of a channel x is the image turned by the angle theta_a and summed along its columns,

    z[a, k] = sum_l x(p),    p = R(theta_a) (s_k, l),    R(theta) = [[cos, sin], [-sin, cos]],

where p is a point (column, row) relative to the rotation axis, x(p) the bilinear interpolation between the four
pixels around it, zero outside the image, and s_k and l count detectors and steps along the ray, both one pixel
apart.  The axis goes through pixel (floor(H/2), floor(W/2)) and detector floor(D/2).  This is the discretisation of
``skimage.transform.radon``, whose sinogram has rows for columns.  In complex numbers p = (s + i l) exp(-i theta): the
points are made anew at every use, some views at a time, and no matrix is stored.  The adjoint spreads z[a, k] over
the same pixels with the same weights: it is the transpose, not another discretisation of back-projection.

There are two inverses.  ``pinv`` means what it means for every operator, the Moore-Penrose inverse: by decomposition
if A is small, otherwise by conjugate gradients, with up to 500 projections and back-projections.  ``fbp``, filtered
back-projection, costs one back-projection and is approximate: A fbp(A x) is near A x, not equal to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_count, as_image_shape, as_real, expect
from bayes_ir.models.operators._linear_map import linear_map
from bayes_ir.models.operators.filtered_back_projection import FILTERS, filtered_back_projection
from bayes_ir.models.operators.linear import LinearOperator

__all__ = ["Radon"]

_CHUNK = 2**21  # numbers in a temporary tensor
_SAMPLER = (
    0,
    0,
    False,
)  # torch's grid sampler: bilinear, zeros outside, -1 and 1 at the edges of the outer pixels


class Radon(LinearOperator):
    """``z[c, a, k] = line integral of x[c] at angle theta_a onto detector k``: computed tomography (CT).

    The side of a pixel is 1: a measurement is in units of image x pixel.

    Args:
        event_shape: shape (C, H, W) of an image; every channel has its own sinogram.
        angles: number ``A`` of angles ``180 a / A`` degrees, or the angles ``theta`` themselves in degrees, shape (A,).
        detectors: number ``D`` of detectors, one pixel apart around the rotation axis; by default, and at most, as many
            as see the whole image (or circle).
        circle: look only at the circle inscribed in a square image, with D = H.  What lies in the corners still counts
            in those views where it is before the detectors.
        dtype: dtype of the operator.

    Raises:
        TypeError: for numbers of angles or detectors that are not whole.
        ValueError: for angles outside [0, 180), no angles or detectors, more detectors than can see anything, or a
            circle in an image that is not square.

    Source: Radon 1917; Kak and Slaney 1988, "Principles of Computerized Tomographic Imaging".
    """

    def __init__(
        self,
        event_shape: Any,
        angles: Any,
        detectors: int | None = None,
        circle: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        shape = as_image_shape(where, event_shape)
        height, width = shape[1:]
        if circle and height != width:
            raise ValueError(
                f"{where}: circle=True needs a square image, got {height} x {width}; try circle=False."
            )
        self._steps = height if circle else _diagonal(max(height, width))  # P, along a ray
        self.detectors = self._steps if detectors is None else as_count(where, "detectors", detectors)
        if self.detectors > self._steps:
            raise ValueError(
                f"{where}: expected detectors <= {self._steps}, which see {'the circle in' if circle else 'all of'} "
                f"{height} x {width} pixels, got {detectors}."
            )
        self.circle = bool(circle)
        self.evenly_spaced = not hasattr(angles, "__len__")
        # Plain numbers, because a tensor would follow ``to`` into a lower precision.
        self.angles: tuple[float, ...] = _as_angles(where, angles)
        super().__init__(shape, (shape[0], len(self.angles), self.detectors), dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Turn by every angle, sum along the columns."""
        return linear_map(_single(x), self._project, self._back_project).to(x.dtype)

    def adjoint(self, z: Tensor) -> Tensor:
        """The transpose: spread every line integral over the pixels of its line."""
        self._expect_measurement(z)
        return linear_map(_single(z), self._back_project, self._project).to(z.dtype)

    def fbp(self, z: Tensor, filter: str | None = "ramp") -> Tensor:
        """Filtered back-projection: the fast, approximate inverse for angles spread evenly over 180 degrees.

        It is ``skimage.transform.iradon`` with linear interpolation; with ``circle=True`` the image is zero outside the
        circle.

        Args:
            z: sinogram, shape (*batch, C, A, D); detectors that are missing count as zero.
            filter: window on the ramp filter: ``"ramp"`` itself, or, with less and less noise and detail,
                ``"shepp-logan"``, ``"cosine"``, ``"hamming"``, ``"hann"``; None for no filter at all.

        Returns:
            Image, shape (*batch, C, H, W).

        Raises:
            ValueError: for an unknown filter, or a wrong shape.
        """
        where = f"{type(self).__name__}.fbp"
        expect(where, "z", z, self.measurement_shape, self.dtype, self.device)
        if filter is not None and filter not in FILTERS:
            raise ValueError(f"{where}: expected filter in {list(FILTERS)} or None, got {filter!r}.")
        _, height, width = self.event_shape
        size = _diagonal(height) if self.circle else self._steps
        before = size // 2 - self.detectors // 2
        whole = torch.nn.functional.pad(_single(z), (before, size - self.detectors - before))
        image = filtered_back_projection(whole, self._theta(), height, width, filter)
        if self.circle:
            column, row = self._pixels()
            image = torch.where(column**2 + row**2 <= (height // 2) ** 2, image, 0.0)
        return image.to(z.dtype)

    def gram_diagonal(self) -> Tensor:
        """Squared norms of the rows, from three back-projections.

        The pixels of a row are less than sqrt(2) away from its ray, so rows three apart share no pixel, and the square
        of their joint back-projection is the sum of their squares.
        """
        column, row = self._pixels()
        detector = torch.arange(self.detectors, device=self.device)
        combs = torch.stack([detector % 3 == first for first in range(3)]).double()  # (3, D)
        views = []
        for theta in self._views(9):
            weights = self._spread(combs.expand(len(theta), 3, -1), theta).square()  # (a, 3, H, W)
            turn = torch.polar(torch.ones_like(theta), theta)[:, None, None]
            shadow = turn.real * column - turn.imag * row + self.detectors // 2  # the detector before a pixel
            owner = torch.stack([first + 3 * ((shadow - first) / 3).round() for first in range(3)], 1)
            owner = owner.long().clamp(0, self.detectors - 1)  # a pixel that no detector sees has no weight
            energy = weights.new_zeros(len(theta), self.detectors)
            views.append(energy.scatter_add(1, owner.flatten(1), weights.flatten(1)))
        return torch.cat(views).to(self.dtype).expand(self.measurement_shape).clone()

    def extra_repr(self) -> str:
        """The settings; angles given one by one are only counted."""
        angles = str(len(self.angles)) if self.evenly_spaced else f"<{len(self.angles)} angles>"
        given = f"event_shape={tuple(self.event_shape)}, angles={angles}, detectors={self.detectors}"
        return f"{given}, circle={self.circle}"

    def _project(self, x: Tensor) -> Tensor:
        images = x.reshape(1, math.prod(x.shape[:-2]), *x.shape[-2:])  # the same for all views
        views = []
        for theta in self._views(images.shape[1]):
            copies = images.expand(len(theta), -1, -1, -1)
            turned = torch.ops.aten.grid_sampler_2d(copies, self._points(theta, x.dtype), *_SAMPLER)
            views.append(turned.sum(-2))
        return torch.cat(views).movedim(0, -2).reshape(*x.shape[:-2], *self.measurement_shape[1:])

    def _back_project(self, z: Tensor) -> Tensor:
        lines = z.reshape(math.prod(z.shape[:-2]), *z.shape[-2:]).movedim(-2, 0)  # (A, images, D)
        image = z.new_zeros(lines.shape[1], *self.event_shape[1:])
        first = 0
        for theta in self._views(lines.shape[1]):
            image = image + self._spread(lines[first : first + len(theta)], theta).sum(0)
            first += len(theta)
        return image.reshape(*z.shape[:-2], *self.event_shape[1:])

    def _spread(self, lines: Tensor, theta: Tensor) -> Tensor:
        """Transpose of turning and summing, view by view: (a, images, D) -> (a, images, H, W)."""
        blank = lines.new_zeros(()).expand(*lines.shape[:2], *self.event_shape[1:])  # only its shape counts
        rays = lines[..., None, :].expand(-1, -1, self._steps, -1)
        points = self._points(theta, lines.dtype)
        return torch.ops.aten.grid_sampler_2d_backward(rays, blank, points, *_SAMPLER, [True, False])[0]

    def _theta(self) -> Tensor:
        return torch.tensor(self.angles, dtype=torch.float64, device=self.device).deg2rad()

    def _views(self, images: int) -> Iterator[Tensor]:
        """Angles in radians, float64, as many at a time as memory likes."""
        return iter(self._theta().split(max(1, _CHUNK // ((2 + images) * self._steps**2))))

    def _points(self, theta: Tensor, dtype: torch.dtype) -> Tensor:
        """Where rays are sampled, (column, row) in the sampler's units, (a, P, D, 2)."""
        _, height, width = self.event_shape

        def centred(n: int) -> Tensor:
            return torch.arange(n, dtype=torch.float64, device=theta.device) - n // 2

        def scaled(p: Tensor, start: complex) -> Tensor:
            place = torch.complex(p.real * (2 / width), p.imag * (2 / height)) + start
            return place.to(dtype.to_complex())

        turn = torch.polar(torch.ones_like(theta), -theta)[:, None, None]
        axis = complex((width // 2 * 2 + 1) / width - 1, (height // 2 * 2 + 1) / height - 1)
        across = scaled(turn * centred(self.detectors), 0.0)
        along = scaled(turn * 1j * centred(self._steps)[:, None], axis)
        return torch.view_as_real(across + along)

    def _pixels(self) -> tuple[Tensor, Tensor]:
        """Columns (W,) and rows (H, 1) counted from the rotation axis, float64."""
        _, height, width = self.event_shape
        column, row = (torch.arange(n, device=self.device).double() - n // 2 for n in (width, height))
        return column, row[:, None]


def _single(x: Tensor) -> Tensor:
    """At least in single precision: half a digit less and the sampler would miss the pixels."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _diagonal(side: int) -> int:
    """Diagonal of a square, rounded up."""
    return math.isqrt(2 * side**2 - 1) + 1


def _as_angles(where: str, angles: Any) -> tuple[float, ...]:
    if not hasattr(angles, "__len__"):
        count = as_count(where, "angles", angles)
        return tuple(180 * a / count for a in range(count))
    theta = as_real(where, "angles", angles, 1).double()
    outside = theta[(theta < 0) | (theta >= 180)]
    if len(outside):
        raise ValueError(
            f"{where}: expected angles in [0, 180) degrees, got {outside[0].item():g}; the view from theta + 180 is "
            "the mirror image of that from theta, try angles % 180."
        )
    return tuple(theta.tolist())

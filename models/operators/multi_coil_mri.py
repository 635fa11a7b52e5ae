r"""Parallel magnetic resonance imaging: z_c = M F (S_c u), one image seen by several receiver coils.

Every coil c has a complex sensitivity S_c over the image, F is the centred orthonormal Fourier transform
(:func:`to_kspace`) and M keeps the sampled points, the same for all coils.  Then

    A^T z = sum_c conj(S_c) F^H M^T z_c,    diag(A A^T)_{c k} = mean_j |S_cj|^2,

and |A x|^2 <= max_j sum_c |S_cj|^2 |x|^2.  The coils mix, so there is no structured decomposition; the solutions
come by conjugate gradients.

Simulated coils are long thin wires parallel to the axis of the scanner, on a circle around the image, at the
complex positions p_c.  By the law of Biot and Savart the field of a wire at w = x + i y, its two components read
as one complex number, is proportional to 1 / (w - p_c) up to conjugation, hence

    S_c(w) = exp(i phi_c) / (w - p_c) / sqrt(sum_d 1 / |w - p_d|^2),    sum_c |S_c|^2 = 1.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_count, as_shape, seeded_generator
from bayes_ir.models.operators.complex_images import as_channels, as_complex
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.mri import as_sampling_mask, expect_kspace, fill, parts, points_of, sample

__all__ = ["MultiCoilMRI", "simulated_sensitivities"]


class MultiCoilMRI(LinearOperator):
    """``z_c = M F (S_c x)``: the sampled Fourier transform of a complex image weighted by each coil's sensitivity.

    ``x`` is (2, H, W), the real and the imaginary part of the image; ``z`` is (coils, 2, K), the real and the
    imaginary parts of the K sampled points in row-major order.  The sensitivities have no unit, z has that of x.

    Args:
        mask: True where k-space is sampled, bool, shape (H, W), DC at (H // 2, W // 2); see ``mri_masks``.
        sensitivities: ``S``, complex, shape (coils, H, W); see :func:`simulated_sensitivities`.
        event_shape: (2, H, W), which is also the default.
        dtype: dtype of the operator.

    Raises:
        TypeError: if the mask is not boolean or the sensitivities are not complex.
        ValueError: if the shapes do not belong together, if the sensitivities are not finite or zero
            everywhere, or if they live on another device than the mask.

    Source: Pruessmann, Weiger, Scheidegger and Boesiger 1999, "SENSE: sensitivity encoding for fast MRI".
    """

    def __init__(
        self,
        mask: Tensor,
        sensitivities: Tensor,
        event_shape: Any = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        where = type(self).__name__
        mask, sensitivities = as_sampling_mask(where, mask), torch.as_tensor(sensitivities)
        plane = tuple(mask.shape)
        if not sensitivities.is_complex():
            raise TypeError(
                f"{where}: expected complex sensitivities (coils, H, W), got {sensitivities.dtype}; for maps of two "
                "real channels (coils, 2, H, W) try as_complex(sensitivities)."
            )
        if sensitivities.ndim != 3 or sensitivities.shape[1:] != mask.shape or len(sensitivities) == 0:
            raise ValueError(
                f"{where}: expected sensitivities of shape (coils, {plane[0]}, {plane[1]}) for a mask of shape "
                f"{plane}, got {tuple(sensitivities.shape)}."
            )
        if sensitivities.device != mask.device:
            raise ValueError(
                f"{where}: the mask is on {mask.device} but the sensitivities are on {sensitivities.device}; "
                f"try sensitivities.to('{mask.device}')."
            )
        if not sensitivities.isfinite().all():
            bad = int((~sensitivities.isfinite()).sum())
            raise ValueError(
                f"{where}: {bad} of the {sensitivities.numel()} sensitivities are not finite; try torch.nan_to_num."
            )
        if not sensitivities.any():
            raise ValueError(
                f"{where}: the sensitivities are zero everywhere, so no coil would see the image."
            )
        shape = (2, *plane) if event_shape is None else tuple(as_shape(where, "event_shape", event_shape))
        if shape != (2, *plane):
            raise ValueError(
                f"{where}: expected event_shape={(2, *plane)}, real and imaginary channel, for a mask of shape "
                f"{plane}, got {shape}; a real image x (1, H, W) goes in as torch.cat([x, 0 * x], dim=-3)."
            )
        super().__init__(shape, (len(sensitivities), 2, int(mask.sum())), dtype, mask.device)
        self.mask = mask  # (H, W)
        self.points = points_of(mask)  # (K,)
        # Shifted here, once, as the FFT takes them, instead of every coil's image in every call.
        self.shifted = torch.fft.ifftshift(
            sensitivities.to(dtype.to_complex()), dim=(-2, -1)
        )  # (coils, H, W)

    @property
    def sensitivities(self) -> Tensor:
        """``S``, shape (coils, H, W)."""
        return torch.fft.fftshift(self.shifted, dim=(-2, -1))

    def forward(self, x: Tensor) -> Tensor:
        """Shift, weigh by each coil, transform, select."""
        image = as_complex(torch.fft.ifftshift(x, dim=(-2, -1)))
        return sample(self.shifted * image.unsqueeze(-3), self.points)

    def adjoint(self, z: Tensor) -> Tensor:
        """The sum over coils of the zero-filled images times the conjugate sensitivities."""
        self._expect_measurement(z)
        image = (self.shifted.conj() * fill(z, self.points, self.mask.shape)).sum(-3)
        return torch.fft.fftshift(as_channels(image), dim=(-2, -1))

    def gram_diagonal(self) -> Tensor:
        """``mean_j |S_cj|^2`` for every number of coil c, because every entry of F has modulus (HW)^(-1/2)."""
        s = self.shifted.to(torch.complex128)
        energy = (s.real.square() + s.imag.square()).mean((-2, -1)).to(self.dtype)  # (coils,)
        return energy[:, None, None].expand(self.measurement_shape).clone()

    def select(self, kspace: Tensor) -> Tensor:
        """The measurement ``z`` in a recorded k-space, complex (*batch, coils, H, W) -> (*batch, coils, 2, K)."""
        expect_kspace(f"{type(self).__name__}.select", kspace, self.shifted.shape)
        return parts(kspace.to(self.device, self.dtype.to_complex())[..., self.mask])

    def extra_repr(self) -> str:
        """Counts stand for the mask and the sensitivities."""
        seen = f"{len(self.points)} of {self.mask.numel()}"
        return (
            f"mask=<{seen} sampled>, sensitivities=<{len(self.shifted)} coils>, "
            f"event_shape={tuple(self.event_shape)}"
        )


def simulated_sensitivities(coils: int, shape: Any, seed: int, distance: float = 1.6) -> Tensor:
    """``S_c(w) = exp(i phi_c) / (w - p_c)``, normalised to ``sum_c |S_c|^2 = 1``: a birdcage of wires.

    The image fills the square from -1 - i to 1 + i.  The wires stand at equal angles, the first angle, a jitter of a
    tenth of the spacing, distances up to a tenth larger and the phases ``phi_c`` being drawn from the seed.

    Args:
        coils: number of coils.
        shape: (H, W) of the image.
        seed: seed of the positions and phases.
        distance: of the wires from the centre, in half-sides of the image, beyond its corners at 1.414.

    Returns:
        The sensitivities, complex128, shape (coils, H, W).

    Raises:
        ValueError: for a shape that is not (H, W), or wires inside the image.

    Source: Hayes et al. 1985, "An efficient, highly homogeneous radiofrequency coil for whole-body NMR imaging at 1.5 T"
    for the birdcage; the field is the textbook one.
    """  # noqa: E501 (a title)
    where = "simulated_sensitivities"
    coils = as_count(where, "coils", coils)
    plane = as_shape(where, "shape", shape)
    if len(plane) != 2:
        raise ValueError(f"{where}: expected shape=(H, W), got {tuple(plane)}.")
    if not math.sqrt(2) < distance < math.inf:
        raise ValueError(f"{where}: expected wires outside the image, distance > 1.4143, got {distance}.")
    draws = torch.rand(3, coils, generator=seeded_generator(where, seed), dtype=torch.float64)
    angle = 2 * math.pi / coils * (torch.arange(coils) + draws[0, 0] + 0.2 * (draws[0] - 0.5))
    wires = torch.polar(distance * (1 + 0.1 * draws[1]), angle)  # (coils,), p_c
    phase = torch.polar(torch.ones_like(angle), 2 * math.pi * draws[2])
    y, x = ((2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1 for n in plane)  # centres of the pixels
    field = phase[:, None, None] / (torch.complex(x[None, :], y[:, None] + 0 * x) - wires[:, None, None])
    return field / field.abs().square().sum(0).sqrt()

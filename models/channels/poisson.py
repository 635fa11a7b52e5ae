r"""Poisson counts: light measured photon by photon, over a background.

    y ~ Poisson(rate(z)),    rate(z) = peak (z - black) + background     for z >= black:

``black`` is the measurement ``A(x)`` of a black image, ``peak`` the mean count that one unit of z above it brings
(exposure time times efficiency), ``background`` the mean count that comes without light (dark counts, stray light).

Light is never negative, but beliefs about z are: a Gaussian ``N(m, v)`` reaches below black, and so do the images on
the way of a diffusion.  What the likelihood says there is convention, and three wishes settle it.  For every count to
be log-concave in z, which keeps ``log Z`` concave and its curvature positive, the rate has to be convex (``y = 0``)
and its logarithm concave (large y); a convex rate stays above its tangent at black, a log-concave one below the
exponential with that tangent; and a rate of zero would forbid beliefs outright.  The largest of these rates is

    rate(z) = background exp(peak (z - black) / background)     for z < black,

the mildest objection to negative light.  With it ``log p(y | z)`` is finite, concave and continuously differentiable on
the whole line.  The obvious ``peak max(z, 0) + background`` is neither concave nor differentiable: where
``y > background`` it has a convex kink at zero, two modes under some Gaussian beliefs, and no slope that would bring a
negative z back.

Hence the background has to be positive.  The slope at and below black is ``peak (y / background - 1)`` or more: the
fewer the dark counts, the more a single photon says that there is light, and without any a photon makes z <= 0
impossible, where no Gaussian belief can follow.

There is no closed form for the tilted normaliser; see ``bayes_ir.models.channels.poisson_tilt``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints

from bayes_ir.models.channels.base import Channel, TiltedNormaliser
from bayes_ir.models.channels.checks import refuse_where
from bayes_ir.models.channels.poisson_tilt import poisson_tilt

__all__ = ["Poisson"]


class Poisson(Channel):
    """``y ~ Poisson(peak (z - black) + background)``, continued log-concavely to z below black.

    Args:
        z: noise-free measurement ``A(x)``, shape ``(*batch, *measurement_shape)``.
        peak: counts per unit of z, positive; a number, or a tensor that broadcasts (a flat field).
        background: mean count without light, positive; there is no default because it belongs to the detector.  A
            camera without dark counts takes what the darkest part of its field counts, or a small number like 0.01,
            the smaller the steeper the likelihood at black.
        black: measurement of a black image, in units of ``A(x)``: 0 for images whose black is 0, ``A(-ones)`` for
            images in [-1, 1].
        validate_args: whether values are checked; default as in torch.

    Raises:
        TypeError, ValueError: see ``Channel``.

    Example:
        >>> channel = Poisson(torch.tensor([0.0, 0.5, 1.0]), peak=30.0, background=2.0)
        >>> channel.mean
        tensor([ 2., 17., 32.])
    """

    arg_constraints: ClassVar = Channel.arg_constraints | {
        "peak": constraints.positive,
        "background": constraints.positive,
        "black": constraints.real,
    }
    elementwise = ("peak", "background", "black")
    support = constraints.nonnegative_integer

    peak: Tensor
    background: Tensor
    black: Tensor

    def __init__(
        self,
        z: Tensor,
        peak: Tensor | float,
        background: Tensor | float,
        black: Tensor | float = 0.0,
        *,
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(z, peak=peak, background=background, black=black, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """``E[y | z] = rate(z)``."""
        p, q = self._light()
        rate = self.background.double() * (p + torch.exp(q))
        return rate.to(self.location).expand(self.batch_shape)

    @property
    def variance(self) -> Tensor:
        """``Var[y | z] = rate(z)``."""
        return self.mean

    @property
    def noise_std(self) -> Tensor:  # type: ignore[override]
        """``sqrt(background) / peak``: the noise of a black measurement in units of z; of a count see ``scale``."""
        return self.background.sqrt() / self.peak

    def scale(self, y: Tensor) -> Tensor:
        """``sqrt(max(y, background)) / peak``: the noise that a count speaks of, in units of z.

        Divided by it, measurements of any brightness have about unit noise, as ``noise_std`` does it for a Gaussian.

        Args:
            y: counts, shape broadcastable against ``batch_shape``.
        """
        return torch.maximum(torch.as_tensor(y).to(self.location), self.background).sqrt() / self.peak

    def largest_curvature(self, y: Tensor) -> Tensor:
        """``max(y, background) (peak / background)^2``, the largest value of ``-d^2 log p(y | z) / dz^2``.

        It is reached at black and bounds the curvature of ``tilt`` at every mean and variance.

        Args:
            y: counts, shape broadcastable against ``batch_shape``.
        """
        y = torch.as_tensor(y).to(self.location)
        return torch.maximum(y, self.background) * (self.peak / self.background).square()

    def sample(self, sample_shape: Iterable[int] = ()) -> Tensor:
        with torch.no_grad():
            return torch.poisson(self.mean.expand(self._extended_shape(torch.Size(sample_shape))))

    def log_prob(self, y: Tensor) -> Tensor:
        y = self._measured_here(y)
        p, q = self._light()
        b = self.background.double()
        log_rate = torch.log(b) + torch.log1p(p) + q
        return (y * log_rate - b * (p + torch.exp(q)) - torch.lgamma(y + 1)).to(self.location)

    @torch.no_grad()
    def tilt(self, y: Tensor, mean: Tensor, variance: Tensor | float) -> TiltedNormaliser:
        v = torch.as_tensor(variance, dtype=torch.float64, device=mean.device)
        b = self.background.double()
        gain = self.peak.double() / b
        light, std = gain * (mean.double() - self.black.double()), gain * v.sqrt()
        found = poisson_tilt(*torch.broadcast_tensors(y.double(), light, std, b))
        return self._tilted(mean, found.log_normaliser, gain * found.slope, gain.square() * found.curvature)

    def _light(self) -> tuple[Tensor, Tensor]:
        """Light in units of the background, float64: its positive and its negative part."""
        z, black = self.location.double(), self.black.double()
        w = self.peak.double() / self.background.double() * (z - black)
        positive = torch.relu(w)
        return positive, w - positive

    def _expected(self) -> str:
        return (
            "whole numbers from 0 on; y counts photons, so divide a camera's values by its gain and round, or use"
            " Gaussian for values that are no counts"
        )

    def _check_arguments(self) -> None:
        def refuse(name: str, positive: bool, expected: str) -> None:
            value = getattr(self, name).detach()
            bad = ~torch.isfinite(value) | (positive & (value <= 0))
            refuse_where(bad, value, f"Poisson: {name}", expected)

        z = self.location.detach()
        refuse_where(~torch.isfinite(z), z, "Poisson: z", "finite values; look for a diverging x")
        refuse("peak", True, "finite values above 0 in counts per unit of A(x)")
        refuse(
            "background",
            True,
            "finite values above 0 in counts, because a count over no background forbids every z <= black;"
            " try a small one, like 0.01",
        )
        refuse("black", False, "finite values in units of A(x)")

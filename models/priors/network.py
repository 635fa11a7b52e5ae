r"""A prior that is known through a learned denoiser ``x0_hat(x_t, a, b)``.

Its draws follow the reverse process of Karras et al. 2022 (algorithm 2) from noise of the largest
to noise of the smallest level of ``noise_range``; see :mod:`bayes_ir.models.reverse`.  Its density is that of
its probability flow; see :mod:`bayes_ir.models.priors.flow_density`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from bayes_ir.models.diffusion import Diffusion, VarianceExploding
from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.priors.calibration import Calibration
from bayes_ir.models.priors.flow_density import flow_log_density
from bayes_ir.models.priors.prediction import PredictionDenoiser
from bayes_ir.models.reverse import heun_sample
from bayes_ir.models.time_grids import karras_grid

__all__ = ["NetworkPrior"]


class NetworkPrior(DiffusionPrior):
    """A learned prior over images.

    The network is put in evaluation mode and its parameters are frozen, in place.  Arithmetic is in
    the network's floating point type, results are in that of ``x_t``; :meth:`denoise` is
    differentiable with respect to ``x_t``.

    Args:
        network: with ``prediction=None`` a denoiser called as ``network(x_t, a, b)`` with x_t
            (batch, *event_shape), float64 a and b (batch,), that returns ``x0_hat``; such is
            :class:`~bayes_ir.models.networks.Denoiser`.  Otherwise any network called as
            ``network(x_t, t)`` with the times (batch,) of ``diffusion``.
        diffusion: forward process the times refer to; with a ``prediction`` the one the network was
            trained for.  :meth:`with_diffusion` changes the first and remembers the second.
        event_shape: shape of one image, (C, H, W).
        data_range: ``(low, high)`` of the training data, or ``None``.
        noise_range: smallest and largest ``b / a`` the network was trained for, in units of the
            data; by default what ``diffusion`` visits.
        mean: mean of the data, a number or (*event_shape).
        std: standard deviation of the data, a number or (*event_shape).  Mean and deviation place
            the start of a sampler, so rough values serve; by default the middle and half the width
            of ``data_range``, or 0 and 1.
        prediction: ``"denoised"``, ``"noise"``, ``"score"`` or ``"velocity"``.
        time: turns times of ``diffusion`` into what the network expects (only with ``prediction``).
        sample_steps: noise levels visited by :meth:`sample`, at ``2 sample_steps - 1`` network calls.
        churn: noise put back along the way, in units of Karras et al. 2022; 0 makes each draw a
            deterministic function of its starting noise.  The defaults gave the best digits of the
            settings tried with the shipped prior; 18 steps without churn cost a third and are close.
        density_steps: Runge-Kutta steps of :meth:`log_prob`, at four network calls each.
        density_probes: probes for its trace, at least 2; by default exact up to 64 pixels and 16 above.  These two
            are attributes too, to be changed on a prior that was loaded.
        calibrations: what :meth:`calibration` answers, by the name of the basis; by default none, and
            :func:`~bayes_ir.models.priors.calibrate` fits them.

    Raises:
        TypeError: when ``network`` is not a torch module.
        ValueError: for a range that is not one, too few steps, an unknown ``prediction``, or a
            calibration for images of another shape.

    Example:
        >>> prior = NetworkPrior(net, DDPM(), (1, 28, 28), data_range=(-1, 1),
        ...                      prediction="noise", time=lambda t: t - 1)  # doctest: +SKIP
    """

    def __init__(
        self,
        network: nn.Module,
        diffusion: Diffusion,
        event_shape: Sequence[int],
        *,
        data_range: tuple[float, float] | None = None,
        noise_range: tuple[float, float] | None = None,
        mean: float | Tensor | None = None,
        std: float | Tensor | None = None,
        prediction: str | None = None,
        time: Callable[[Tensor], Tensor] | None = None,
        sample_steps: int = 48,
        churn: float = 19.0,
        density_steps: int = 32,
        density_probes: int | None = None,
        calibrations: Mapping[str, Calibration] | None = None,
    ) -> None:
        if not isinstance(network, nn.Module):
            raise TypeError(
                f"NetworkPrior: network is a {type(network).__name__}; expected a torch.nn.Module. "
                "Wrap a function in a module whose forward calls it."
            )
        if prediction is not None:
            network = PredictionDenoiser(network, prediction, diffusion, time)
        elif time is not None:
            raise ValueError("NetworkPrior: time= has a meaning only with prediction=; got prediction=None.")
        if data_range is not None and not -math.inf < data_range[0] < data_range[1] < math.inf:
            raise ValueError(
                f"NetworkPrior: expected data_range (low, high) with low < high, got {data_range}."
            )
        if sample_steps < 2 or not 0 <= churn < math.inf:
            raise ValueError(
                f"NetworkPrior: expected sample_steps >= 2 and churn >= 0, got {sample_steps} and {churn}."
            )
        if density_steps < 2 or (density_probes is not None and density_probes < 2):
            raise ValueError(
                f"NetworkPrior: expected density_steps >= 2 and density_probes >= 2 or None, got {density_steps} and "
                f"{density_probes}."
            )
        self.network = network.eval().requires_grad_(False)
        self._like = _first_parameter(self.network)
        self.sample_steps = sample_steps
        self.churn = churn
        self.density_steps = density_steps
        self.density_probes = density_probes
        low, high = data_range or (-1.0, 1.0)
        self._mean = torch.as_tensor((low + high) / 2 if mean is None else mean, dtype=torch.float64)
        self._std = torch.as_tensor((high - low) / 2 if std is None else std, dtype=torch.float64)
        super().__init__(event_shape, diffusion, _noise_range(diffusion, noise_range), data_range)
        self.calibrations = dict(calibrations or {})
        for name, calibration in self.calibrations.items():
            if calibration.basis is not None and calibration.basis.event_shape != self.event_shape:
                raise ValueError(
                    f"NetworkPrior: the calibration {name!r} is for images of shape "
                    f"{tuple(calibration.basis.event_shape)}; expected {tuple(self.event_shape)}."
                )

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.network.parameters())
        return f"NetworkPrior(event_shape={tuple(self.event_shape)}, parameters={parameters})"

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the network and the draws."""
        return self._like.dtype

    @property
    def device(self) -> torch.device:
        """Device of the network and the draws."""
        return self._like.device

    @property
    def mean(self) -> Tensor:
        """Mean of the data, shaped as ``batch_shape + event_shape``."""
        return self._mean.to(self._like).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        """Marginal variances of the data, shaped as ``batch_shape + event_shape``."""
        return (self._std**2).to(self._like).expand(self.batch_shape + self.event_shape)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> NetworkPrior:
        """The same prior around a copy of the network on another device or in another type."""
        other = copy.copy(self)
        other.network = copy.deepcopy(self.network).to(device=device, dtype=dtype)
        other._like = _first_parameter(other.network)
        other.calibrations = {name: c.to(device) for name, c in self.calibrations.items()}
        return other

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draws (*sample_shape, *batch_shape, *event_shape) by the reverse process."""
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        flow = VarianceExploding(*self.noise_range)
        levels = flow.ratio(karras_grid(flow, self.sample_steps)).to(self.device)
        mean, std = (p.to(self._like) for p in (self._mean, (self._std**2 + levels[0] ** 2).sqrt()))
        start = mean + std * torch.randn(shape, dtype=self.dtype, device=self.device)
        one = torch.ones_like(levels[0])

        def denoise(x: Tensor, level: Tensor) -> Tensor:
            return self._denoised_mean(x, one.expand(len(x)), level.expand(len(x)))

        return heun_sample(denoise, start.reshape(-1, *self.event_shape), levels, self.churn).reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the noised images ``x_0 + s_0 eps``, ``s_0 = noise_range[0]``, by the probability flow.

        A deterministic, differentiable function of value, in nats; above 64 pixels it is estimated, by 16 fixed probes.
        It takes ``4 density_steps`` network calls per probe, and HMC their second derivatives: meant for small images.
        :func:`~bayes_ir.models.priors.flow_density.flow_log_density` gives the standard error too, and says more.

        Args:
            value: images, (*batch, *event_shape).

        Returns:
            Tensor shaped as batch and batch shape together; NaN where an image is not finite, so that a trajectory
            that diverged ends and does not end the chain.
        """
        batch = torch.broadcast_shapes(self._batch_of(value), self.batch_shape)
        finite = value.isfinite().flatten(value.ndim - len(self.event_shape)).all(-1)
        x = value.where(finite.reshape(*finite.shape, *(1,) * len(self.event_shape)), value.new_zeros(()))
        found = flow_log_density(self, x, steps=self.density_steps, probes=self.density_probes)
        return found.log_prob.masked_fill(~finite, math.nan).to(value.dtype).expand(batch)

    def _denoised_mean(self, x_t: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return self._denoised_by(x_t, a, b)

    def _denoised_by(self, x_t: Tensor, *scales_and_label: Tensor) -> Tensor:
        x0_hat = self.network(x_t.to(self.dtype), *scales_and_label)
        if not isinstance(x0_hat, Tensor) or x0_hat.shape != x_t.shape:
            got = tuple(x0_hat.shape) if isinstance(x0_hat, Tensor) else type(x0_hat).__name__
            raise ValueError(
                f"NetworkPrior: the network returned {got} for x_t of shape {tuple(x_t.shape)}; expected a "
                "tensor of that shape. Wrap networks that also return a variance or an output object in a "
                "module that keeps the prediction."
            )
        return x0_hat.to(x_t.dtype)


def _first_parameter(network: nn.Module) -> Tensor:
    """A tensor of the type and on the device of the network."""
    return next(network.parameters(), torch.empty(0))


def _noise_range(diffusion: Diffusion, noise_range: tuple[float, float] | None) -> tuple[float, float]:
    if noise_range is None:
        noise_range = (float(diffusion.ratio(diffusion.t_min)), float(diffusion.ratio(diffusion.t_max)))
    if not 0 < noise_range[0] < noise_range[1] < math.inf:
        raise ValueError(
            f"NetworkPrior: expected noise_range (low, high) with 0 < low < high < inf, got {noise_range}; "
            "give the noise-to-signal ratios b/a the network was trained for, such as (0.01, 50.0)."
        )
    return (float(noise_range[0]), float(noise_range[1]))

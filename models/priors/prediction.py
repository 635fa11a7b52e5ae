r"""A network that predicts noise, velocity, score or image at its home process, as a denoiser.

A network trained for ``x_t = a(t) x_0 + b(t) eps`` and called as ``network(x_t, t)`` serves a point
``x = a x_0 + b eps`` of any other process.  The ratio ``b / a`` fixes the time of its home process,
and the size of the point there,

    t_h = r^-1(b / a),    x_h = x ((a_h^2 + b_h^2) / (a^2 + b^2))^(1/2),

and its output becomes ``x0_hat`` by the identities of :mod:`bayes_ir.models.diffusion`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from bayes_ir.models.diffusion import (
    Diffusion,
    denoised_from_noise,
    denoised_from_score,
    denoised_from_velocity,
)

__all__ = ["PREDICTIONS", "PredictionDenoiser"]

# (x_h, output, a, b, a', b') -> x0_hat
Conversion = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]

PREDICTIONS: dict[str, Conversion] = {
    "denoised": lambda x, out, a, b, a_dot, b_dot: out,
    "noise": lambda x, out, a, b, a_dot, b_dot: denoised_from_noise(x, out, a, b),
    "score": lambda x, out, a, b, a_dot, b_dot: denoised_from_score(x, out, a, b),
    "velocity": denoised_from_velocity,
}


class PredictionDenoiser(nn.Module):
    """Denoiser ``x0_hat(x_t, a, b)`` made of a network called as ``network(x_t, t)``.

    Args:
        network: takes x_t (batch, *event_shape) and times (batch,), returns a tensor like x_t.
        prediction: what it returns: ``"denoised"``, ``"noise"``, ``"score"`` or ``"velocity"``
            (the ``dx_t/dt`` of the probability flow).
        home: forward process it was trained for.
        time: turns times of ``home`` into what the network expects, for example
            ``lambda t: t - 1`` for a network that counts DDPM steps from zero.

    Noise ratios outside ``[t_min, t_max]`` of the home process are taken to its nearest end.

    Raises:
        ValueError: for an unknown ``prediction``.
    """

    def __init__(
        self,
        network: nn.Module,
        prediction: str,
        home: Diffusion,
        time: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if prediction not in PREDICTIONS:
            raise ValueError(
                f"PredictionDenoiser: unknown prediction {prediction!r}; expected {sorted(PREDICTIONS)}."
            )
        self.network = network
        self.prediction = prediction
        self.home = home
        self.time = time

    def forward(self, x_t: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Denoise x_t (batch, *event_shape); a and b are (batch,), float64."""
        home = self.home
        low, high = float(home.ratio(home.t_min)), float(home.ratio(home.t_max))
        t = home.time_at((b / a).clamp(low, high))
        a_h, b_h = home.coefficients(t)
        size = ((a_h**2 + b_h**2) / (a**2 + b**2)).sqrt()
        ones = (1,) * (x_t.ndim - 1)
        size, *coefficients = (
            c.to(x_t.device, x_t.dtype).reshape(-1, *ones) for c in (size, a_h, b_h, *home.derivatives(t))
        )
        x_h = size * x_t
        t = t if self.time is None else self.time(t)
        output = self.network(x_h, t.to(x_t.device, x_t.dtype))
        return PREDICTIONS[self.prediction](x_h, output, *coefficients)

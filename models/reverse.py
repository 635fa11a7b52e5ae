r"""A short sampler, so that a prior can be drawn from: Heun's method on noise levels.

With ``x = x_t / a`` and ``s = b / a`` every process is ``x = x_0 + s eps``, and its probability flow is
``dx/ds = (x - x0_hat(x, s)) / s``.  From ``s_i`` to ``s_{i+1}``, with churn ``c`` in ``n`` steps:

    s'  = s_i (1 + min(c / n, 2^(1/2) - 1)),     x' = x_i + (s'^2 - s_i^2)^(1/2) eps
    d   = (x' - x0_hat(x', s')) / s',            x_{i+1} = x' + (s_{i+1} - s') d
    d'  = (x_{i+1} - x0_hat(x_{i+1}, s_{i+1})) / s_{i+1}
    x_{i+1} = x' + (s_{i+1} - s') (d + d') / 2,

the last step, to ``s = 0``, being ``x0_hat`` itself.  Without churn the path is deterministic.

Source: Karras et al. 2022, algorithms 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["heun_sample"]


def heun_sample(
    denoise: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise_levels: Tensor, churn: float = 0.0
) -> Tensor:
    """Carry noise to images along ``noise_levels``.

    Args:
        denoise: ``x0_hat(x, s)`` for x (batch, *event_shape) and s a float64 scalar.
        x: start, with noise of standard deviation ``noise_levels[0]``, (batch, *event_shape).
        noise_levels: descending and positive, (n,), float64.
        churn: noise put back along the path, in units of Karras et al.; 0 for none.

    Returns:
        Images shaped as ``x``, after ``2 n - 1`` calls of ``denoise``.
    """
    steps = len(noise_levels)
    raise_by = 1 + min(churn / steps, math.sqrt(2) - 1)
    for i, level in enumerate(noise_levels):
        s = level * raise_by
        if churn > 0:
            x = x + math.sqrt(s**2 - level**2) * torch.randn_like(x)
        x0_hat = denoise(x, s)
        if i + 1 == steps:
            return x0_hat
        s_next = noise_levels[i + 1]
        slope = (x - x0_hat) / s
        euler = x + (s_next - s) * slope
        slope_next = (euler - denoise(euler, s_next)) / s_next
        x = x + (s_next - s) * 0.5 * (slope + slope_next)
    return x

r"""A time grid from the prior's own calibration: levels where the denoising posterior stops being Gaussian.

Were ``p(x_0 | x_t)`` Gaussian with the calibrated variances ``v_i(r)``, going from the noise ratio r to a smaller s
would leave

    1 / v_i(r -> s) = 1 / v_i(r) + 1 / s^2 - 1 / r^2,

and a single step from draws of it would be exact.  The true ``v_i(s)`` are smaller: modes part and edges settle where

    shape(r, s) = sum_i log v_i(r -> s) - log v_i(s)  >=  0
    size(r, s)  = sum_i v_i(r -> s) - v_i(s)  >=  0,    as a share of sum_i Var(q_i^T x_0),

are large.  The first counts every detail alike, down to those that nobody sees; the second counts only what is large.
Between the ratios ``r_j`` at which the calibration is tabulated, a share

    w_j proportional to  0.3 D_j / sum D + g_j / (0.01 + sum g),    g_j = (shape_j size_j)^{1/2},

of the levels lies, with ``D_j = log (r_j / r_{j+1})``, at equal factors of r; for a Gaussian prior from end to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["calibrated_grid"]

_EVEN, _NEGLIGIBLE = 0.3, 0.01


def calibrated_grid(prior: DiffusionPrior, steps: int, basis: str = "pca") -> Tensor:
    """Times of ``prior.diffusion``, (steps,), float64, descending, from end to end of the prior's ``noise_range``.

    Args:
        prior: a prior with a calibration.
        steps: number of times, at least 2.
        basis: of the calibration.

    Raises:
        ValueError: for fewer than two steps, or where the prior carries no calibration in that basis.
    """
    if steps < 2:
        raise ValueError(f"calibrated_grid: a grid has at least 2 times, its two ends; got steps={steps}.")
    calibration = prior.calibration(basis)
    low, high = torch.tensor(prior.noise_range, dtype=torch.float64).log()
    inner = calibration.ratios.cpu().log().flip(0)
    inner = inner[(inner > low) & (inner < high)]
    knots = torch.cat([high[None], inner, low[None]])
    widths = -knots.diff()
    variances = calibration.at(knots.exp().to(calibration.ratios))[0].cpu()  # (knots, R)
    precision = torch.exp(-2 * knots).diff()[:, None]
    shrunk = torch.log1p(variances[:-1] * precision)
    shape = (-shrunk - variances.log().diff(dim=0)).clamp(min=0).sum(1)
    size = (variances[:-1] * torch.exp(-shrunk) - variances[1:]).clamp(min=0).sum(1) / variances[0].sum()
    wanted = (shape * size).sqrt()
    levels = _EVEN * widths / widths.sum() + wanted / (_NEGLIGIBLE + wanted.sum())
    reached = torch.cat([levels.new_zeros(1), levels.cumsum(0)])
    share = torch.linspace(0, 1, steps, dtype=torch.float64) * reached[-1]
    right = torch.searchsorted(reached, share).clamp(1, len(widths))
    part = (share - reached[right - 1]) / (reached[right] - reached[right - 1])
    ratios = torch.lerp(knots[right - 1], knots[right], part).exp()
    return prior.diffusion.time_at(ratios.to(prior.device))

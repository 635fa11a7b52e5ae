r"""Half-quadratic splitting with a denoiser at a falling noise level (DPIR).

For ``min_x f(x) + lambda phi(x)``, phi minus the log prior, the splitting ``x ~ z`` with the penalty
``mu_k = lambda / s_k^2`` alternates, while the noise level s_k falls on a geometric grid from the highest to the
lowest,

    x_k = argmin_x f(x) + mu_k/2 |x - z_{k-1}|^2        a solve with A'^T A' + mu_k I
    z_k = D_{s_k}(x_k)                                   in place of argmin_z phi(z) + |z - x_k|^2 / (2 s_k^2)

with the prior's denoised mean for the maximum a posteriori denoiser.  A few steps are enough, and no more are meant: it
is not run to a fixed point, and the image depends on the grid.

The paper starts at y (or at y enlarged); as A is any linear operator here, z_0 is the prior's mean, which the first
step makes a regularised least-squares solution.  Its last level is the noise of the data, in units where they are an
image; here it is the lowest of the denoiser, at which x_k and z_k agree.

Sources: Zhang et al. 2021 (arXiv 2008.13751), section 3; half-quadratic splitting is Geman and Yang 1995.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from bayes_ir.inference.baselines.denoising import LevelDenoiser
from bayes_ir.inference.baselines.least_squares import LeastSquares, expect_positive
from bayes_ir.inference.problem import Problem

__all__ = ["hqs_map"]


def hqs_map(
    problem: Problem,
    *,
    weight: float = 0.23,
    steps: int = 8,
    highest: float | None = None,
    lowest: float | None = None,
) -> Tensor:
    """The image z_K after K falling noise levels.  A point estimate, not a posterior draw.

    Args:
        problem: a linear operator and a Gaussian channel, any prior.
        weight: ``lambda > 0`` of the prior; the published value was tuned, Bayes says 1.
        steps: number K of levels, of one network evaluation each; 8 for deblurring and 24 elsewhere in the paper.
        highest: ``s_1`` in units of the image; by default the standard deviation of the prior's images (published:
            49/255 for images in [0, 1]).
        lowest: ``s_K``; by default the lowest noise of the denoiser.

    Returns:
        Image, (*event_shape).

    Raises:
        ModelError: for another problem.
        ValueError: for settings out of range, or noise levels that the denoiser does not serve.

    Source: Zhang et al. 2021 (DPIR).
    """
    misfit = LeastSquares(problem, "hqs_map")
    highest = misfit.typical_size if highest is None else highest
    lowest = problem.prior.noise_range[0] if lowest is None else lowest
    expect_positive("hqs_map", weight=weight, steps=steps)
    denoised = LevelDenoiser(problem.prior, "hqs_map")
    denoised.check(highest=highest, lowest=lowest)
    if not lowest <= highest:
        raise ValueError(f"hqs_map: expected lowest <= highest, got lowest={lowest} and highest={highest}.")
    z = problem.prior.mean.to(misfit.y)
    for level in np.geomspace(highest, lowest, steps).tolist():
        x = misfit.proximal(z, weight / level**2)
        z = denoised(x, level)
    return misfit.finished(z)

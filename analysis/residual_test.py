r"""Are the residuals of the draws those of noise?

    T_i = sum_m z_im^2,    p_i = 2 min( P(chi^2_M <= T_i), P(chi^2_M >= T_i) )

For the residuals z of `bir.residuals`: over data sets, T of one draw of a right posterior is chi^2_M, so p_i is
uniform, and so is the p-value of a test that z_i1, ..., z_iM are N(0, 1).  The draws of one posterior share y; their
p-values are dependent, in a way that nobody knows.  Twice their mean is a p-value whatever that way is: it is below
alpha in at most a share alpha of data sets (Rueschendorf 1982; Vovk and Wang 2020).  T far above M: the draws do not
reach the data, or the noise is larger than the model says.  T far below: the draws follow the noise, or it is smaller.

The posterior predictive p-value of `measurement_check` has another law: it gathers around 1/2.

Source: Johnson 2007; Yuan and Johnson 2012 (pivotal discrepancies).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy.special import ndtr
from scipy.stats import chi2

from bayes_ir.analysis.measurements import measurements_of
from bayes_ir.analysis.uniformity import uniformity_p_value

__all__ = ["ResidualCheck", "residual_check"]


@dataclass(frozen=True)
class ResidualCheck:
    """Outcome of `residual_check`.

    Attributes:
        mean_square: mean of z^2 over draws and measurements; 1 +- sqrt(2 / M) for a right model.
        p_value: of the size of the residuals, twice the mean over draws and at most 1.
        p_value_shape: of their being N(0, 1) in shape, likewise.
        one_draw: p-values (size, shape) of the first finite draw alone, uniform over data sets for a right model.
        measurements: their number M.
        draws_used: finite draws.
        draws_left_out: the others.
    """

    mean_square: float
    p_value: float
    p_value_shape: float
    one_draw: tuple[float, float]
    measurements: int
    draws_used: int
    draws_left_out: int


def residual_check(posterior: xr.DataTree, sites: str | Sequence[str] | None = None) -> ResidualCheck:
    """Test the residuals of the draws against the law of the noise.

    Args:
        posterior: a tree with `observed_data` and the group `residuals` of `bir.residuals`.
        sites: which observed sites, by default all.

    Raises:
        ValueError: a group is missing, no draw is finite, there are fewer than 2 measurements, or a residual is
            infinite.
    """
    found = measurements_of(
        "residual_check", posterior, {"residuals": "add it by bir.residuals(model, posterior)"}, sites
    )
    z = found.sampled["residuals"]
    if z.shape[1] < 2:
        raise ValueError(f"residual_check: there is {z.shape[1]} measurement; expected at least 2")
    if np.isinf(z).any():
        raise ValueError(
            f"residual_check: {int(np.isinf(z).sum())} residuals are infinite: these draws cannot have made their "
            "measurements; look at measurement_check"
        )
    squares = (z**2).sum(axis=1)
    size = 2 * np.minimum(chi2.cdf(squares, z.shape[1]), chi2.sf(squares, z.shape[1]))
    shape = uniformity_p_value(ndtr(z))
    return ResidualCheck(
        mean_square=float((z**2).mean()),
        p_value=float(min(1.0, 2 * size.mean())),
        p_value_shape=float(min(1.0, 2 * shape.mean())),
        one_draw=(float(size[0]), float(shape[0])),
        measurements=z.shape[1],
        draws_used=len(z),
        draws_left_out=found.left_out,
    )

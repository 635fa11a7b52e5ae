"""The Gibbs reference against the normal integral and against one-dimensional truncated normals."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, truncnorm

from bayes_ir.inference.exact.truncated_gibbs import truncated_gaussian_gibbs

F64 = torch.float64
INF = math.inf


def test_slope_is_the_gradient_of_the_log_probability():
    covariance = torch.tensor([[2.0, 0.9], [0.9, 1.0]], dtype=F64)
    mean = torch.tensor([0.3, -0.4], dtype=F64)
    result = truncated_gaussian_gibbs(
        mean,
        covariance,
        torch.tensor([0.0, -INF], dtype=F64),
        torch.tensor([INF, -0.5], dtype=F64),
        chains=1000,
        sweeps=60,
        burn_in=10,
        seed=0,
    )
    flip = np.diag([-1.0, 1.0])

    def log_probability(m):  # P(z_0 > 0, z_1 < -1/2)
        return np.log(multivariate_normal(flip @ m, flip @ covariance.numpy() @ flip).cdf([0, -0.5]))

    for i, step in enumerate(1e-3 * np.eye(2)):
        exact = (log_probability(mean.numpy() + step) - log_probability(mean.numpy() - step)) / 2e-3
        error = float(result.slope[:, i].std()) / math.sqrt(1000)
        assert float(result.slope[:, i].mean()) == pytest.approx(exact, abs=4 * error)


@pytest.mark.parametrize(
    "bounds", [(0.5, INF), (-INF, -2.0), (1.0, 1.1), (-INF, -12.0), (20.0, 20.1), (40.0, INF), (-INF, INF)]
)
def test_one_coordinate_is_a_truncated_normal(bounds):
    lower, upper = (torch.tensor([b], dtype=F64) for b in bounds)
    one = torch.ones(1, 1, dtype=F64)
    z = truncated_gaussian_gibbs(
        torch.zeros(1, dtype=F64), one, lower, upper, chains=4000, sweeps=0, burn_in=2, seed=0
    ).z[:, 0]
    law = truncnorm(*bounds)
    assert ((z >= lower) & (z <= upper)).all()
    assert float(z.mean()) == pytest.approx(law.mean(), abs=4 * law.std() / math.sqrt(4000) + 1e-12)
    assert float(z.std()) == pytest.approx(law.std(), rel=0.1)


def test_narrow_cells_of_an_ill_conditioned_law_stay_cells():
    """Rounding at the border of a cell must not be amplified from coordinate to coordinate."""
    rng = torch.Generator().manual_seed(3)
    basis = torch.linalg.qr(torch.randn(30, 30, generator=rng, dtype=F64))[0]
    covariance = (basis * torch.logspace(0, -6, 30, dtype=F64)) @ basis.T
    truth = torch.randn(30, generator=rng, dtype=F64) @ torch.linalg.cholesky(covariance).T
    lower, upper = truth - 1e-5, truth + 1e-4
    z = truncated_gaussian_gibbs(
        torch.zeros(30, dtype=F64), covariance, lower, upper, chains=100, sweeps=0, burn_in=40, seed=0
    ).z
    assert ((z > lower - 1e-9) & (z < upper + 1e-9)).all()
    assert float(z.std(0).min()) > 1e-6  # and the chains move


def test_an_empty_cell_is_refused():
    one = torch.ones(1, dtype=F64)
    with pytest.raises(ValueError, match="every lower bound must lie below"):
        truncated_gaussian_gibbs(one, one[:, None], one, one, chains=1, sweeps=1, burn_in=1, seed=0)

"""The grid of a prior's calibration: even where the denoising posterior is Gaussian, dense where modes part."""

import pytest
import torch

from bayes_ir.inference import Ancestral
from bayes_ir.models import GaussianMixturePrior, GaussianPrior, VarianceExploding
from bayes_ir.models.priors.calibrated_grid import calibrated_grid

F64 = torch.float64


def seen_through(prior):
    return prior.with_diffusion(VarianceExploding(*prior.noise_range))


def test_even_in_the_logarithm_for_a_gaussian_prior():
    variances = torch.tensor([0.1, 1.0, 4.0], dtype=F64)
    prior = seen_through(GaussianPrior(torch.zeros(3, dtype=F64), variances.diag()))
    ratios = prior.diffusion.ratio(calibrated_grid(prior, 9))
    assert (float(ratios[-1]), float(ratios[0])) == pytest.approx(prior.noise_range)
    steps = ratios.log().diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=0.01, atol=0)


def test_dense_where_modes_part():
    """Two modes at +-2 with sd 0.1 part at noise ratios about 1 to 2."""
    means = torch.tensor([[-2.0], [2.0]], dtype=F64)
    prior = seen_through(
        GaussianMixturePrior(
            torch.tensor([0.5, 0.5], dtype=F64), means, torch.full((2, 1, 1), 0.01, dtype=F64)
        )
    )
    grid = calibrated_grid(prior, 40)
    ratios = prior.diffusion.ratio(grid)
    assert (grid.diff() < 0).all()
    inside = int(((ratios > 0.5) & (ratios < 3)).sum())
    even = (
        40
        * torch.log(torch.tensor(6.0))
        / torch.log(torch.tensor(prior.noise_range[1] / prior.noise_range[0]))
    )
    assert inside > 2 * float(even)


def test_a_sampler_walks_it_and_refusals():
    prior = seen_through(GaussianPrior(torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64)))
    torch.testing.assert_close(Ancestral(steps=7, grid="calibrated").times(prior), calibrated_grid(prior, 7))
    with pytest.raises(ValueError, match="at least 2 times"):
        calibrated_grid(prior, 1)

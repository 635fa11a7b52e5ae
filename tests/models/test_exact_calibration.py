import math

import numpy as np
import pytest
import scipy.fft
import torch
from calibration_case import SHAPE, draws, gaussian, mixture, root

from bayes_ir.models.priors import GaussianPrior, exact_calibration, fit_calibration


class TestGaussian:
    """E[Cov(x_0 | x_t)] = (Sigma^-1 + I / r^2)^-1 at any x_t."""

    @pytest.mark.parametrize("basis", ["pca", "dct", "pixel", "scalar"])
    def test_every_basis_has_the_closed_form(self, basis):
        prior = gaussian()
        sigma = root()[0].numpy() @ root()[0].numpy().T / 6 + 0.01 * np.eye(6)
        calibration = prior.calibration(basis)
        assert (calibration.basis is None) == (basis == "scalar")
        for i in (0, 100, 255):
            r = float(calibration.ratios[i])
            v = np.linalg.inv(np.linalg.inv(sigma) + np.eye(6) / r**2)
            if basis == "pca":
                eigenvalues = np.linalg.eigvalsh(sigma)[::-1]
                expected = eigenvalues * r**2 / (eigenvalues + r**2)
            elif basis == "dct":
                q = scipy.fft.dctn(np.eye(6).reshape(6, 2, 3), norm="ortho", axes=(1, 2)).reshape(6, 6)
                expected = np.diag(q.T @ v @ q)
            else:
                expected = np.diag(v) if basis == "pixel" else [np.trace(v) / 6]
            np.testing.assert_allclose(calibration.variances[i].numpy(), expected, rtol=1e-10)
            np.testing.assert_allclose(calibration.at(r)[0].numpy(), expected, rtol=1e-10)

    def test_between_the_levels_it_is_low_by_a_ten_thousandth_at_most(self):
        prior = gaussian()
        calibration = prior.calibration("pca")
        eigenvalues = torch.linalg.eigvalsh(prior.components.covariance_matrix).flip(0)
        r = (calibration.ratios[1:] * calibration.ratios[:-1]).sqrt()
        v = calibration.at(r)[0]
        exact = eigenvalues * r[:, None] ** 2 / (eigenvalues + r[:, None] ** 2)
        assert (v < exact).all()
        step = float(calibration.ratios[1] / calibration.ratios[0])
        assert (v > exact * (1 - math.log(step) ** 2 / 8)).all()
        assert math.log(step) ** 2 / 8 < 2e-4

    def test_a_direction_without_variance_stays_positive(self):
        prior = GaussianPrior([0.0, 0.0], [[1.0, 0.0], [0.0, 0.0]])
        v, _ = prior.calibration("pca").at(0.5)
        torch.testing.assert_close(v, torch.tensor([0.2, 0.0], dtype=torch.float64), rtol=1e-3, atol=1e-10)
        assert (v > 0).all()


class TestMixture:
    @pytest.mark.parametrize("basis", ["pca", "dct"])
    def test_the_mean_covariance_is_that_of_the_denoising_posteriors(self, basis):
        """Against the covariance matrices of p(x_0 | x_t), averaged over 20,000 other x_t."""
        prior, n = mixture(), 20_000
        calibration = exact_calibration(prior, basis, levels=6)
        q = calibration.basis.analyse(torch.eye(6, dtype=torch.float64).reshape(6, *SHAPE))
        noise = torch.randn(n, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
        for ratio, v in zip(calibration.ratios, calibration.variances, strict=True):
            x_t = draws(prior, n) + ratio * noise
            covariances = prior.denoising_posterior(x_t, prior.diffusion.time_at(ratio)).covariance_matrix
            each = torch.einsum("ni,bnm,mi->bi", q, covariances, q)
            # Standard errors of this average and of the 1,024 draws of the calibration.
            error = each.std(0) * (1 / n + 1 / 1024) ** 0.5
            assert ((each.mean(0) - v).abs() < 4.5 * error + 1e-9 * v).all()

    def test_an_exact_denoiser_is_better_than_the_noisy_image_and_than_the_mean(self):
        calibration = mixture().calibration("pca")
        prior_variances = torch.linalg.eigvalsh(mixture().components.covariance_matrix).flip(0)
        assert (calibration.variances < calibration.ratios[:, None] ** 2).all()
        assert (calibration.variances < prior_variances).all()
        assert (calibration.variances.diff(dim=0) > 0).all()


@pytest.mark.parametrize("make", [gaussian, mixture])
def test_fitting_finds_the_exact_calibration(make):
    prior, n = make(), 6_000
    exact = {basis: exact_calibration(prior, basis, levels=5) for basis in ("pca", "dct", "pixel", "scalar")}
    components = exact["pca"].basis.components
    fits = [
        fit_calibration(prior, part, tuple(exact), levels=5, seed=seed, components=components)
        for seed, part in enumerate(draws(prior, n).split(n // 12))
    ]
    for basis, expected in exact.items():
        found = torch.stack([fit[basis].variances for fit in fits])
        torch.testing.assert_close(fits[0][basis].ratios, expected.ratios)
        # 12 independent fits give the standard error of their mean; the t quantile of 1e-5 with 11 degrees is 6.9,
        # and the draws of a mixture's own calibration add at most 2 per cent.
        error = found.std(0) / math.sqrt(12)
        slack = 0 if make is gaussian else 0.02 * expected.variances
        assert ((found.mean(0) - expected.variances).abs() < 6.9 * error + slack).all(), basis
        assert (error < 0.05 * expected.variances).all(), basis
        assert torch.equal(fits[0][basis].rest, torch.zeros(5, dtype=torch.float64))

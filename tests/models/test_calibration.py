import math

import pytest
import torch
from calibration_case import SHAPE, draws, gaussian, mixture
from torch import nn

from bayes_ir.models.diffusion import DDPM, VarianceExploding
from bayes_ir.models.priors import (
    Calibration,
    DCTBasis,
    NetworkPrior,
    PCABasis,
    calibrate,
    exact_calibration,
    fit_calibration,
)


class Exact(nn.Module):
    """The denoiser of a law as a network."""

    def __init__(self, law):
        super().__init__()
        self.law = law
        self.unit = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x_t, a, b):
        return self.law._denoised_mean(x_t, a, b)


def learned(law, **settings):
    return NetworkPrior(
        Exact(law),
        law.diffusion,
        SHAPE,
        noise_range=law.noise_range,
        mean=law.mean,
        std=law.variance.sqrt(),
        **settings,
    )


def test_what_an_incomplete_basis_leaves_out_is_kept_as_one_number():
    prior = gaussian()
    components = exact_calibration(prior, "pca").basis.components[:, :2]
    fit = fit_calibration(prior, draws(prior, 50), levels=3, components=components)
    pca = fit["pca"]
    assert pca.basis.rank == 2
    total = pca.variances.sum(1) + 4 * pca.rest
    torch.testing.assert_close(total, 6 * fit["scalar"].variances[:, 0])
    torch.testing.assert_close(total, fit["dct"].variances.sum(1))
    v, rest = pca.at(pca.ratios[1])
    torch.testing.assert_close((v, rest), (pca.variances[1], pca.rest[1]))


def test_components_come_from_the_images_by_default():
    images = draws(gaussian(), 5)
    fit = fit_calibration(gaussian(), images, ("pca",), levels=2)["pca"]
    assert fit.basis.rank == 4  # of 5 images
    centred = (images - images.mean(0)).reshape(5, 6)
    torch.testing.assert_close(
        fit.basis.synthesise(fit.basis.analyse(centred.reshape(5, *SHAPE))).reshape(5, 6), centred
    )


def test_a_fit_is_a_function_of_images_and_seed():
    prior, images = gaussian(), draws(gaussian(), 20)
    state = torch.get_rng_state()
    first, second, other = (
        fit_calibration(prior, images, ("dct",), levels=3, seed=seed, batch_size=size)["dct"].variances
        for seed, size in ((1, 20), (1, 7), (2, 20))
    )
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=0)
    assert not torch.allclose(first, other)


def test_the_error_of_a_poor_denoiser_is_kept_and_not_cut_at_the_noise():
    class Zero(nn.Module):
        def forward(self, x_t, a, b):
            return torch.zeros_like(x_t)

    prior = NetworkPrior(Zero(), VarianceExploding(0.01, 1.0), (2,))
    images = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    calibration = calibrate(prior, images, bases=("pixel",), levels=2).calibration("pixel")
    for ratio in (0.01, 0.1, 1.0):
        torch.testing.assert_close(calibration.at(ratio)[0], torch.tensor([5.0, 2.0], dtype=torch.float64))


def table(**changes):
    settings = {
        "basis": DCTBasis((2,)),
        "ratios": torch.tensor([0.1, 1.0, 100.0], dtype=torch.float64),
        "variances": torch.tensor([[0.01, 0.02], [0.5, 0.6], [2.0, 3.0]], dtype=torch.float64),
        "rest": torch.zeros(3, dtype=torch.float64),
    }
    return Calibration(**{**settings, **changes})


def test_between_levels_logarithms_are_linear_and_beyond_them_the_limits_hold():
    calibration = table()
    for i, ratio in enumerate(calibration.ratios):
        torch.testing.assert_close(calibration.at(ratio)[0], calibration.variances[i])
    geometric_mean = torch.tensor([math.sqrt(0.5 * 2.0), math.sqrt(0.6 * 3.0)], dtype=torch.float64)
    torch.testing.assert_close(calibration.at(10.0)[0], geometric_mean)
    torch.testing.assert_close(calibration.at(0.01)[0], calibration.variances[0] / 100)
    assert torch.equal(calibration.at(0.0)[0], torch.zeros(2, dtype=torch.float64))
    for ratio in (1e9, math.inf):
        torch.testing.assert_close(calibration.at(ratio)[0], calibration.variances[-1])
    v, rest = calibration.at(torch.tensor([[0.1, 1.0, 10.0]]))
    assert (v.shape, rest.shape) == ((1, 3, 2), (1, 3))
    assert v.dtype == rest.dtype == torch.float64
    torch.testing.assert_close(v[0, 2], calibration.at(10.0)[0])


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.1, 0.3, 1.0, 10.0, 100.0, 1e9])
def test_one_level_is_as_a_batch_of_them(ratio):
    rest = torch.tensor([0.01, 0.3, 1.0], dtype=torch.float64)
    variances, single = table(rest=rest).at_level(ratio)
    assert isinstance(single, float)
    wanted, wanted_rest = table(rest=rest).at(ratio)
    torch.testing.assert_close(variances, wanted)
    assert single == pytest.approx(float(wanted_rest))
    scalar = table(basis=None, variances=rest[:, None])
    assert scalar.scalar_at(ratio) == pytest.approx(float(scalar.at(ratio)[0]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variances": torch.ones(3, 1)}, r"expected \(L,\), \(L, 2\) and \(L,\)"),
        ({"basis": None}, r"\(L, 1\)"),
        ({"ratios": torch.tensor([0.1, 1.0, 1.0])}, "ascend"),
        ({"ratios": torch.tensor([0.0, 1.0, 2.0])}, "positive, finite and ascend"),
        ({"variances": torch.zeros(3, 2)}, "variances must be positive"),
        ({"variances": torch.full((3, 2), math.inf)}, "variances must be positive and finite"),
        ({"basis": PCABasis(torch.eye(3)[:, :2])}, "rest must be positive"),
        ({"rest": -torch.ones(3)}, "rest must be positive"),
    ],
)
def test_impossible_tables_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        table(**changes)


class TestCarrying:
    def test_exact_calibrations_are_made_once_and_follow_the_copies(self):
        prior = mixture()
        moved_before = prior.with_diffusion(DDPM())
        moved_before.calibration("pca")
        kept = prior.calibrations["pca"]
        assert prior.calibration("pca").variances is kept.variances
        for copy in (prior.with_diffusion(DDPM()), prior.expand([2])):
            assert copy.calibrations["pca"] is kept
        single = prior.to("cpu", torch.float32)
        found = single.calibration("pca")
        assert found.variances is kept.variances
        assert found.basis.components.dtype == torch.float32
        assert prior.calibration("pca").basis.components.dtype == torch.float64
        assert single.to(dtype=torch.float64).calibration("pca").basis.components is kept.basis.components

    def test_a_learned_prior_carries_what_was_fitted(self):
        law = gaussian()
        prior = learned(law)
        with pytest.raises(
            ValueError, match=r"'pca'; it has none\. Fit one with prior = calibrate\(prior, images"
        ):
            prior.calibration()
        fitted = calibrate(prior, draws(law, 30), bases=("dct", "scalar"), levels=4)
        assert prior.calibrations == {}
        assert sorted(fitted.calibrations) == ["dct", "scalar"]
        with pytest.raises(ValueError, match="it has dct, scalar"):
            fitted.calibration("pca")
        more = calibrate(fitted, draws(law, 30), bases=("pca",), levels=4)
        assert sorted(more.calibrations) == ["dct", "pca", "scalar"]
        assert more.with_diffusion(DDPM()).calibration("dct").variances is fitted.calibration("dct").variances
        single = more.to(dtype=torch.float32)
        assert single.calibration("pca").basis.components.dtype == torch.float32
        assert single.calibration("pca").variances.dtype == torch.float64
        again = learned(law, calibrations=more.calibrations)
        assert again.calibration("pca").variances is more.calibration("pca").variances

    def test_without_images_the_draws_of_the_prior_stand_in(self):
        law = gaussian()
        prior = learned(law, sample_steps=24, churn=0.0)
        state = torch.get_rng_state()
        fitted = calibrate(prior, bases=("scalar",), levels=4, seed=3)
        assert torch.equal(torch.get_rng_state(), state)
        exact = exact_calibration(law, "scalar", levels=4).variances
        # 512 images of 6 pixels: (2 / 3072)^(1/2) = 2.6 per cent a standard error where pixels are alike, at most
        # (2 / 512)^(1/2) = 6 per cent where one direction makes up all; 5 of the latter.
        assert ((fitted.calibration("scalar").variances / exact - 1).abs() < 0.3).all()
        again = calibrate(prior, bases=("scalar",), levels=4, seed=3)
        assert torch.equal(again.calibration("scalar").variances, fitted.calibration("scalar").variances)


@pytest.mark.parametrize(
    ("images", "settings", "words"),
    [
        (torch.zeros(4, 6), {}, r"got images of shape \(4, 6\); expected \(n, 1, 2, 3\)"),
        (torch.zeros(1, *SHAPE), {}, "n >= 2"),
        (torch.full((4, *SHAPE), math.nan), {}, "not finite"),
        (torch.full((4, *SHAPE), 255.0), {}, r"reach from 255 to 255; expected .* \[0, 1\].*1/255"),
        (torch.rand(4, *SHAPE), {"levels": 1}, "at least 2 levels"),
        (torch.rand(4, *SHAPE), {"bases": ("wavelet",)}, "unknown basis 'wavelet'; expected one of"),
        (torch.rand(4, *SHAPE), {"components": torch.eye(5)}, r"expected \(6, R\)"),
    ],
)
def test_impossible_fits_are_refused(images, settings, words):
    prior = learned(gaussian(), data_range=(0.0, 1.0))
    with pytest.raises(ValueError, match=words):
        calibrate(prior, images, **settings)


def test_unknown_bases_and_foreign_calibrations_are_refused():
    for prior in (gaussian(), learned(gaussian())):
        with pytest.raises(ValueError, match="unknown basis 'wavelet'; expected one of"):
            prior.calibration("wavelet")
    with pytest.raises(ValueError, match=r"calibration 'dct' is for images of shape \(2,\)"):
        learned(gaussian(), calibrations={"dct": table()})

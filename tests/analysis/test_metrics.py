import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bayes_ir.analysis.metrics import cosine_similarity, psnr, restoration_metrics, rmse, ssim
from bayes_ir.analysis.uncertainty import mean_map


@pytest.fixture
def pair():
    rng = np.random.default_rng(1)
    truth = rng.uniform(-1, 1, size=(3, 16, 12))
    return truth + 0.2 * rng.normal(size=truth.shape), truth


def test_psnr_of_a_known_error():
    # error 0.1 everywhere, range 2: 20 log10(2 / 0.1) dB
    assert psnr(np.full((1, 4, 4), 0.1), np.zeros((1, 4, 4)), 2.0) == pytest.approx(20 * np.log10(20))
    assert psnr(np.ones(3), np.ones(3), 2.0) == float("inf")


def test_psnr_and_ssim_are_scikit_images(pair):
    assert psnr(*pair, 2.0) == pytest.approx(peak_signal_noise_ratio(pair[1], pair[0], data_range=2.0))
    assert ssim(*pair, 2.0) == pytest.approx(
        np.mean([structural_similarity(pair[0][c], pair[1][c], data_range=2.0) for c in range(3)])
    )
    assert ssim(pair[1], pair[1], 2.0) == pytest.approx(1)
    assert ssim(pair[0][:, :4, :4], pair[1][:, :4, :4], 2.0) < 1  # the window shrinks to 3


def test_cosine_and_rmse_of_known_vectors():
    assert cosine_similarity(np.array([1.0, 0]), np.array([1.0, 1.0])) == pytest.approx(np.sqrt(0.5))
    assert cosine_similarity(np.array([[2.0, 4]]), np.array([[-1.0, -2]])) == pytest.approx(-1)
    assert np.isnan(cosine_similarity(np.zeros(2), np.ones(2)))
    assert rmse(np.array([3.0, 4.0]), np.zeros(2)) == pytest.approx(np.sqrt(12.5))


def test_metrics_of_a_posterior_are_those_of_its_mean(memory_run, layout):
    tree = memory_run(layout, mean=0.5)
    truth = torch.linspace(-1, 1, 12).reshape(1, 4, 3)
    mean = mean_map(tree).values
    found = restoration_metrics(tree, truth)  # range [-1, 1] from the tree's attribute
    assert list(found) == ["psnr", "ssim", "cosine_similarity", "rmse"]
    assert found["psnr"] == pytest.approx(
        peak_signal_noise_ratio(truth.numpy().astype(float), mean, data_range=2.0)
    )
    assert found["rmse"] == pytest.approx(np.sqrt(((mean - truth.numpy()) ** 2).mean()))
    wider = restoration_metrics(tree, truth, data_range=4.0)
    assert wider["psnr"] - found["psnr"] == pytest.approx(20 * np.log10(2))


def test_the_data_range_must_be_known(memory_run, layout):
    truth = np.zeros((1, 4, 3))
    for settings in ({}, {"data_range": None}, {"data_range": []}):
        tree = memory_run(layout, settings=settings)
        with pytest.raises(ValueError, match=r"no attribute 'data_range'; give data_range=\(low, high\)"):
            restoration_metrics(tree, truth)
    for wrong in ((1.0, -1.0), 0.0, float("nan"), (1.0, 2.0, 3.0)):
        with pytest.raises(ValueError, match="must be a positive width or a pair"):
            restoration_metrics(tree, truth, data_range=wrong)


def test_images_of_other_shapes_are_refused(pair):
    with pytest.raises(ValueError, match=r"estimate has shape \(3, 16, 12\), truth \(16, 12\)"):
        psnr(pair[0], pair[1][0], 2.0)
    with pytest.raises(ValueError, match=r"sides of 3 pixels or more, got \(2, 16\)"):
        ssim(np.zeros((2, 16)), np.zeros((2, 16)), 2.0)

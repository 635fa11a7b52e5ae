"""Errors of moments and of the weights of modes, with their floors, against known laws."""

import numpy as np
import pytest

from bayes_ir.analysis import mode_weight_distance, moment_errors

COVARIANCE = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])
MEAN = np.array([1.0, -2.0, 0.5])


def _sample(rng, n):
    return MEAN + rng.normal(size=(n, 3)) @ np.linalg.cholesky(COVARIANCE).T


def test_exact_draws_are_at_the_floors():
    rng = np.random.default_rng(0)
    found = [moment_errors(_sample(rng, 100), mean=MEAN, covariance=COVARIANCE) for _ in range(400)]
    for error, floor in (("mean_error", "mean_floor"), ("covariance_error", "covariance_floor")):
        rms = np.sqrt(np.mean([getattr(f, error) ** 2 for f in found]))
        assert rms == pytest.approx(getattr(found[0], floor), rel=0.08)
    assert np.mean([f.sd_ratio for f in found]) == pytest.approx(1, abs=0.02)
    # three nearly independent coordinates are averaged
    assert np.std([f.sd_ratio for f in found]) * 3**0.5 == pytest.approx(found[0].sd_floor, rel=0.25)


def test_two_exact_sets_are_at_the_floor_of_both():
    rng = np.random.default_rng(1)
    found = [moment_errors(_sample(rng, 100), _sample(rng, 50)) for _ in range(400)]
    assert found[0].mean_floor == pytest.approx((1 / 100 + 1 / 50) ** 0.5)
    assert np.sqrt(np.mean([f.mean_error**2 for f in found])) == pytest.approx(found[0].mean_floor, rel=0.08)


def test_shift_and_width_are_read_off():
    x = _sample(np.random.default_rng(2), 4000)
    x = (
        MEAN
        + (x - x.mean(0))
        @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
        @ np.linalg.cholesky(COVARIANCE).T
    )
    right = moment_errors(x, mean=MEAN, covariance=COVARIANCE)
    assert right.mean_error < 1e-10 and right.covariance_error < 1e-10
    wrong = moment_errors(
        0.9 * (x - MEAN) + MEAN + 0.5 * np.sqrt(np.diag(COVARIANCE)), mean=MEAN, covariance=COVARIANCE
    )
    assert wrong.mean_error == pytest.approx(0.5)
    assert wrong.sd_ratio == pytest.approx(0.9)
    assert wrong.covariance_error == pytest.approx(1 - 0.81)


def test_images_and_constant_pixels():
    x = np.random.default_rng(3).normal(size=(50, 1, 2, 2))
    x[:, 0, 0, 0] = 1.0
    found = moment_errors(x, x[::-1])
    assert found.coordinates == 3 and found.mean_error < 1e-12
    assert found.sd_ratio == pytest.approx(1)


def test_mode_weights_and_their_floor():
    rng, exact = np.random.default_rng(4), np.array([0.2, 0.3, 0.5])
    found = [mode_weight_distance(rng.choice(3, size=200, p=exact), exact) for _ in range(500)]
    assert np.mean([f.distance for f in found]) == pytest.approx(found[0].floor, rel=0.07)
    lost = mode_weight_distance(rng.choice(2, size=20_000, p=[0.4, 0.6]), exact)
    assert lost.distance == pytest.approx(0.5, abs=0.01)
    soft = mode_weight_distance(np.tile([0.1, 0.4, 0.5], (7, 1)), exact)
    assert soft.distance == pytest.approx(0.1) and soft.weights == pytest.approx([0.1, 0.4, 0.5])


def test_refusals():
    x = np.zeros((4, 3))
    with pytest.raises(ValueError, match="either exact draws, or both mean= and covariance="):
        moment_errors(x)
    with pytest.raises(ValueError, match="either exact draws, or both mean= and covariance="):
        moment_errors(x, x, mean=MEAN, covariance=COVARIANCE)
    with pytest.raises(ValueError, match="mean has 2 values"):
        moment_errors(x, mean=MEAN[:2], covariance=COVARIANCE)
    with pytest.raises(ValueError, match="the exact sd is 0 everywhere"):
        moment_errors(x, x)
    with pytest.raises(ValueError, match="at least 2 draws"):
        moment_errors(x[:1], x)
    with pytest.raises(ValueError, match="expected one shape"):
        moment_errors(x, np.ones((4, 2)))
    with pytest.raises(ValueError, match="sum to 1"):
        mode_weight_distance([0, 1], [0.5, 0.6])
    with pytest.raises(ValueError, match="expected 0 to 1"):
        mode_weight_distance([0, 2], [0.5, 0.5])
    with pytest.raises(ValueError, match="expected labels"):
        mode_weight_distance(np.zeros((3, 3)), [0.5, 0.5])
    with pytest.raises(ValueError, match="no probabilities"):
        mode_weight_distance(np.ones((3, 2)), [0.5, 0.5])

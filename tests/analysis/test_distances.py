"""Sliced Wasserstein distance against closed forms."""

import numpy as np
import pytest

from bayes_ir.analysis import sliced_wasserstein


def test_one_dimension_is_the_shift():
    x = np.random.default_rng(0).normal(size=(500, 1))
    assert sliced_wasserstein(x, x + 0.7) == pytest.approx(0.7)


def test_a_shift_is_averaged_over_directions():
    # E |theta_1| of a unit vector in three dimensions is 1/2; 2,000 directions give it to 1.3 %
    x = np.random.default_rng(0).normal(size=(200, 3))
    assert sliced_wasserstein(x, x + np.eye(3)[0], projections=2000) == pytest.approx(0.5, abs=0.03)


def test_images_are_flattened_and_the_distance_is_symmetric():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 1, 2, 3)), rng.normal(size=(60, 1, 2, 3))
    assert sliced_wasserstein(x, y) == pytest.approx(sliced_wasserstein(y, x))
    assert sliced_wasserstein(x, x) == 0


def test_refusals():
    with pytest.raises(ValueError, match="draws have one shape"):
        sliced_wasserstein(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="not finite"):
        sliced_wasserstein(np.full((3, 2), np.nan), np.zeros((3, 2)))

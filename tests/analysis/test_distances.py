"""Sliced Wasserstein distances against scipy and closed forms, and their floor."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from bayes_ir.analysis import sliced_wasserstein, sliced_wasserstein_floor


def _directions(seed, projections, dimension):
    directions = np.random.default_rng(seed).normal(size=(projections, dimension))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def test_one_dimension_is_the_shift():
    x = np.random.default_rng(0).normal(size=(500, 1))
    assert sliced_wasserstein(x, x + 0.7) == pytest.approx(0.7)
    assert sliced_wasserstein(x, x + 0.7, kind="SW2") == pytest.approx(0.7)


def test_a_shift_is_averaged_over_directions():
    # E |theta_1| of a unit vector in three dimensions is 1/2, E theta_1^2 is 1/3, the largest is near 1; 2,000
    # directions give the first to 1.3 %
    x = np.random.default_rng(0).normal(size=(200, 3))
    kinds = {
        kind: sliced_wasserstein(x, x + np.eye(3)[0], projections=2000, kind=kind)
        for kind in ("mean-W1", "SW2", "max-W1")
    }
    assert kinds["mean-W1"] == pytest.approx(0.5, abs=0.03)
    assert kinds["SW2"] == pytest.approx(3**-0.5, abs=0.03)
    assert 0.99 < kinds["max-W1"] <= 1


@pytest.mark.parametrize("sizes", [(200, 200), (150, 200), (64, 77), (1, 5)])
def test_equals_scipy_to_rounding(sizes):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(sizes[0], 4)), 1.2 * rng.normal(size=(sizes[1], 4))
    each = [wasserstein_distance(x @ d, y @ d) for d in _directions(3, 50, 4)]
    assert sliced_wasserstein(x, y, projections=50, seed=3) == pytest.approx(np.mean(each), rel=1e-12)
    assert sliced_wasserstein(x, y, projections=50, seed=3, kind="max-W1") == pytest.approx(
        np.max(each), rel=1e-12
    )


def test_unequal_sizes_of_one_set_repeated():
    x, y = np.random.default_rng(2).normal(size=(2, 30, 3))
    for kind in ("mean-W1", "SW2", "max-W1"):
        assert sliced_wasserstein(x, np.repeat(y, 3, axis=0), kind=kind) == pytest.approx(
            sliced_wasserstein(x, y, kind=kind), rel=1e-12
        )


def test_images_are_flattened_and_the_distance_is_symmetric():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 1, 2, 3)), rng.normal(size=(60, 1, 2, 3))
    assert sliced_wasserstein(x, y) == pytest.approx(sliced_wasserstein(y, x))
    assert sliced_wasserstein(x, x) == 0


def test_a_posterior_tree_is_its_draws(layout, memory_run):
    tree = memory_run(layout)
    draws = tree["posterior"]["x"].values.reshape(-1, *layout.event_shape)
    other = np.random.default_rng(0).normal(size=draws.shape)
    assert sliced_wasserstein(tree, other) == sliced_wasserstein(draws, other)
    assert sliced_wasserstein_floor(tree, splits=3) == sliced_wasserstein_floor(draws, splits=3)


def test_floor_is_the_distance_of_independent_sets():
    rng = np.random.default_rng(3)
    found = sliced_wasserstein_floor(rng.normal(size=(2000, 4)), sizes=(300, 200), splits=40, projections=50)
    fresh = [
        sliced_wasserstein(rng.normal(size=(300, 4)), rng.normal(size=(200, 4)), projections=50, seed=i)
        for i in range(200)
    ]
    assert found.sizes == (300, 200)
    # 40 splits that share 2,000 draws are worth a few independent ones
    assert found.mean == pytest.approx(np.mean(fresh), abs=0.5 * np.std(fresh))
    assert found.sd == pytest.approx(np.std(fresh), rel=0.5)


def test_refusals():
    zeros = np.zeros((3, 2))
    with pytest.raises(ValueError, match="draws have one shape"):
        sliced_wasserstein(zeros, np.zeros((3, 4)))
    with pytest.raises(ValueError, match="3 of 3 draws are not finite"):
        sliced_wasserstein(np.full((3, 2), np.nan), zeros)
    with pytest.raises(ValueError, match="kind is 'W3'; expected one of mean-W1, SW2, max-W1"):
        sliced_wasserstein(zeros, zeros, kind="W3")
    with pytest.raises(ValueError, match="at least 1 draw"):
        sliced_wasserstein(np.zeros((0, 2)), zeros)
    with pytest.raises(ValueError, match=r"sizes are \(2, 2\), but there are 3"):
        sliced_wasserstein_floor(zeros, sizes=(2, 2))
    with pytest.raises(ValueError, match="splits is 1"):
        sliced_wasserstein_floor(zeros, splits=1)

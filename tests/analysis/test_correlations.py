import numpy as np
import pytest
from made_draws import correlated, tree_of

from bayes_ir.analysis.correlations import correlation_map
from bayes_ir.analysis.left_out import NonFiniteDrawsWarning


def test_a_pixels_correlations_are_numpys():
    values, _ = correlated(0)
    found = correlation_map(tree_of(values), (0, 2, 3))
    pooled = values.reshape(600, 20)
    np.testing.assert_allclose(found.values.ravel(), np.corrcoef(pooled.T)[13], rtol=1e-11, atol=1e-13)
    assert (
        found[0, 2, 3] == pytest.approx(1, rel=1e-15)
        and found.name == "correlation"
        and found.dims == ("x_channel", "x_row", "x_column")
    )
    assert found.attrs == {"draws_used": 600, "draws_left_out": 0, "correlated_with": "(0, 2, 3)"}


def test_a_functionals_correlations_are_numpys_however_large_the_mean():
    values, _ = correlated(1, mean=1e6)
    found = correlation_map(tree_of(values), lambda x: x[0, 0].sum() - x[0, 1, 2])
    t = values[:, :, 0, 0].sum(-1) - values[:, :, 0, 1, 2]
    centred = values - 1e6
    exact = np.corrcoef(np.column_stack([t.ravel(), centred.reshape(600, 20)]).T)[0, 1:]
    # 1e6 + x is held to 1e-10, sds are about 1.
    np.testing.assert_allclose(found.values.ravel(), exact, atol=1e-8)
    assert found.attrs["correlated_with"] == "a functional"


def test_correlations_of_a_gaussian_are_those_of_its_covariance():
    values, covariance = correlated(2, draws=4000)
    exact = covariance[7] / np.sqrt(covariance[7, 7] * np.diag(covariance))
    found = correlation_map(tree_of(values), (0, 1, 2)).values.ravel()
    # Fisher: atanh of a correlation has the standard error 1 / sqrt(n - 3).
    others = np.arange(20) != 7
    error = np.arctanh(found[others]) - np.arctanh(exact[others])
    assert (np.abs(error) < 4.5 / np.sqrt(8000 - 3)).all()


def test_within_a_plate_each_image_has_its_own_pixel():
    values = np.stack([correlated(seed)[0] for seed in (3, 4, 5)], axis=2)
    tree = tree_of(values, dims=("images", "x_channel", "x_row", "x_column"))
    for what in ((0, 3, 1), np.mean):
        found = correlation_map(tree, what)
        assert found.dims[0] == "images"
        for i in range(3):
            np.testing.assert_allclose(found[i], correlation_map(tree_of(values[:, :, i]), what), rtol=1e-11)


def test_a_pixel_that_never_varies_has_no_correlation():
    values, _ = correlated(6)
    values[..., 0, 1, 1] = 0.1
    tree = tree_of(values)
    found = correlation_map(tree, (0, 0, 0))
    assert np.isnan(found[0, 1, 1]) and np.isfinite(found).sum() == 19
    assert np.isnan(correlation_map(tree, (0, 1, 1))).all()


def test_draws_that_are_not_finite_are_left_out():
    values, _ = correlated(7)
    values[1, 4, 0, 0, 0] = np.inf
    with pytest.warns(NonFiniteDrawsWarning, match="1 of 600 draws are not finite"):
        found = correlation_map(tree_of(values), (0, 1, 1))
    rest = np.delete(values.reshape(600, 20), 304, axis=0)
    np.testing.assert_allclose(found.values.ravel(), np.corrcoef(rest.T)[6], rtol=1e-11)


def test_questions_without_an_answer_are_refused():
    values, _ = correlated(8)
    for pixel in ((0, 4, 0), (0, 0), (0, 0, -1), (0, 0, 1.5), 3):
        with pytest.raises(
            ValueError, match=r"there is no pixel .* in an image of shape \(1, 4, 5\); give one index"
        ):
            correlation_map(tree_of(values), pixel)
    with pytest.raises(ValueError, match="functional 'pixel' gave an array of shape"):
        correlation_map(tree_of(values), lambda x: x[0])
    with pytest.raises(ValueError, match="one finite draw has no correlations"):
        correlation_map(tree_of(values[:1, :1]), (0, 0, 0))

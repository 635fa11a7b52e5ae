import numpy as np
import pytest
from made_draws import correlated, tree_of

from bayes_ir.analysis.left_out import NonFiniteDrawsWarning
from bayes_ir.analysis.modes import UnsettledModesWarning, principal_modes


def svd_of(values, k):
    pooled = values.reshape(-1, np.prod(values.shape[2:]))
    centred = pooled - pooled.mean(0)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    sd = singular / np.sqrt(len(pooled) - 1)
    return sd[:k], right[:k], sd[:k] ** 2 / (sd**2).sum()


@pytest.mark.parametrize(("shape", "draws"), [((1, 12, 11), 150), ((3, 5), 200), ((2, 20, 20), 20)])
def test_modes_are_those_of_a_singular_value_decomposition(shape, draws):
    values, _ = correlated(0, draws=draws, shape=shape, mean=3.0)
    found = principal_modes(
        tree_of(values, dims=tuple(f"x_dim_{i}" for i in range(len(shape)))), 4, tolerance=1e-10
    )
    sd, modes, share = svd_of(values, 4)
    np.testing.assert_allclose(found["sd"], sd, rtol=1e-10)
    np.testing.assert_allclose(found["share"], share, rtol=1e-10)
    ours = found["mode"].values.reshape(4, -1)
    signs = np.sign((ours * modes).sum(1, keepdims=True))
    np.testing.assert_allclose(ours, signs * modes, atol=1e-8)
    assert (ours[np.arange(4), np.abs(ours).argmax(1)] > 0).all()
    np.testing.assert_allclose(found["mean"].values, values.mean((0, 1)), rtol=1e-12)
    assert found["mode"].dtype == np.float64 and found["mode"].dims[0] == "mode"


def test_two_or_three_passes_do_where_the_spectrum_falls():
    values, _ = correlated(1, draws=400, shape=(1, 20, 20))
    found = principal_modes(tree_of(values), 5)
    sd, _, _ = svd_of(values, 5)
    assert found.attrs["passes"] <= 4 and (found["residual"] <= 1e-3).all()
    # An eigenvalue is off by at most its residual, 1e-3 of the largest, and where apart by its square.
    np.testing.assert_allclose(found["sd"], sd, rtol=1e-5)


def test_residuals_are_those_of_the_covariance_itself():
    values = np.random.default_rng(2).normal(size=(1, 50, 1, 8, 8))
    with pytest.warns(
        UnsettledModesWarning, match="after 1 passes the residual of a mode is .* wanted 0.001"
    ):
        found = principal_modes(tree_of(values), 3, passes=1, oversampling=2)
    covariance = np.cov(values.reshape(50, 64).T)
    modes = found["mode"].values.reshape(3, 64)
    error = np.linalg.norm(modes @ covariance - modes * found["sd"].values[:, None] ** 2, axis=1)
    ratio = error / found["residual"].values
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-10)
    np.testing.assert_allclose(modes @ modes.T, np.eye(3), atol=1e-12)


def test_all_modes_together_are_all_the_variance():
    values = np.random.default_rng(3).normal(size=(2, 30, 1, 2, 3))
    found = principal_modes(tree_of(values), 6, tolerance=1e-9)
    assert found["share"].sum() == pytest.approx(1, rel=1e-12) and found.attrs["passes"] == 2
    few = principal_modes(tree_of(values[:1, :4]), 3, tolerance=1e-9)
    assert few["share"].sum() == pytest.approx(1, rel=1e-12)


def test_draws_that_are_not_finite_are_left_out():
    values, _ = correlated(4)
    values[0, 5] = np.nan
    with pytest.warns(NonFiniteDrawsWarning, match="1 of 600 draws"):
        found = principal_modes(tree_of(values), 2, tolerance=1e-10)
    rest = np.delete(values.reshape(1, 600, 1, 4, 5), 5, axis=1)
    np.testing.assert_allclose(found["sd"], svd_of(rest, 2)[0], rtol=1e-10)


def test_questions_without_an_answer_are_refused():
    values, _ = correlated(5)
    for k in (0, 21, 2.0, True):
        with pytest.raises(ValueError, match="k must be an integer from 1 to 20"):
            principal_modes(tree_of(values), k)
    with pytest.raises(ValueError, match=r"passes must be at least 1 .* got 0, 10"):
        principal_modes(tree_of(values), 2, passes=0)
    with pytest.raises(ValueError, match="one finite draw does not vary"):
        principal_modes(tree_of(values[:1, :1]), 1)
    with pytest.raises(ValueError, match="the draws are all alike"):
        principal_modes(tree_of(np.full((2, 7, 1, 3, 3), 0.1)), 1)
    plate = tree_of(np.stack([values, values], axis=2), dims=("images", "x_channel", "x_row", "x_column"))
    with pytest.raises(ValueError, match=r"the plate 'images' of 2 images.*\['x'\].isel\(images=0\)"):
        principal_modes(plate, 1)
    of_one = principal_modes(plate["posterior"]["x"].isel(images=0), 1)
    np.testing.assert_allclose(of_one["sd"], principal_modes(tree_of(values), 1)["sd"])

import numpy as np
import pytest
from made_gaussian import NOISE, problem, tree_of
from scipy.stats import chi2, kstest

from bayes_ir.analysis import residual_check

A, TRUTH, Y = problem()


def test_p_values_are_those_of_chi_squared():
    tree = tree_of(A, Y, chains=1, draws=40)
    found = residual_check(tree)
    squares = (tree["residuals"]["y"].values[0] ** 2).sum(-1)
    each = 2 * np.minimum(chi2.cdf(squares, 12), chi2.sf(squares, 12))
    assert found.one_draw[0] == pytest.approx(each[0]) and found.p_value == pytest.approx(
        min(1, 2 * each.mean())
    )
    assert found.mean_square == pytest.approx(squares.mean() / 12)
    assert (found.measurements, found.draws_used, found.draws_left_out) == (12, 40, 0)


def test_over_data_sets_one_draw_is_uniform_and_twice_the_mean_is_a_valid_p_value():
    one, whole = [], []
    for seed in range(200):
        a, _, y = problem(seed=seed + 1)
        found = residual_check(tree_of(a, y, chains=1, draws=5, seed=seed))
        one.append(found.one_draw[0])
        whole.append(found.p_value)
    assert kstest(one, "uniform").pvalue > 0.01
    assert np.mean(np.array(whole) < 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    # Given one y the draws fit alike: their squares scatter less than those of chi^2 over data sets.
    squares = (tree_of(A, Y)["residuals"]["y"].values ** 2).sum(-1)
    assert squares.var() < 2 * 12


@pytest.mark.parametrize(("noise", "above"), [(NOISE / 2, True), (NOISE * 2, False)])
def test_a_wrong_noise_level_is_seen(noise, above):
    a, _, y = problem(seed=3, measurements=200)
    found = residual_check(tree_of(a, y, noise=noise))
    assert found.p_value < 1e-4 and (found.mean_square > 1) == above
    assert residual_check(tree_of(a, y)).p_value > 0.05


def test_a_wrong_shape_is_seen_where_the_size_is_right():
    tree = tree_of(*[problem(seed=3, measurements=400)[i] for i in (0, 2)], draws=30)
    z = tree["residuals"]["y"]
    z[:] = np.sign(z)  # squares of one, but two values only
    assert residual_check(tree).p_value_shape < 1e-4


def test_what_has_no_residuals_is_refused():
    tree = tree_of(A, Y, draws=30)
    tree["residuals"]["y"][0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="1 residuals are infinite"):
        residual_check(tree)
    tree["residuals"]["y"][0, 0, 0] = np.nan
    assert residual_check(tree).draws_left_out == 1
    with pytest.raises(ValueError, match=r"no group 'residuals'.*bir.residuals\(model"):
        residual_check(tree.filter(lambda node: node.name != "residuals"))
    lone = tree.isel(y_dim_0=[0])
    with pytest.raises(ValueError, match="there is 1 measurement; expected at least 2"):
        residual_check(lone)

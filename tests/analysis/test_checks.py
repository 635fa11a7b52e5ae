import numpy as np
import pytest
import xarray as xr

from bayes_ir.analysis.checks import measurement_check


def tree_of(log_lik, log_lik_rep=None, diverging=None, measurements=10):
    stats = {"log_lik": (("chain", "draw"), log_lik)}
    if log_lik_rep is not None:
        stats["log_lik_rep"] = (("chain", "draw"), log_lik_rep)
    if diverging is not None:
        stats["diverging"] = (("chain", "draw"), diverging)
    data = xr.Dataset({"y": ("y_dim_0", np.zeros(measurements))})
    return xr.DataTree.from_dict({"sample_stats": xr.Dataset(stats), "observed_data": data})


def test_known_figures():
    found = measurement_check(tree_of([[-10.0, -20], [-30, -40]], [[-11.0, -20], [-5, -5]]))
    assert found.p_value == 0.5  # equal counts as no likelier
    assert found.mean_log_lik == -25 and found.mean_log_lik_rep == -10.25
    assert found.log_lik_per_measurement == -2.5 and found.measurements == 10
    assert (found.draws_used, found.draws_left_out, found.diverging) == (4, 0, 0)


def test_p_value_of_a_right_model_is_near_a_half_and_of_a_wrong_one_is_not():
    rng = np.random.default_rng(0)
    m, draws = 400, (4, 500)

    def check(spread):
        x_minus_y = spread * rng.normal(size=(*draws, m))
        log_lik = -0.5 * (x_minus_y**2).sum(-1)
        return measurement_check(
            tree_of(log_lik, -0.5 * rng.chisquare(m, size=draws), measurements=m)
        ).p_value

    # At spread 1 both are the same law: p = 1/2 +- 1/sqrt(4 * 2000), 4.5 standard errors.
    assert abs(check(1.0) - 0.5) < 4.5 / np.sqrt(4 * 2000)
    assert check(1.3) < 0.001 and check(0.7) > 0.999


def test_a_draw_that_diverged_is_left_out_and_counted():
    log_lik = [[-10.0, np.nan], [-30, -40]]
    found = measurement_check(tree_of(log_lik, [[-9.0, np.nan], [-50, -50]], [[False, True], [False, False]]))
    assert found.p_value == pytest.approx(2 / 3)
    assert (found.draws_used, found.draws_left_out, found.diverging) == (3, 1, 1)


def test_a_draw_that_cannot_have_made_the_data_stays():
    found = measurement_check(tree_of([[-np.inf, -1.0]], [[-5.0, -2.0]]))
    assert found.p_value == 0.5 and found.mean_log_lik == -np.inf and found.draws_left_out == 0


def test_without_replicates_there_is_no_p_value():
    found = measurement_check(tree_of([[-1.0, -3.0]]))
    assert np.isnan(found.p_value) and np.isnan(found.mean_log_lik_rep) and found.mean_log_lik == -2


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(ValueError, match=r"needs sample_stats/log_lik and observed_data.*\['posterior'\]"):
        measurement_check(xr.DataTree.from_dict({"posterior": xr.Dataset()}))
    with pytest.raises(ValueError, match="log likelihood of all 2 draws is NaN"):
        measurement_check(tree_of([[np.nan, np.nan]]))

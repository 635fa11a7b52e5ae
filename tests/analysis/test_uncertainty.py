import arviz_stats
import numpy as np
import pytest
import xarray as xr
from made_blocks import SETTINGS, constants, make_layout, observed, run
from scipy import stats

from bayes_ir.analysis.draws import moments, posterior_draws
from bayes_ir.analysis.intervals import hdi_map, interval_coverage, interval_map, interval_width_map
from bayes_ir.analysis.left_out import NonFiniteDrawsWarning
from bayes_ir.analysis.uncertainty import (
    exceedance_map,
    mean_map,
    median_map,
    probability_map,
    quantile_map,
    sd_map,
)
from bayes_ir.analysis.zarr_store import ZarrSink


def tree_of(values, dims=("x_channel", "x_row", "x_column")):
    return xr.DataTree.from_dict({"posterior": xr.Dataset({"x": (("chain", "draw", *dims), values)})})


def test_mean_and_sd_are_those_of_all_draws_together(layout, memory_run):
    tree = memory_run(layout)
    pooled = tree["posterior"]["x"].values.reshape(12, 1, 4, 3).astype("float64")
    mean, sd = mean_map(tree), sd_map(tree)
    np.testing.assert_allclose(mean, pooled.mean(0), rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(sd, pooled.std(0, ddof=1), rtol=1e-13)
    assert mean.dims == ("x_channel", "x_row", "x_column") and mean.dtype == np.float64
    assert mean.name == "x" and mean.attrs == {"draws_used": 12, "draws_left_out": 0}
    np.testing.assert_array_equal(mean["x_row"], np.arange(4))


def test_a_large_mean_costs_the_sd_no_digits():
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(3, 50, 4))
    sd = sd_map(tree_of(noise + 1e8, dims=("x_dim_0",)))
    # float64 holds 1e8 + noise to 1.5e-8; a sum of squares minus n * mean^2 would be wrong by about 1.
    np.testing.assert_allclose(sd, noise.reshape(150, 4).std(0, ddof=1), rtol=1e-7)


def test_mean_and_sd_of_gaussian_draws_are_right():
    mean, sd, n = np.array([-1.0, 0.0, 2.0]), np.array([0.1, 1.0, 3.0]), 4 * 5000
    values = mean + sd * np.random.default_rng(5).normal(size=(4, 5000, 3))
    tree = tree_of(values, dims=("x_dim_0",))
    # 6 independent z-scores beyond 4.5: a chance of 4e-5 over seeds.
    assert (np.abs(mean_map(tree) - mean) < 4.5 * sd / np.sqrt(n)).all()
    assert (np.abs(sd_map(tree) - sd) < 4.5 * sd / np.sqrt(2 * n)).all()
    lower, upper = interval_map(tree, prob=0.9).values
    z = stats.norm.ppf(0.95)
    error = np.sqrt(0.05 * 0.95 / n) / stats.norm.pdf(z) * sd
    assert (np.abs(upper - (mean + z * sd)) < 4.5 * error).all()
    assert (np.abs(lower - (mean - z * sd)) < 4.5 * error).all()


def test_quantiles_and_intervals_of_known_ranks():
    values = (
        np.random.default_rng(0).permutation(101.0 * np.ones(101) - np.arange(101)).reshape(1, 101, 1) - 1
    )
    tree = tree_of(values, dims=("x_dim_0",))  # the numbers 0, ..., 100
    assert quantile_map(tree, 0.37).item() == pytest.approx(37)
    several = quantile_map(tree, [0.0, 0.5, 1.0])
    assert several.dims == ("quantile", "x_dim_0")
    np.testing.assert_allclose(several[:, 0], [0, 50, 100])
    np.testing.assert_allclose(several["quantile"], [0, 0.5, 1])
    interval = interval_map(tree, prob=0.9)
    assert list(interval["ci_bound"].values) == ["lower", "upper"]
    np.testing.assert_allclose(interval[:, 0], [5, 95])
    assert interval.attrs["ci_prob"] == 0.9


def test_coverage_counts_pixels_within_their_bounds():
    values = np.repeat(np.arange(101.0).reshape(1, 101, 1), 5, axis=2)
    tree = tree_of(values, dims=("x_dim_0",))
    # The 90 % interval is [5, 95] (to rounding); two of five truths lie beyond.
    assert interval_coverage(tree, np.array([4.9, 5.1, 50, 94.9, 95.1]), prob=0.9) == pytest.approx(3 / 5)
    assert interval_coverage(tree, np.array([4.9, 5.1, 50, 94.9, 95.1]), prob=0.92) == 1.0


def test_a_pixel_that_never_varies_covers_its_truth():
    tree = tree_of(np.full((2, 7, 1, 3, 3), -0.1, dtype="float32"))
    assert interval_coverage(tree, np.full((1, 3, 3), -0.1, dtype="float32")) == 1.0


def test_a_stored_posterior_is_read_piece_by_piece_and_not_kept(tmp_path, layout, memory_run):
    tree = run(ZarrSink(tmp_path / "s.zarr", layout, observed(layout), constants(layout), SETTINGS))
    in_memory = memory_run(layout)
    xr.testing.assert_identical(sd_map(tree), sd_map(in_memory))
    xr.testing.assert_identical(quantile_map(tree, 0.3), quantile_map(in_memory, 0.3))
    (tmp_path / "s.zarr" / "posterior" / "x" / "c.0.0.0.0.0").unlink()
    assert np.isnan(tree["posterior"]["x"].values[0, :4]).all()


def test_the_median_is_the_quantile_of_one_half_and_numpys():
    values = np.random.default_rng(1).gamma(2.0, size=(3, 8, 1, 5, 4)).astype("float32")
    found = median_map(tree_of(values))
    assert (
        found.dims == ("x_channel", "x_row", "x_column")
        and found.dtype == np.float64
        and "quantile" not in found.coords
    )
    np.testing.assert_allclose(
        found, np.median(values.reshape(24, 1, 5, 4).astype("float64"), axis=0), rtol=1e-12
    )
    xr.testing.assert_equal(found, quantile_map(tree_of(values), 0.5).drop_vars("quantile"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("prob", [0.05, 0.5, 0.9, 0.94, 0.999])
def test_the_interval_of_highest_density_is_arvizs_to_the_bit(dtype, prob):
    values = np.random.default_rng(6).gamma(1.5, size=(4, 25, 2, 3)).astype(dtype)
    tree = tree_of(values, dims=("x_dim_0", "x_dim_1"))
    theirs = arviz_stats.hdi(tree["posterior"]["x"], prob=prob).transpose("ci_bound", ...)
    ours = hdi_map(tree, prob=prob)
    assert ours.attrs == {"draws_used": 100, "draws_left_out": 0, "ci_kind": "hdi", "ci_prob": prob}
    assert list(ours["ci_bound"].values) == ["lower", "upper"] and ours.dtype == np.float64
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(
        interval_map(tree, prob=prob),
        arviz_stats.eti(tree["posterior"]["x"], prob=prob).transpose("ci_bound", ...),
        rtol=1e-6,
    )


def test_of_an_exponential_the_densest_interval_starts_at_zero():
    n, prob = 20000, 0.8
    tree = tree_of(np.random.default_rng(8).exponential(size=(2, n // 2, 3)), dims=("x_dim_0",))
    # [0, -log(1 - p)] holds p and is the shortest that does; the smallest draw is of order 1 / n. The lower end of the
    # shortest interval strays by n^(-1/3), and the upper one with it.
    lower, upper = hdi_map(tree, prob).values
    slack = 2 * n ** (-1 / 3)
    assert (lower < slack).all() and (np.abs(upper + np.log(1 - prob)) < 2 * slack).all()
    central = interval_width_map(tree, prob)
    np.testing.assert_allclose(central, np.log(9), atol=4.5 * np.sqrt(2 * 0.1 * 0.9 / n) / 0.1)
    densest = interval_width_map(tree, prob, kind="hdi")
    assert densest.attrs["ci_kind"] == "hdi" and (densest < central).all()
    np.testing.assert_array_equal(densest, upper - lower)


def test_probabilities_count_draws():
    values = np.random.default_rng(7).normal(size=(2, 40, 1, 3, 3)).astype("float32")
    tree, pooled = tree_of(values), values.reshape(80, 1, 3, 3).astype("float64")
    found = exceedance_map(tree, 0.5)
    assert found.name == "probability" and found.attrs == {
        "draws_used": 80,
        "draws_left_out": 0,
        "threshold": 0.5,
    }
    np.testing.assert_allclose(found, (pooled > 0.5).mean(0), rtol=1e-15)
    levels = np.linspace(-1, 1, 9).reshape(1, 3, 3)
    np.testing.assert_allclose(exceedance_map(tree, levels), (pooled > levels).mean(0), rtol=1e-15)
    brighter = probability_map(tree, lambda x: x > np.roll(x, 1, axis=-1))
    np.testing.assert_allclose(brighter, (pooled > np.roll(pooled, 1, axis=-1)).mean(0), rtol=1e-15)
    with pytest.raises(ValueError, match=r"the predicate gave float64 of shape \(80,\) for draws of shape"):
        probability_map(tree_of(values.reshape(1, 80, 1, 3, 3)), lambda x: x.mean((1, 2, 3)))
    with pytest.raises(ValueError, match="threshold must be a finite number or an image, got nan"):
        exceedance_map(tree, float("nan"))
    with pytest.raises(ValueError, match=r"threshold has shape \(3, 2\), the draws of 'x' have \(1, 3, 3\)"):
        exceedance_map(tree, np.zeros((3, 2)))


def test_exceedance_of_a_gaussian_is_its_tail():
    n = 8000
    tree = tree_of(np.random.default_rng(10).normal(size=(4, n // 4, 6)), dims=("x_dim_0",))
    levels = np.linspace(-2, 2, 6)
    exact = stats.norm.sf(levels)
    assert (np.abs(exceedance_map(tree, levels) - exact) < 4.5 * np.sqrt(exact * (1 - exact) / n)).all()


def test_images_with_named_axes_are_matched_by_name_and_coordinate(memory_run, layout):
    tree = memory_run(layout)
    truth = mean_map(tree)
    assert interval_coverage(tree, truth.transpose("x_column", "x_row", "x_channel")) == interval_coverage(
        tree, truth.values
    )
    shifted = truth.assign_coords(x_row=truth["x_row"] + 2)
    with pytest.raises(
        ValueError, match=r"truth has the coordinates 2 ... 5 \(4 of them\) along 'x_row', the draws"
    ):
        interval_coverage(tree, shifted)
    with pytest.raises(ValueError, match=r"threshold has the coordinates 2 \.\.\. 5"):
        exceedance_map(tree, shifted)


def test_maps_of_a_plate_have_its_axis_first():
    values = np.random.default_rng(12).normal(size=(2, 10, 3, 1, 4, 2))
    tree = tree_of(values, dims=("images", "x_channel", "x_row", "x_column"))
    for function in (mean_map, sd_map, median_map, hdi_map, lambda t: exceedance_map(t, 0.1)):
        found = function(tree)
        for i in range(3):
            alone = function(tree_of(values[:, :, i]))
            np.testing.assert_allclose(found.isel(images=i), alone, rtol=1e-13, atol=1e-15)


def test_draws_that_are_not_finite_are_left_out_and_announced(layout, memory_run):
    tree = memory_run(layout, diverging={(0, 1), (1, 5)})
    pooled = np.delete(memory_run(layout)["posterior"]["x"].values.reshape(12, 1, 4, 3), [1, 11], axis=0)
    with pytest.warns(NonFiniteDrawsWarning, match="2 of 12 draws are not finite and were left out"):
        mean = mean_map(tree)
    np.testing.assert_allclose(mean, pooled.astype("float64").mean(0), rtol=1e-13, atol=1e-14)
    assert mean.attrs == {"draws_used": 10, "draws_left_out": 2}
    with pytest.warns(NonFiniteDrawsWarning):
        np.testing.assert_allclose(sd_map(tree), pooled.astype("float64").std(0, ddof=1), rtol=1e-12)
    with pytest.warns(NonFiniteDrawsWarning):
        np.testing.assert_allclose(quantile_map(tree, 0.25), np.quantile(pooled, 0.25, axis=0))
    with pytest.warns(NonFiniteDrawsWarning):
        interval_coverage(tree, np.zeros((1, 4, 3)))


def test_one_bad_pixel_spoils_the_draw(memory_run, layout):
    tree = memory_run(layout)
    tree["posterior"]["x"][0, 0, 0, 0, 0] = np.inf
    found = moments(posterior_draws(tree))
    assert (found.used, found.left_out) == (11, 1)
    assert np.isfinite(found.mean).all() and np.isfinite(found.sd).all()


def test_a_posterior_without_a_finite_draw_is_refused():
    tree = tree_of(np.full((2, 3, 4), np.nan), dims=("x_dim_0",))
    for function in (
        mean_map,
        sd_map,
        median_map,
        hdi_map,
        interval_width_map,
        lambda t: exceedance_map(t, 0),
    ):
        with pytest.raises(ValueError, match="none of the 6 draws is finite"):
            function(tree)


def test_one_draw_has_no_sd():
    tree = tree_of(np.ones((1, 1, 2)), dims=("x_dim_0",))
    assert np.isnan(sd_map(tree)).all() and (mean_map(tree) == 1).all()
    assert (
        (hdi_map(tree) == 1).all() and (interval_width_map(tree) == 0).all() and (median_map(tree) == 1).all()
    )


def test_the_image_is_found_or_asked_for(memory_run, layout):
    data = memory_run(layout)["posterior"].to_dataset()
    two = xr.DataTree.from_dict({"posterior": data.assign(noise_std=(("chain", "draw"), np.ones((2, 6))))})
    with pytest.raises(
        ValueError, match=r"has the variables \['x', 'noise_std'\]; name the image by var_name="
    ):
        mean_map(two)
    assert mean_map(two, var_name="noise_std").item() == 1
    with pytest.raises(ValueError, match=r"no variable 'z', only \['x', 'noise_std'\]"):
        mean_map(two, var_name="z")
    with pytest.raises(ValueError, match=r"no group 'posterior', only \['prior'\]"):
        mean_map(xr.DataTree.from_dict({"prior": data}))
    with pytest.raises(ValueError, match="axes 'chain' and 'draw'"):
        mean_map(xr.Dataset({"x": ("draw", np.ones(3))}))
    for other in (data, data["x"], data.transpose("x_row", ..., "draw")):
        xr.testing.assert_identical(mean_map(other).transpose("x_channel", ...), mean_map(memory_run(layout)))


def test_questions_without_an_answer_are_refused(memory_run, layout):
    tree = memory_run(layout)
    with pytest.raises(ValueError, match=r"q must be a probability in \[0, 1\] or a list of them, got 5"):
        quantile_map(tree, 5)
    with pytest.raises(ValueError, match="prob must be a probability between 0 and 1, got 90"):
        interval_map(tree, prob=90)
    with pytest.raises(ValueError, match="prob must be a probability between 0 and 1, got 1"):
        hdi_map(tree, prob=1)
    with pytest.raises(
        ValueError, match=r"kind must be 'eti' \(central\) or 'hdi' \(highest density\), got 'HPD'"
    ):
        interval_width_map(tree, kind="HPD")
    with pytest.raises(ValueError, match=r"truth has shape \(4, 3\), the draws of 'x' have \(1, 4, 3\)"):
        interval_coverage(tree, np.zeros((4, 3)))
    with pytest.raises(ValueError, match="truth holds 1 values that are not finite"):
        interval_coverage(tree, np.where(np.arange(12).reshape(1, 4, 3) == 3, np.nan, 0))


def test_a_scalar_posterior_has_maps_too():
    values = np.arange(10.0).reshape(2, 5)
    tree = tree_of(values, dims=())
    assert mean_map(tree).item() == 4.5
    assert quantile_map(tree, 0.5).item() == 4.5


def test_draws_of_blocks_need_no_even_division():
    layout = make_layout(draws=7, block_size=3)
    assert [layout.draws_of(i) for i in range(layout.blocks)] == [slice(0, 3), slice(3, 6), slice(6, 7)]

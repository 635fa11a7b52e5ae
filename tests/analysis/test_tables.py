import numpy as np
import pandas as pd
import pytest
import xarray as xr
from arviz_stats import ess, hdi, rhat
from made_blocks import make_layout
from scipy import stats

from bayes_ir.analysis.functionals import default_functionals
from bayes_ir.analysis.metrics import restoration_metrics
from bayes_ir.analysis.tables import summary

LAYOUT = make_layout(event_shape=(1, 8, 8), draws=40, chains=3, block_size=20)


def test_functionals_of_gaussian_draws_have_their_exact_law(memory_run):
    layout = make_layout(event_shape=(1, 4, 4), draws=500, chains=4, block_size=500)
    table = summary(memory_run(layout, mean=0.25)).functionals
    n, sd = 2000, 0.25  # the mean of 16 standard normal pixels; of a quadrant's 4 it is 0.5
    assert abs(table.loc["mean", "mean"] - 0.25) < 4.5 * sd / np.sqrt(n)
    assert abs(table.loc["mean", "sd"] - sd) < 4.5 * sd / np.sqrt(2 * n)
    for corner in ("top_left", "top_right", "bottom_left", "bottom_right"):
        assert abs(table.loc[f"mean_{corner}", "sd"] - 0.5) < 4.5 * 0.5 / np.sqrt(2 * n)
    upper = 0.25 + sd * stats.norm.ppf(0.95)
    slack = 4.5 * sd * np.sqrt(0.05 * 0.95 / n) / stats.norm.pdf(stats.norm.ppf(0.95))
    assert abs(table.loc["mean", "eti90_ub"] - upper) < slack
    # E|x|^2 = 16 (1 + 1/16)
    squares = table.loc["norm", "mean"] ** 2 + table.loc["norm", "sd"] ** 2
    assert abs(squares - 17) < 4.5 * np.sqrt((2 * 16 + 4 * 1) / n)
    assert table["r_hat"].between(0.99, 1.02).all()
    assert (table["ess_bulk"] > 1000).all()


def test_the_table_is_arvizs_at_full_precision(memory_run):
    tree = memory_run(LAYOUT)
    means = tree["posterior"]["x"].astype("float64").mean(["x_channel", "x_row", "x_column"])
    row = summary(tree).functionals.loc["mean"]
    assert row["ess_bulk"] == pytest.approx(float(ess(means, method="bulk")))
    assert row["r_hat"] == pytest.approx(float(rhat(means)))
    assert row["mean"] == pytest.approx(float(means.mean()), rel=1e-12)
    intervals = ["eti90_lb", "eti90_ub", "hdi90_lb", "hdi90_ub"]
    columns = ["mean", "sd", *intervals, "ess_bulk", "ess_tail", "r_hat", "mcse_mean", "mcse_sd"]
    assert list(summary(tree).functionals.columns) == columns
    np.testing.assert_array_equal(row[intervals[2:]].to_numpy(dtype=float), hdi(means, prob=0.9).values)


def test_of_a_plate_each_image_has_a_row_and_a_rank():
    values = np.random.default_rng(4).normal(size=(2, 30, 3, 1, 4, 4))
    dims = ("chain", "draw", "images", "x_channel", "x_row", "x_column")
    truth = values[0, 0]
    table = summary(xr.Dataset({"x": (dims, values)}), truth).functionals
    assert (
        list(table.index[:4]) == ["mean[0]", "mean[1]", "mean[2]", "norm[0]"]
        and "mean_top_left[2]" in table.index
    )
    means = values.mean((3, 4, 5))
    np.testing.assert_allclose(table["mean"].iloc[:3], means.mean((0, 1)))
    np.testing.assert_allclose(table["truth"].iloc[:3], truth.mean((1, 2, 3)))
    np.testing.assert_allclose(table["truth_rank"].iloc[:3], (means < truth.mean((1, 2, 3))).mean((0, 1)))


def test_interval_columns_are_named_after_their_probability(memory_run):
    assert "eti57_lb" in summary(memory_run(LAYOUT), ci_prob=0.57).functionals.columns


def test_own_functionals_see_one_image_at_a_time(memory_run):
    tree = memory_run(LAYOUT)
    shapes = set()

    def brightest(image):
        shapes.add(image.shape)
        return image.max()

    table = summary(tree, functionals={"brightest": brightest, "mean": lambda x: 7.0}).functionals
    assert shapes == {(1, 8, 8)}
    assert table.loc["brightest", "mean"] == pytest.approx(
        tree["posterior"]["x"].values.max((2, 3, 4)).mean()
    )
    assert (table.loc["mean", "mean"], table.loc["mean", "sd"]) == (7, 0)  # replaces the default of that name
    assert "norm" in table.index


def test_a_truth_is_ranked_among_the_draws_and_measured(memory_run):
    tree = memory_run(LAYOUT)
    truth = np.random.default_rng(9).normal(size=(1, 8, 8))
    found = summary(tree, truth)
    means = tree["posterior"]["x"].values.astype("float64").mean((2, 3, 4))
    assert found.functionals.loc["mean", "truth"] == pytest.approx(truth.mean())
    assert found.functionals.loc["mean", "truth_rank"] == (means < truth.mean()).mean()
    for name, value in restoration_metrics(tree, truth).items():
        assert found.image.loc[name, "value"] == pytest.approx(value, rel=1e-12)
    # Truth and draws are draws of one law: the error is the sd, 64 pixels within 4.5 standard errors.
    assert abs(found.image.loc["rmse_over_sd", "value"] - 1) < 4.5 / np.sqrt(2 * 64)
    assert abs(found.image.loc["coverage", "value"] - 0.9) < 4.5 * np.sqrt(0.09 / 64)


def test_figures_of_the_image(memory_run):
    tree = memory_run(LAYOUT)
    image = summary(tree).image["value"]
    pooled = tree["posterior"]["x"].values.reshape(120, 64).astype("float64")
    assert image["mean_sd"] == pytest.approx(pooled.std(0, ddof=1).mean())
    assert image["max_sd"] == pytest.approx(pooled.std(0, ddof=1).max())
    width = np.subtract(*np.quantile(pooled, [0.95, 0.05], axis=0)).mean()
    assert image["mean_width"] == pytest.approx(width)
    stats_group = tree["sample_stats"]
    assert image["p_value"] == float((stats_group["log_lik_rep"] <= stats_group["log_lik"]).mean())
    assert (image["nfe"], image["draws"], image["chains"], image["diverging"]) == (32, 120, 3, 0)
    assert "psnr" not in image and "coverage" not in image
    bare = summary(tree["posterior"].to_dataset(), np.zeros((1, 8, 8))).image["value"]
    assert "psnr" not in bare and "p_value" not in bare and "rmse" in bare


def test_draws_that_are_not_finite_are_counted_and_said(memory_run):
    found = summary(memory_run(LAYOUT, diverging={(0, 3), (0, 4), (2, 30)}), np.full((1, 8, 8), 0.1))
    image = found.image["value"]
    assert (image["draws"], image["draws_left_out"], image["diverging"]) == (117, 3, 3)
    assert np.isfinite(found.functionals.drop(columns="truth").to_numpy()).all()
    assert np.isfinite(image.to_numpy(dtype=float)).all()
    assert found.notes[0] == "3 of 120 draws are not finite and were left out."
    assert "3 chains of 38 draws" in found.notes[1] and "3 finite draws were left out" in found.notes[1]
    for text in (repr(found), found._repr_html_()):
        assert all(note in text for note in found.notes)


def test_a_chain_that_is_lost_does_not_take_the_others_with_it(memory_run):
    found = summary(memory_run(LAYOUT, diverging={(1, draw) for draw in range(38)}))
    assert "2 chains of 40 draws" in found.notes[1] and "2 finite draws were left out" in found.notes[1]
    assert (found.functionals["ess_bulk"] > 20).all()


def test_few_draws_give_nan_and_no_warning(memory_run):
    layout = make_layout(event_shape=(1, 4, 4), draws=2, chains=1, block_size=2)
    found = summary(memory_run(layout), np.zeros((1, 4, 4)))
    assert np.isnan(found.functionals.loc["mean", "r_hat"]) and np.isfinite(
        found.functionals.loc["mean", "sd"]
    )
    assert "NaN" in repr(found)


def test_shown_as_text_and_html_and_written_as_csv(memory_run, tmp_path):
    found = summary(memory_run(LAYOUT), np.zeros((1, 8, 8)), functionals={"a<b": np.max})
    text, page = repr(found), found._repr_html_()
    for word in ("ess_bulk", "mean_top_left", "coverage", "share of pixels"):
        assert word in text and word in page
    assert "a&lt;b" in page and page.count("<table") == 2
    paths = found.to_csv(tmp_path / "digit.csv")
    assert [p.name for p in paths] == ["digit-functionals.csv", "digit-image.csv"]
    back = pd.read_csv(paths[0], index_col="functional")
    np.testing.assert_allclose(back.to_numpy(), found.functionals.to_numpy(dtype=float), rtol=1e-15)
    assert list(pd.read_csv(paths[1], index_col="figure")["meaning"]) == list(found.image["meaning"])
    assert found.to_csv(tmp_path / "v1.2")[0].name == "v1.2-functionals.csv"


def test_quadrants_part_the_image():
    chosen = default_functionals((2, 5, 4))
    image = np.arange(40.0).reshape(2, 5, 4)
    parts = [chosen[f"mean_{v}_{h}"](image) for v in ("top", "bottom") for h in ("left", "right")]
    assert parts[0] == image[:, :2, :2].mean() and parts[3] == image[:, 2:, 2:].mean()
    assert np.average(parts, weights=[4, 4, 6, 6]) == pytest.approx(image.mean())
    assert list(default_functionals((7,))) == ["mean", "norm"] == list(default_functionals((1, 1, 9)))


def test_flat_posteriors_have_tables(memory_run):
    found = summary(memory_run(make_layout(event_shape=(6,), draws=20)), np.zeros(6))
    assert list(found.functionals.index) == ["mean", "norm"]
    assert "ssim" not in found.image.index and "psnr" in found.image.index


def test_functionals_that_give_no_number_are_refused(memory_run):
    tree = memory_run(LAYOUT)
    with pytest.raises(
        ValueError,
        match=r"functional 'rows' gave an array of shape \(1, 8\) for an image of shape \(1, 8, 8\)",
    ):
        summary(tree, functionals={"rows": lambda x: x.mean(-1)})
    with pytest.raises(ValueError, match="functional 'log' gave nan"):
        summary(tree, functionals={"log": lambda x: float("nan")})
    with pytest.raises(ValueError, match="ci_prob must be a probability between 0 and 1, got 90"):
        summary(tree, ci_prob=90)
    nothing = xr.Dataset({"x": (("chain", "draw", "x_dim_0"), np.full((1, 4, 2), np.nan))})
    with pytest.raises(ValueError, match="none of the 4 draws is finite"):
        summary(nothing)

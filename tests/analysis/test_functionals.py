import arviz_stats
import numpy as np
import pytest
import xarray as xr
from made_draws import correlated, tree_of

from bayes_ir.analysis.functional_tables import functional_table
from bayes_ir.analysis.functionals import functional_draws
from bayes_ir.analysis.left_out import NonFiniteDrawsWarning
from bayes_ir.analysis.regions import AreaAbove, EdgePosition, MaskMean, MaskSum, region_functionals

MASK = np.zeros((4, 5), dtype=bool)
MASK[1:3, 2:] = True


def test_draws_of_functionals_are_a_posterior_that_arviz_takes():
    values, _ = correlated(0, chains=3, draws=40)
    tree = functional_draws(
        tree_of(values, chain=[2, 5, 7]), {"mean": np.mean, "corner": lambda x: x[0, 0, 0]}
    )
    data = tree["posterior"].to_dataset()
    assert dict(data.sizes) == {"chain": 3, "draw": 40} and list(data["chain"].values) == [2, 5, 7]
    np.testing.assert_allclose(data["mean"], values.mean((2, 3, 4)), rtol=1e-12)
    np.testing.assert_array_equal(data["corner"], values[:, :, 0, 0, 0])
    assert tree.attrs == {"draws_used": 120, "draws_left_out": 0}
    np.testing.assert_array_equal(arviz_stats.ess(tree)["corner"], arviz_stats.ess(values[:, :, 0, 0, 0]))


def test_the_table_is_arvizs_column_by_column():
    values, _ = correlated(1, draws=200)
    table = functional_table(tree_of(values), {"mean": np.mean, "top": lambda x: x.max()}, ci_prob=0.8)
    for name, draws in (("mean", values.mean((2, 3, 4))), ("top", values.max((2, 3, 4)))):
        row, chains = table.loc[name], xr.DataArray(draws, dims=("chain", "draw"))
        assert row["mean"] == pytest.approx(draws.mean(), rel=1e-10)
        assert row["sd"] == pytest.approx(draws.std(), rel=1e-10)
        np.testing.assert_allclose(
            row[["eti80_lb", "eti80_ub"]].to_numpy(float), np.quantile(draws, [0.1, 0.9])
        )
        hdi = arviz_stats.hdi(draws.ravel(), prob=0.8)
        np.testing.assert_allclose(row[["hdi80_lb", "hdi80_ub"]].to_numpy(float), hdi, rtol=1e-12)
        for column, how in (("mcse_mean", "mean"), ("mcse_sd", "sd")):
            assert row[column] == pytest.approx(float(arviz_stats.mcse(chains, method=how)))
        for column, how in (("ess_bulk", "bulk"), ("ess_tail", "tail")):
            assert row[column] == pytest.approx(float(arviz_stats.ess(chains, method=how)))
        assert row["r_hat"] == pytest.approx(float(arviz_stats.rhat(chains)))


def test_of_a_plate_each_image_has_its_functional():
    values = np.stack([correlated(seed, draws=20)[0] for seed in (2, 3)], axis=2)
    tree = tree_of(values, ("images", "x_channel", "x_row", "x_column"), images=[10, 11])
    found = functional_draws(tree, {"f": MaskMean(MASK)})["posterior"]["f"]
    assert found.dims == ("chain", "draw", "images") and list(found["images"].values) == [10, 11]
    np.testing.assert_allclose(found, values[..., 0, MASK].mean(-1), rtol=1e-12)
    # the same where the plate's axis was moved behind the image's
    moved = tree["posterior"]["x"].transpose("chain", "draw", "x_channel", "x_row", "x_column", "images")
    np.testing.assert_array_equal(functional_draws(moved, {"f": MaskMean(MASK)})["posterior"]["f"], found)
    table = functional_table(tree, {"f": MaskMean(MASK), "g": np.max})
    assert list(table.index) == ["f[10]", "f[11]", "g[10]", "g[11]"]
    each = np.moveaxis(np.concatenate([found.values, values.max((3, 4, 5))], axis=2), 2, 0)
    for row, draws in zip(table.index, each, strict=True):
        hdi = arviz_stats.hdi(draws.ravel(), prob=0.9)
        np.testing.assert_allclose(table.loc[row, ["hdi90_lb", "hdi90_ub"]].to_numpy(float), hdi, rtol=1e-12)


def test_chains_are_cut_to_one_length_and_it_is_said():
    values, _ = correlated(4, chains=2, draws=30)
    values[1, 3] = np.nan
    message = (
        r"1 of 60 draws are not finite and were left out\. Used are 2 chains of 29 draws.*1 finite draws were"
    )
    with pytest.warns(NonFiniteDrawsWarning, match=message):
        tree = functional_draws(tree_of(values), {"mean": np.mean})
    assert tree.attrs == {"draws_used": 58, "draws_left_out": 2}
    means = values.mean((2, 3, 4))
    np.testing.assert_allclose(tree["posterior"]["mean"][0], means[0, :29])
    np.testing.assert_allclose(tree["posterior"]["mean"][1], np.delete(means[1], 3))


def test_regions_are_summed_over_their_mask():
    image = np.random.default_rng(5).normal(size=(2, 4, 5))
    chosen = region_functionals(
        {"box": MASK, "all": np.ones((2, 4, 5), bool)}, threshold=0.1, pixel_area=0.25
    )
    assert list(chosen) == ["box_mean", "box_sum", "box_area", "all_mean", "all_sum", "all_area"]
    inside = image[:, 1:3, 2:]
    assert chosen["box_mean"](image) == pytest.approx(inside.mean())
    assert chosen["box_sum"](image) == pytest.approx(inside.sum())
    assert chosen["box_area"](image) == 0.25 * (inside > 0.1).sum()
    assert chosen["all_sum"](image) == pytest.approx(image.sum())
    assert AreaAbove(0.1)(image) == (image > 0.1).sum()
    assert list(region_functionals({"box": MASK})) == ["box_mean", "box_sum"]


def test_mean_and_sum_of_a_gaussian_over_a_mask_have_their_exact_law():
    values, covariance = correlated(6, draws=4000)
    table = functional_table(tree_of(values), region_functionals({"box": MASK}))
    weights = MASK.ravel().astype(float)
    sd = np.sqrt(weights @ covariance @ weights)
    for name, scale in (("box_sum", 1.0), ("box_mean", 1 / MASK.sum())):
        assert abs(table.loc[name, "mean"]) < 4.5 * scale * sd / np.sqrt(8000)
        assert abs(table.loc[name, "sd"] - scale * sd) < 4.5 * scale * sd / np.sqrt(2 * 8000)


@pytest.mark.parametrize("position", [2.3, 4.0, 4.75])
def test_an_edge_is_found_between_pixels(position):
    ramp = np.clip((np.arange(9) - position) / 4 + 0.5, 0, 1)  # half height at `position`, linear about it
    step = np.tile(3 + 2 * ramp, (6, 1))
    assert EdgePosition(row=4, level=4.0)(step) == pytest.approx(position, abs=1e-12)
    assert EdgePosition(row=4)(step) == pytest.approx(position, abs=1e-12)
    assert EdgePosition(row=4)(-step) == pytest.approx(position, abs=1e-12)  # a falling edge
    assert EdgePosition(column=4)(step.T) == pytest.approx(position, abs=1e-12)
    both = np.stack([np.zeros_like(step), step])
    assert EdgePosition(row=0, channel=1, span=(1, 9), level=4.0)(both) == pytest.approx(position, abs=1e-12)


def test_of_two_edges_the_span_chooses():
    row = np.array([0, 0, 1, 1, 0, 0.0])
    image = np.tile(row, (3, 1))
    assert EdgePosition(row=1)(image) == 1.5
    assert EdgePosition(row=1, span=(2, 6))(image) == 3.5


def test_questions_without_an_answer_are_refused():
    values, _ = correlated(7, draws=5)
    tree = tree_of(values)
    with pytest.raises(ValueError, match="no functional is given"):
        functional_draws(tree, {})
    with pytest.raises(ValueError, match="functional 'mean' is a ndarray; expected a function of one image"):
        functional_draws(tree, {"mean": np.ones((1, 4, 5))})
    with pytest.raises(ValueError, match="ci_prob must be a probability between 0 and 1, got 90"):
        functional_table(tree, {"mean": np.mean}, ci_prob=90)
    with pytest.raises(
        ValueError, match=r"a mask of shape \(3, 3\) does not fit an image of shape \(1, 4, 5\)"
    ):
        functional_draws(tree, {"f": MaskSum(np.ones((3, 3), bool))})
    with pytest.raises(ValueError, match=r"a mask of shape \(2, 1, 4, 5\) does not fit"):
        functional_draws(tree, {"f": MaskMean(np.ones((2, 1, 4, 5), bool))})
    with pytest.raises(ValueError, match=r"at least one True, got values of type float64; try mask > 0"):
        MaskMean(np.ones((4, 5)))
    with pytest.raises(ValueError, match="at least one True, got no pixel"):
        AreaAbove(0.0, np.zeros((4, 5), bool))
    with pytest.raises(ValueError, match="threshold must be a finite number, got nan"):
        AreaAbove(float("nan"))
    with pytest.raises(ValueError, match="pixel_area must be a positive number, got 0"):
        AreaAbove(0.0, pixel_area=0)
    for wrong in ({}, {"row": 1, "column": 1}):
        with pytest.raises(ValueError, match="give row= or column=, one of them"):
            EdgePosition(**wrong)
    for wrong in (
        {"row": 4},
        {"row": 0, "channel": 1},
        {"column": 0, "span": (2, 9)},
        {"row": 0, "span": (3, 4)},
    ):
        with pytest.raises(ValueError, match=r"an image of shape \(1, 4, 5\) has no channel"):
            functional_draws(tree, {"edge": EdgePosition(**wrong)})
    with pytest.raises(ValueError, match=r"an image of shape \(5,\) has no channel"):
        EdgePosition(row=0)(np.zeros(5))
    with pytest.raises(
        ValueError, match=r"the profile of row 1 lies between .* in one of the draws and never crosses 99"
    ):
        functional_draws(tree, {"edge": EdgePosition(row=1, level=99.0)})

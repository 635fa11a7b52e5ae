"""Gallery, maps and error against sd: the right numbers are drawn, and bad input is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from made_blocks import SETTINGS, constants, make_block, make_layout, observed

from bayes_ir.analysis import (
    ZarrSink,
    interval_map,
    open_posterior,
    plot_error_against_sd,
    plot_maps,
    plot_pixel_pairs,
    plot_posterior_gallery,
    plot_ridges,
    quantile_map,
)
from bayes_ir.analysis.draws import moments, posterior_draws
from bayes_ir.analysis.plots.panels import binned_rms

pytestmark = pytest.mark.usefixtures("closed_figures")
LAYOUT = make_layout(event_shape=(1, 8, 6), draws=10, block_size=5)
TRUTH = np.random.default_rng(4).normal(size=(1, 8, 6))
FLAT = make_layout(event_shape=(9,), draws=10, block_size=5)


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def shown(axes):
    return np.array(axes.images[0].get_array().data)


def labels(figure):
    return {
        axes.get_ylabel() or axes.get_xlabel() for axes in figure.axes if axes.get_label() == "<colorbar>"
    }


# Gallery


def test_the_gallery_shows_rows_of_chains_on_one_scale(memory_run):
    tree = memory_run(LAYOUT)
    figure = plot_posterior_gallery(tree, TRUTH, draws=3, units="HU")
    found = panels(figure)
    assert [axes.get_title() for axes in found] == [
        "truth",
        "posterior mean",
        *["draw 0", "draw 4", "draw 9"] * 2,
    ]
    assert [axes.get_ylabel() for axes in found if axes.get_ylabel()] == ["chain 0", "chain 1"]
    np.testing.assert_allclose(shown(found[0]), TRUTH[0])
    np.testing.assert_allclose(shown(found[1]), moments(posterior_draws(tree)).mean[0])
    x = tree["posterior"]["x"].values
    for axes, (chain, draw) in zip(found[2:], [(c, d) for c in (0, 1) for d in (0, 4, 9)], strict=True):
        np.testing.assert_array_equal(shown(axes), x[chain, draw, 0])
    assert {axes.images[0].get_clim() for axes in found} == {(-1.0, 1.0)}  # the attribute data_range
    assert labels(figure) == {"intensity (HU)"}
    assert figure.get_suptitle() == "posterior of x: 20 draws of 2 chains"


def test_the_gallery_of_one_chain_and_of_colours(memory_run):
    tree = memory_run(make_layout(event_shape=(3, 8, 6), draws=10, block_size=5))
    found = panels(plot_posterior_gallery(tree, np.zeros((3, 8, 6)), draws=2, chains=1))
    assert [axes.get_title() for axes in found] == ["truth", "posterior mean", "draw 0", "draw 9"]
    np.testing.assert_allclose(shown(found[0]), np.full((8, 6, 3), 0.5))


def test_the_gallery_leaves_out_what_is_not_finite_and_says_so(memory_run):
    figure = plot_posterior_gallery(memory_run(LAYOUT, diverging={(0, 0), (0, 9)}), draws=2)
    assert [axes.get_title() for axes in panels(figure)][1:3] == ["draw 1", "draw 8"]
    assert figure.get_suptitle().endswith("18 draws of 2 chains (2 draws are not finite and were left out)")


def test_an_unfinished_store_is_refused_and_its_part_is_shown_under_its_numbers(tmp_path):
    sink = ZarrSink(tmp_path / "run", LAYOUT, observed(LAYOUT), constants(LAYOUT), SETTINGS)
    sink.write(make_block(LAYOUT, 1, 0))
    with pytest.raises(ValueError, match="1 of 4 blocks"):
        plot_posterior_gallery(open_posterior(tmp_path / "run"))
    figure = plot_posterior_gallery(open_posterior(tmp_path / "run", partial=True), draws=2)
    assert [axes.get_ylabel() for axes in panels(figure) if axes.get_ylabel()] == ["chain 1"]


def test_the_gallery_refuses(memory_run):
    tree = memory_run(LAYOUT)
    with pytest.raises(ValueError, match=r"truth has shape \(1, 2, 2\)"):
        plot_posterior_gallery(tree, np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match="draws is 0"):
        plot_posterior_gallery(tree, draws=0)
    with pytest.raises(ValueError, match="plot_posterior_gallery: data_range must be"):
        plot_posterior_gallery(tree, data_range=(1, 0))
    with pytest.raises(ValueError, match=r"has the axes \('x_dim_0',\); expected an image"):
        plot_posterior_gallery(memory_run(FLAT))
    with pytest.raises(ValueError, match="no group 'posterior', only"):
        plot_posterior_gallery(xr.DataTree.from_dict({"prior": xr.Dataset()}))
    for refused in (plot_posterior_gallery, plot_maps, plot_pixel_pairs_at, plot_ridges):
        with pytest.raises(ValueError, match=r"two finite draws|at least 2"):
            refused(tree["posterior"]["x"][:1, :1])
        with pytest.raises(ValueError, match="none of the 2 draws is finite"):
            refused(np.nan * tree["posterior"]["x"][:1, :2])


def plot_pixel_pairs_at(posterior):
    return plot_pixel_pairs(posterior, (0, 0, 0), (0, 1, 1))


# Maps


def test_maps_are_the_maps_and_columns_share_scales(memory_run):
    a, b = memory_run(LAYOUT), memory_run(LAYOUT, mean=0.5)
    b["posterior"]["x"] = 3.0 * b["posterior"]["x"]
    names = ["mean", "median", "lower", "upper", "sd", "width"]
    figure = plot_maps({"A": a, "B": b}, names, prob=0.8, data_range=(-2, 2))
    found = panels(figure)
    assert len(found) == 12 and [axes.get_ylabel() for axes in found[::6]] == ["A", "B"]
    assert [axes.get_title() for axes in found[:6]] == [
        "mean",
        "median",
        "lower end, 80 %",
        "upper end, 80 %",
        "sd",
        "width, 80 %",
    ]
    for tree, row in ((a, found[:6]), (b, found[6:])):
        mean, sd, *_ = moments(posterior_draws(tree))
        lower, upper = interval_map(tree, 0.8).values
        wanted = (mean.values, quantile_map(tree, 0.5).values, lower, upper, sd.values, upper - lower)
        for axes, values in zip(row, wanted, strict=True):
            np.testing.assert_allclose(shown(axes), values[0])
    for column in range(6):
        assert found[column].images[0].get_clim() == found[6 + column].images[0].get_clim()
    assert {axes.images[0].get_clim() for axes in found[:4]} == {(-2.0, 2.0)}
    assert found[4].images[0].get_clim()[0] == 0 and found[4].images[0].get_cmap().name == "cividis"
    assert labels(figure) == {"intensity", "sd", "width"}


def test_maps_refuse(memory_run):
    tree = memory_run(LAYOUT)
    with pytest.raises(ValueError, match=r"maps is \['mode'\]; expected a list out of"):
        plot_maps(tree, ["mode"])
    with pytest.raises(ValueError, match="maps is 'mean'"):
        plot_maps(tree, "mean")
    with pytest.raises(ValueError, match="prob must be a probability"):
        plot_maps(tree, prob=90)
    with pytest.raises(ValueError, match=r"the draws have the shapes .*'B': \(1, 4, 3\)"):
        plot_maps({"A": tree, "B": memory_run(make_layout())})
    with pytest.raises(ValueError, match="got an empty mapping"):
        plot_maps({})
    with pytest.raises(ValueError, match=r"two finite draws at least of 'B', got 1"):
        plot_maps({"A": tree, "B": tree["posterior"]["x"][:1, :1]})


# Error against sd


def test_error_against_sd_on_given_axes(memory_run):
    tree = memory_run(LAYOUT)
    figure, axes = plt.subplots()
    assert plot_error_against_sd(tree, TRUTH, units="HU", ax=axes) is figure
    mean, sd, *_ = moments(posterior_draws(tree))
    dots = axes.collections[0].get_offsets()
    order = np.argsort(sd.values, axis=None, kind="stable")
    np.testing.assert_allclose(dots[:, 0], sd.values.ravel()[order])
    np.testing.assert_allclose(dots[:, 1], abs(TRUTH - mean.values).ravel()[order])
    np.testing.assert_allclose(axes.lines[0].get_data(), binned_rms(TRUTH - mean.values, sd.values))
    np.testing.assert_array_equal(axes.lines[1].get_xdata(), axes.lines[1].get_ydata())
    assert axes.get_xlabel() == "posterior sd (HU)"
    flat = plot_error_against_sd(memory_run(FLAT), np.zeros(9)).axes[0]
    assert "one entry, |error|" in [text.get_text() for text in flat.get_legend().get_texts()]
    with pytest.raises(ValueError, match="needs two finite draws at least, got 1"):
        plot_error_against_sd(tree["posterior"]["x"][:1, :1], TRUTH)
    with pytest.raises(ValueError, match="truth holds 1 values that are not finite"):
        plot_error_against_sd(tree, np.where(np.arange(48).reshape(1, 8, 6), 0, np.nan))


def test_every_plot_is_drawn_without_a_warning(memory_run):
    tree = memory_run(LAYOUT)
    for figure in (
        plot_posterior_gallery(tree, TRUTH),
        plot_maps(tree),
        plot_error_against_sd(tree, TRUTH),
    ):
        figure.canvas.draw()

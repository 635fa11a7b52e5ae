import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from made_blocks import make_layout

from bayes_ir.analysis.draws import moments, posterior_draws
from bayes_ir.analysis.plots import plot_uncertainty
from bayes_ir.analysis.plots.panels import binned_rms, spread_draws

LAYOUT = make_layout(event_shape=(1, 8, 6), draws=10, block_size=5)
TRUTH = np.random.default_rng(4).normal(size=(1, 8, 6))


@pytest.fixture(autouse=True)
def closed():
    before = dict(matplotlib.rcParams)
    yield
    plt.close("all")
    assert dict(matplotlib.rcParams) == before  # a picture changes nobody's style


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def image_in(axes):
    return axes.images[0]


def test_what_is_shown(memory_run):
    tree = memory_run(LAYOUT)
    found = panels(plot_uncertainty(tree, TRUTH, draws=4))
    assert list(found) == [
        "truth",
        "posterior mean",
        "chain 0, draw 9",
        "chain 1, draw 9",
        "chain 0, draw 0",
        "chain 1, draw 0",
        "back projection\n(own scale)",
        "posterior sd",
        "|truth - mean|",
        "error against sd",
    ]
    mean, sd, *_ = moments(posterior_draws(tree))
    shown = {name: np.asarray(image_in(axes).get_array()) for name, axes in found.items() if axes.images}
    np.testing.assert_allclose(shown["truth"], TRUTH[0])
    np.testing.assert_allclose(shown["posterior mean"], mean[0])
    np.testing.assert_allclose(shown["chain 1, draw 9"], tree["posterior"]["x"][1, 9, 0])
    np.testing.assert_allclose(shown["posterior sd"], sd[0])
    np.testing.assert_allclose(shown["|truth - mean|"], abs(TRUTH - mean)[0])
    np.testing.assert_allclose(shown["back projection\n(own scale)"], np.arange(48).reshape(8, 6))


def test_intensities_share_one_scale_and_sd_and_error_another(memory_run):
    tree = memory_run(LAYOUT)
    figure = plot_uncertainty(tree, TRUTH, draws=2, units="HU")
    found = panels(figure)
    scales = {
        image_in(found[n]).get_clim()
        for n in ("truth", "posterior mean", "chain 0, draw 9", "chain 1, draw 9")
    }
    assert scales == {(-1.0, 1.0)}  # the attribute data_range
    low, high = image_in(found["posterior sd"]).get_clim()
    assert low == 0 and image_in(found["|truth - mean|"]).get_clim() == (low, high)
    assert image_in(found["back projection\n(own scale)"]).get_clim() == (0, 47)
    assert image_in(found["posterior sd"]).get_cmap().name == "cividis"
    bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert {axes.get_ylabel() or axes.get_xlabel() for axes in bars} == {"intensity (HU)", "sd, error (HU)"}
    assert plot_uncertainty(tree, TRUTH, data_range=(-3, 2)).axes[0].images[0].get_clim() == (-3, 2)


def test_without_a_data_range_the_scale_is_that_of_what_is_shown(memory_run):
    tree = memory_run(LAYOUT, settings={})
    shown = panels(plot_uncertainty(tree, TRUTH, draws=1))
    images = [
        np.asarray(image_in(shown[n]).get_array()) for n in ("truth", "posterior mean", "chain 0, draw 9")
    ]
    low, high = image_in(shown["truth"]).get_clim()
    assert low == pytest.approx(min(i.min() for i in images)) and high == pytest.approx(
        max(i.max() for i in images)
    )


def test_the_calibrated_line_is_drawn_and_labelled(memory_run):
    axes = panels(plot_uncertainty(memory_run(LAYOUT), TRUTH))["error against sd"]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["one pixel, |error|", "rms error at that sd", "calibrated: rms error = sd"]
    line = axes.lines[1]
    np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
    assert len(axes.collections[0].get_offsets()) == 48


def test_bins_of_a_calibrated_posterior_lie_on_the_line():
    rng = np.random.default_rng(0)
    sd = rng.uniform(0.1, 2, size=20_000)
    spread, error = binned_rms(sd * rng.laplace(scale=np.sqrt(0.5), size=sd.size), sd)
    assert len(spread) == 12 and (np.diff(spread) > 0).all()
    # rms of 1667 Laplace errors (kurtosis 6): relative error sqrt(5 / 4 / 1667) = 2.7 %, 4.5 of them.
    np.testing.assert_allclose(error / spread, 1, atol=4.5 * 0.0274)
    assert len(binned_rms(np.ones(5), np.ones(5))[0]) == 1


def test_without_a_truth(memory_run):
    found = panels(plot_uncertainty(memory_run(LAYOUT), draws=1))
    assert list(found) == [
        "posterior mean",
        "chain 0, draw 9",
        "back projection\n(own scale)",
        "posterior sd",
        "sd over the image",
    ]
    assert sum(bar.get_height() for bar in found["sd over the image"].patches) == 48


def test_colour_and_many_channels(memory_run):
    colour = memory_run(make_layout(event_shape=(3, 8, 6), draws=10, block_size=5))
    truth = np.zeros((3, 8, 6))
    found = panels(plot_uncertainty(colour, truth))
    assert image_in(found["truth"]).get_array().shape == (8, 6, 3)
    np.testing.assert_allclose(image_in(found["truth"]).get_array(), 0.5)  # 0 within [-1, 1]
    mean, sd, *_ = moments(posterior_draws(colour))
    np.testing.assert_allclose(
        image_in(found["posterior sd"]).get_array(), np.sqrt((sd**2).mean("x_channel"))
    )
    two = memory_run(make_layout(event_shape=(2, 8, 6), draws=10, block_size=5))
    found = panels(plot_uncertainty(two, channel=1))
    mean = moments(posterior_draws(two)).mean
    np.testing.assert_allclose(image_in(found["posterior mean\nchannel 1 of 2"]).get_array(), mean[1])
    with pytest.raises(ValueError, match=r"no channel 2 in an image of shape \(2, 8, 6\)"):
        plot_uncertainty(two, channel=2)


def test_a_posterior_that_is_no_image_is_drawn_as_lines(memory_run):
    tree = memory_run(make_layout(event_shape=(9,), draws=20))
    truth = np.linspace(-1, 1, 9)
    figure = plot_uncertainty(tree, truth, draws=3, prob=0.8)
    axes = figure.axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["80 % interval", "draws", "posterior mean", "truth"]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_allclose(lines["posterior mean"], moments(posterior_draws(tree)).mean)
    np.testing.assert_allclose(lines["truth"], truth)
    pooled = tree["posterior"]["x"].values.reshape(40, 9)
    edge = axes.collections[0].get_paths()[0].vertices
    assert edge[:, 1].max() == pytest.approx(np.quantile(pooled, 0.9, axis=0).max(), rel=1e-6)
    assert figure.axes[1].get_title() == "error against sd"
    assert len(plot_uncertainty(tree).axes) == 1


def test_draws_that_are_not_finite_are_said_and_not_shown(memory_run):
    tree = memory_run(LAYOUT, diverging={(0, 9), (1, 0)})
    figure = plot_uncertainty(tree, draws=4)
    assert (
        figure.get_suptitle()
        == "posterior of x: 18 draws of 2 chains (2 draws are not finite and were left out)"
    )
    assert {"chain 0, draw 8", "chain 1, draw 9", "chain 0, draw 0", "chain 1, draw 1"} <= set(panels(figure))
    with pytest.raises(ValueError, match="needs two finite draws at least, got 1"):
        plot_uncertainty(tree["posterior"]["x"][:1, :1])


def test_draws_are_spread_over_chains():
    finite = np.ones((2, 9), dtype=bool)
    assert spread_draws(finite, 3) == [(0, 8), (1, 8), (0, 0)]
    assert spread_draws(finite, 6) == [(0, 8), (1, 8), (0, 4), (1, 4), (0, 0), (1, 0)]
    finite[0] = False
    assert spread_draws(finite, 2) == [(1, 8), (1, 0)]
    assert len(spread_draws(np.ones((1, 3), dtype=bool), 5)) == 3 and spread_draws(finite, 0) == []


def test_flat_images_and_wrong_scales(memory_run):
    constant = xr.Dataset(
        {"x": (("chain", "draw", "x_channel", "x_row", "x_column"), np.ones((1, 3, 1, 4, 4)))}
    )
    figure = plot_uncertainty(constant, np.ones((1, 4, 4)))
    figure.canvas.draw()
    plot_uncertainty(constant).canvas.draw()
    assert panels(figure)["posterior mean"].images[0].get_clim() == (0.5, 1.5)
    with pytest.raises(ValueError, match=r"data_range must be \(low, high\) with low < high, got \(1, -1\)"):
        plot_uncertainty(memory_run(LAYOUT), data_range=(1, -1))

"""Pairs and ridges of functionals: the right numbers are drawn, and bad input is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from arviz_stats.base import array_stats
from made_blocks import make_layout

from bayes_ir.analysis import default_functionals, plot_pixel_pairs, plot_ridges

pytestmark = pytest.mark.usefixtures("closed_figures")
LAYOUT = make_layout(event_shape=(1, 8, 6), draws=10, block_size=5)
TRUTH = np.random.default_rng(4).normal(size=(1, 8, 6))
FLAT = make_layout(event_shape=(9,), draws=10, block_size=5)


def brightest(image):
    return image.max()


def test_pairs_are_the_draws_of_both(memory_run):
    tree = memory_run(LAYOUT)
    figure = plot_pixel_pairs(tree, (0, 2, -1), brightest, TRUTH, units="HU")
    x = tree["posterior"]["x"].values.astype("float64").reshape(20, 8, 6)
    axes = figure.axes[0]
    np.testing.assert_array_equal(
        axes.collections[0].get_offsets(), np.stack([x[:, 2, -1], x.max((1, 2))], axis=1)
    )
    np.testing.assert_allclose(axes.lines[-1].get_data(), [[TRUTH[0, 2, -1]], [TRUTH.max()]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("pixel 0, 2, 5 (HU)", "brightest (HU)")
    r = np.corrcoef(x[:, 2, -1], x.max((1, 2)))[0, 1]
    assert figure.get_suptitle() == f"20 draws, correlation {r:.2f}"
    figure.canvas.draw()


def test_pairs_of_names_and_of_entries(memory_run):
    flat = memory_run(FLAT, diverging={(0, 3)})
    figure = plot_pixel_pairs(flat, 4, "norm", kind="hex")
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("entry 4", "norm")
    assert "1 of 20 draws are not finite and were left out." in figure.get_suptitle()
    still = xr.Dataset({"x": (("chain", "draw", "i"), np.ones((1, 4, 2)))})
    assert plot_pixel_pairs(still, 0, 1).get_suptitle() == "4 draws"


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ((0, 8, 0), r"there is no entry \(0, 8, 0\) in an image of shape \(1, 8, 6\)"),
        ((2, 3), r"got \(2, 3\); expected the index of an entry"),
        ((0, 1.5, 0), r"got \(0, 1.5, 0\); expected the index"),
        ("sharpness", "there is no functional 'sharpness', only mean, norm"),
        (lambda x: x[0], "functional 'x' gave an array"),
    ],
)
def test_pairs_refuse(memory_run, first, words):
    with pytest.raises(ValueError, match=words):
        plot_pixel_pairs(memory_run(LAYOUT), first, (0, 0, 0))
    assert not plt.get_fignums()


def test_ridges_are_densities_by_chain(memory_run):
    tree = memory_run(LAYOUT)
    figure = plot_ridges(tree, truth=TRUTH, units="HU")
    chosen = default_functionals((1, 8, 6))
    shown_axes = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_xlabel() for axes in shown_axes] == [f"{name} (HU)" for name in chosen]
    means = tree["posterior"]["x"].values.astype("float64").mean((2, 3, 4))
    axes = shown_axes[0]
    curves = [array_stats.kde(row)[:2] for row in means]
    highest = max(density.max() for _, density in curves)
    for i, (grid, density) in enumerate(curves):
        assert axes.lines[i].get_label() == f"chain {i}"
        np.testing.assert_allclose(axes.lines[i].get_xdata(), grid)
        np.testing.assert_allclose(axes.lines[i].get_ydata(), 1 - i + 1.5 * density / highest)
    assert axes.lines[2].get_xdata() == pytest.approx([TRUTH.mean()] * 2)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["chain 1", "chain 0"]
    figure.canvas.draw()


def test_ridges_by_kernel(memory_run):
    trees = {"A": memory_run(LAYOUT, diverging={(1, 2)}), "B": memory_run(LAYOUT, mean=1.0)}
    figure = plot_ridges(trees, {"first": lambda x: x[0, 0, 0], "still": lambda x: 2.0})
    first, still = figure.axes
    value = {
        k: tree["posterior"]["x"].values[:, :, 0, 0, 0].astype("float64").ravel() for k, tree in trees.items()
    }
    a, b = (array_stats.kde(v[np.isfinite(v)])[:2] for v in value.values())
    np.testing.assert_allclose(first.lines[1].get_xdata(), b[0])
    np.testing.assert_allclose(first.lines[1].get_ydata(), 1.5 * b[1] / max(a[1].max(), b[1].max()))
    assert set(still.lines[0].get_xdata()) == {2.0}
    assert figure.get_suptitle().startswith("posterior of x, by kernel\nA: 1 of 20 draws are not finite")
    figure.canvas.draw()


def test_ridges_refuse(memory_run):
    tree = memory_run(LAYOUT)
    with pytest.raises(ValueError, match="got 0 functionals"):
        plot_ridges(tree, {})
    with pytest.raises(ValueError, match=r"the draws have the shapes .*'B': \(9,\)"):
        plot_ridges({"A": tree, "B": memory_run(FLAT)})
    with pytest.raises(ValueError, match="functional 'bad' gave nan"):
        plot_ridges(tree, {"bad": lambda x: np.nan})
    with pytest.raises(ValueError, match="chain 0 has 1 finite draw; expected at least 2"):
        plot_ridges(memory_run(LAYOUT, diverging={(0, i) for i in range(9)}))
    assert not plt.get_fignums()

"""Coverage, SBC, TARP and kernels against cost: the right numbers are drawn, and bad input is refused."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from scipy.stats import binom

from bayes_ir.analysis import (
    FewReplicationsWarning,
    expected_coverage,
    plot_coverage,
    plot_kernel_comparison,
    plot_sbc,
    plot_tarp,
    sbc_ranks,
    tarp,
)
from bayes_ir.analysis.ecdf_band import ecdf_band

pytestmark = pytest.mark.usefixtures("closed_figures")
L, S = 60, 19
RNG = np.random.default_rng(0)
X, DRAWS = RNG.normal(size=(L, 3)), RNG.normal(size=(L, S, 3))
QUANTITIES = {f"q{i}": lambda x, y, i=i: (i + 1.0) * x[:, i % 3] + x[:, 0] ** 2 for i in range(8)}


def some(count):
    return dict(list(QUANTITIES.items())[:count])


def ranks(truths, draws, quantities):
    with pytest.warns(FewReplicationsWarning):
        return sbc_ranks(truths, draws, quantities)


def line(axes, start):
    return next(found for found in axes.lines if str(found.get_label()).startswith(start))


def band(axes):
    """Lower and upper edge of the filled band, at its abscissae."""
    vertices = axes.collections[0].get_paths()[0].vertices
    at = np.unique(vertices[:, 0])
    edges = [(vertices[vertices[:, 0] == x, 1].min(), vertices[vertices[:, 0] == x, 1].max()) for x in at]
    return at, np.array(edges)


def test_coverage_is_drawn_against_what_the_draws_attain():
    found = expected_coverage(X, DRAWS, some(3), levels=(0.9, 0.3, 0.5))
    figure, axes = plt.subplots()
    assert plot_coverage(found, ax=axes) is figure
    for name in ("q0", "q1", "q2"):
        one, drawn = found.sel(quantity=name).sortby("nominal"), line(axes, f"{name}, p = ")
        np.testing.assert_array_equal(drawn.get_xdata(), one["nominal"])
        np.testing.assert_array_equal(drawn.get_ydata(), one["coverage"])
    at, edges = band(axes)
    np.testing.assert_allclose(at, np.linspace(0, 1, 201))
    inside = slice(1, -1)
    np.testing.assert_allclose(edges[inside, 0], binom.ppf(0.025, L, at)[inside] / L)
    np.testing.assert_allclose(edges[inside, 1], binom.ppf(0.975, L, at)[inside] / L)
    # the same band as the statistic's own, where both are given
    near = np.abs(at[:, None] - found["nominal"].values[0]).argmin(axis=0)
    np.testing.assert_allclose(edges[near, 0], found["lower"][0], atol=1e-12)
    calibrated = line(axes, "calibrated")
    np.testing.assert_array_equal(calibrated.get_xdata(), calibrated.get_ydata())


def test_of_many_quantities_those_that_deviate_are_named():
    draws = DRAWS.copy()
    draws[..., 1] *= 0.2
    found = expected_coverage(X, draws, {f"x{i}": lambda x, y, i=i: x[:, i % 3] for i in range(6)})
    axes = plot_coverage(found).axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    wrong = [label for label in labels if label.startswith("x")]
    assert {label.split(",")[0] for label in wrong} == {"x1", "x4"}
    assert any(label.startswith("4 others, p > ") for label in labels)
    assert len([found for found in axes.lines if to_hex(found.get_color()) == "#8c8c8c"]) == 4
    only = plot_coverage(found, quantities=["x1"]).axes[0]
    assert len(only.lines) == 2


def test_coverage_refuses():
    found = expected_coverage(X, DRAWS, some(2))
    with pytest.raises(ValueError, match=r"quantities is \['z'\]; expected a list out of \['q0', 'q1'\]"):
        plot_coverage(found, quantities=["z"])
    with pytest.raises(ValueError, match="quantities is 'q0'"):
        plot_coverage(found, quantities="q0")
    with pytest.raises(ValueError, match=r"got \['a'\]; expected what bir.analysis.expected_coverage gave"):
        plot_coverage(xr.Dataset({"a": 1}))
    with pytest.raises(ValueError, match="got DataTree; expected what"):
        plot_coverage(xr.DataTree())
    with pytest.raises(ValueError, match="ax is a str; expected one matplotlib Axes"):
        plot_coverage(found, ax="left")


def test_sbc_curves_are_the_ranks_and_the_band_is_simultaneous():
    tree = ranks(X, DRAWS, some(5))
    figure = plot_sbc(tree, columns=3, prob=0.9)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title().split("\n")[0] for axes in shown] == list(some(5))
    for axes, name in zip(shown, some(5), strict=True):
        at, difference = axes.lines[1].get_data()
        u = tree["prior_sbc"][name].values.ravel()
        np.testing.assert_allclose(difference, [(u <= z).mean() - z for z in at])
        p = float(tree["sbc_test"]["p_holm"].sel(quantity=name))
        assert axes.get_title().split("\n")[1].startswith(f"p = {p:.2g}")
    lower, upper = ecdf_band(L, at, 0.9)
    edges = band(shown[0])[1]
    assert edges[:, 1].max() == pytest.approx((upper - at).max())
    assert edges[:, 0].min() == pytest.approx(
        (lower - at).min(), abs=1.1e-3
    )  # the step ends at the next point
    assert f"{L} replications of {S} draws" in figure.get_suptitle()


def test_sbc_marks_what_deviates():
    draws = DRAWS.copy()
    draws[..., 0] += 2.0
    tree = ranks(X, draws, {"shifted": lambda x, y: x[:, 0], "right": lambda x, y: x[:, 1]})
    figure = plot_sbc(tree)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0].endswith(", deviates") and not titles[1].endswith("deviates")
    assert figure.axes[0].lines[1].get_color() != figure.axes[1].lines[1].get_color()
    assert figure.axes[0].lines[1].get_ydata().min() > -1e-9  # draws too large: ranks too small
    assert "not calibrated: shifted" in figure.get_suptitle()
    assert len(plot_sbc(tree, quantities=["right"]).axes) == 1


def test_sbc_refuses():
    tree = ranks(X, DRAWS, some(2))
    with pytest.raises(
        ValueError, match=r"got \['posterior'\]; expected a tree with the groups 'prior_sbc' and"
    ):
        plot_sbc(xr.DataTree.from_dict({"posterior": xr.Dataset()}))
    with pytest.raises(ValueError, match=r"quantities is \['z'\]; expected a list out of \['q0', 'q1'\]"):
        plot_sbc(tree, quantities=["z"])
    with pytest.raises(ValueError, match="prob 2"):
        plot_sbc(tree, prob=2)
    with pytest.raises(ValueError, match="columns is 0"):
        plot_sbc(tree, columns=0)
    tree["prior_sbc"]["q1"][0, 3] = np.nan
    with pytest.raises(ValueError, match="ranks of 'q1' are not all numbers in"):
        plot_sbc(tree)


def test_tarp_draws_both_curves_and_the_band():
    found = tarp(X, DRAWS, data_references=RNG.normal(size=X.shape), band=0.8)
    figure, axes = plt.subplots()
    assert plot_tarp(found, ax=axes) is figure
    for name in ("y-free", "y-dependent"):
        drawn = line(axes, f"{name} references, p = ")
        np.testing.assert_array_equal(drawn.get_xdata(), found["alpha"])
        np.testing.assert_array_equal(drawn.get_ydata(), found["coverage"].sel(reference=name))
    edges = band(axes)[1]
    np.testing.assert_allclose(edges[1:-1], np.stack([found["lower"], found["upper"]], axis=1)[1:-1])
    assert "whole curve of 80 % of calibrated ones" in [
        text.get_text() for text in axes.get_legend().get_texts()
    ]
    with pytest.raises(ValueError, match=r"got \['coverage'\]; expected what bir.analysis.tarp gave"):
        plot_tarp(found[["coverage"]].drop_vars("reference").reset_coords(drop=True))
    with pytest.raises(ValueError, match=r"expected what bir\.analysis\.tarp gave"):
        plot_tarp(expected_coverage(X, DRAWS, some(2)))


TABLE = [
    {"kernel": "B", "nfe": 100, "distance": 3.0, "error": 0.2},
    {"kernel": "A", "nfe": 64, "distance": 1.1, "error": 0.1},
    {"kernel": "A", "nfe": 16, "distance": 2.0, "error": 0.1},
    {"kernel": "C", "nfe": 10, "distance": np.nan, "error": np.nan},
]


@pytest.mark.parametrize("table", [TABLE, pd.DataFrame(TABLE)])
def test_kernels_are_drawn_by_cost_and_named_by_their_best(table):
    figure, axes = plt.subplots()
    assert plot_kernel_comparison(table, ax=axes) is figure
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    found = {container.get_label(): container for container in axes.containers}
    assert list(found) == ["A", "B", "C (1 of 1 diverged)"]
    np.testing.assert_array_equal(found["A"].lines[0].get_data(), [[16, 64], [2.0, 1.1]])
    segments = found["A"].lines[2][0].get_segments()
    np.testing.assert_allclose([s[:, 1] for s in segments], [[1.9, 2.1], [1.0, 1.2]])
    assert line(axes, "floor").get_ydata() == [1.0, 1.0]
    figure.canvas.draw()


def test_kernels_without_errors_or_a_floor():
    rows = [{"kernel": f"K{i}", "nfe": 8 + i, "distance": 1.0 + i} for i in range(12)]
    figure = plot_kernel_comparison(rows, floor=None)
    axes = figure.axes[0]
    assert len(axes.containers) == 12 and not any(str(a.get_label()).startswith("floor") for a in axes.lines)
    looks = {(to_hex(c.lines[0].get_color()), c.lines[0].get_marker()) for c in axes.containers}
    assert len(looks) == 12
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], r"got 0 rows with the columns \[\]; expected rows with kernel, nfe and distance"),
        ([{"kernel": "A", "nfe": 3}], r"the columns \['kernel', 'nfe'\]"),
        ([{"kernel": "Exact()", "nfe": 0, "distance": 1.0}], r"Exact\(\) has nfe 0; expected a positive"),
        ([{"kernel": "A", "nfe": 3, "distance": 0.0}], "some distances are not positive"),
        ([{"kernel": "A", "nfe": 3, "distance": 1.0, "error": -1}], "errors are negative"),
        ([{"kernel": "A", "nfe": 3, "distance": "far"}], "nfe, distance must be numbers"),
    ],
)
def test_kernel_comparison_refuses(rows, words):
    with pytest.raises(ValueError, match=words):
        plot_kernel_comparison(rows)
    assert not plt.get_fignums()

"""Verdicts and the picture of the Jensen gap, on trees whose answer was put in."""

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

from bayes_ir.analysis import jensen_verdicts, plot_jensen_gap
from bayes_ir.analysis.jensen import _COMMON, _EACH, jensen_tree
from bayes_ir.analysis.trajectory import level_coordinates, trajectory_tree

mpl.use("Agg")

NOISE = [10.0, 3.0, 1.0, 0.3, 0.1]


def tree(errors, draws=3, **attrs):
    """A tree whose relative errors are these: one list over NOISE per denoising posterior."""
    figures = []
    for t in range(len(NOISE)):
        common = dict.fromkeys(_COMMON, 1.0) | {"reason": 0, "inner_draws": 0}
        each = [
            dict.fromkeys(_EACH, 0.5) | {"relative_error": e[t], "norm_ratio": 1 + e[t]}
            for e in errors.values()
        ]
        figures.append([(common, each)] * draws)
    parts = {"bound_dimension": 3, "bound_noise": 0.1}
    levels = [(1.0, b) for b in NOISE]
    return jensen_tree(range(5), levels, list(errors), figures, parts, {"few_effective_draws": 1}, attrs)


def test_the_group_is_over_time_draw_and_denoising_posterior():
    group = tree({"Flat": [0.0] * 5, "Point": [1.0] * 5})["jensen_gap"].dataset
    assert dict(group.sizes) == {"time": 5, "draw": 3, "denoising_posterior": 2}
    assert group["noise"].values.tolist() == NOISE
    assert group["log_likelihood"].dims == ("time", "draw")
    assert group["reason"].attrs["flag_meanings"] == "few_effective_draws"
    assert all(variable.attrs.get("long_name") for variable in group.data_vars.values())


@pytest.mark.parametrize(
    ("errors", "sentence"),
    [
        ([0.01] * 5, "within 10 % of the score at every noise level, b/a = 0.1 to 10"),
        ([0.5, 0.4, 0.3, 0.2, 0.11], "off by more than 10 % of the score at every noise level"),
        ([0.01, 0.05, 0.2, 0.3, 0.4], "off by more than 10 % of the score below noise level b/a = 3 "),
        ([0.4, 0.3, 0.2, 0.05, 0.01], "off by more than 10 % of the score above noise level b/a = 0.3 "),
        ([0.0, 0.3, 0.0, 0.2, 0.0], "at 2 of 5 noise levels between b/a = 0.3 and 3"),
        ([0.0, 25.0, 0.0, 0.0, 0.0], "at worst by 25 times the score, at b/a = 3"),
        (
            [np.nan, 0.3, 0.2, 0.0, 0.0],
            "above noise level b/a = 0.3 (at worst by 30 %, at b/a = 3); 1 of 5 levels",
        ),
        ([np.nan] * 5, "not judged"),
    ],
)
def test_verdicts(errors, sentence):
    verdict = jensen_verdicts(tree({"Point": errors}))["Point"]
    assert verdict.startswith("Point: ")
    assert sentence in verdict
    assert "\n" not in verdict


def test_the_kernel_s_own_choice_is_named_and_the_tolerance_heeded():
    found = jensen_verdicts(
        tree(
            {"Flat": [0.2] * 5, "Point": [0.2] * 5},
            kernel="DPS(steps=4, zeta=1)",
            kernel_denoising_posterior="Point",
        ),
        tolerance=0.25,
    )
    assert found["Point"].startswith("Point (the choice of DPS): within 25 %")
    assert found["Flat"].startswith("Flat: within")


def test_the_median_of_the_draws_decides():
    made = tree({"Point": [0.01] * 5})
    made["jensen_gap"]["relative_error"].values[:, 0] = 50.0
    assert "within" in jensen_verdicts(made)["Point"]


def test_bad_input_is_answered_in_words():
    without = xr.DataTree.from_dict({"posterior": xr.Dataset()})
    for function in (jensen_verdicts, plot_jensen_gap):
        with pytest.raises(ValueError, match=r"group 'jensen_gap', got \['posterior'\]"):
            function(without)
        with pytest.raises(ValueError, match="got dict"):
            function({})
    with pytest.raises(ValueError, match="tolerance must be positive"):
        jensen_verdicts(tree({"Point": [0.1] * 5}), tolerance=0)
    with pytest.raises(ValueError, match="`reason` says why"):
        plot_jensen_gap(tree({"Point": [np.nan] * 5}))


def test_the_picture_shows_what_the_tree_holds():
    import matplotlib.pyplot as plt

    errors = {"Flat": [np.nan, 0.3, 0.2, 0.05, 0.0], "Point": [np.nan, 4.0, 1.0, 0.5, 0.1]}
    made = tree(errors)
    made["jensen_gap"]["score_norm"].values[0] = np.nan
    figure = plot_jensen_gap(made, units="[0, 1]")
    main, *small = figure.axes
    lines = {line.get_label(): line for line in main.get_lines()}
    np.testing.assert_allclose(lines["Point"].get_xdata(), sorted(NOISE[1:]))
    np.testing.assert_allclose(lines["Point"].get_ydata(), [0.1, 0.5, 1.0, 4.0])
    assert lines["Flat"].get_ydata()[0] == 1e-3  # an error of nothing sits at the foot
    np.testing.assert_allclose(lines["not judged"].get_xdata(), [10.0])
    assert main.get_xlabel() == small[2].get_xlabel() == "noise level b/a ([0, 1])"
    assert len(small) == 3
    assert "3 measurements" in figure.get_suptitle()
    plt.close(figure)


def test_levels_without_signal_are_infinite():
    found = level_coordinates([(1.0, 2.0), (0.0, 1.0)])
    assert found["noise"][1].tolist() == [2.0, np.inf]


def test_frames_that_do_not_fit_the_levels_are_refused():
    x = np.zeros((3, 2, 4))
    made = trajectory_tree([0, 1, 2], [(1, 2), (1, 1), (1, 0)], {"x": x, "denoised": x}, ["x_dim_0"], {})
    assert made["trajectory"]["x"].dims == ("time", "draw", "x_dim_0")
    with pytest.raises(ValueError, match="'denoised' has shape"):
        trajectory_tree([0, 1, 2], [(1, 2), (1, 1), (1, 0)], {"x": x, "denoised": x[:2]}, ["x_dim_0"], {})

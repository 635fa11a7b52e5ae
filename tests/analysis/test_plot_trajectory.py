"""The film strip: the right frames are drawn under their noise level, and bad input is refused."""

import numpy as np
import pytest
import xarray as xr
from made_blocks import make_layout

from bayes_ir.analysis import plot_trajectory

pytestmark = pytest.mark.usefixtures("closed_figures")


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def shown(axes):
    return np.array(axes.images[0].get_array().data)


def path(shape=(1, 5, 4), times=11, conditioned=False):
    rng = np.random.default_rng(5)
    dims = ("time", "draw", *("x_channel", "x_row", "x_column")[3 - len(shape) :])
    noise = np.geomspace(10, 0.01, times)
    x = rng.normal(size=(times, 2, *shape)) * noise.reshape(-1, *[1] * (1 + len(shape)))
    names = {"x": x, "denoised": rng.uniform(size=x.shape)}
    if conditioned:
        names["conditioned"] = rng.uniform(size=x.shape)
    data = xr.Dataset(
        {n: (dims, v) for n, v in names.items()}, coords={"noise": ("time", noise), "draw": [0, 1]}
    )
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"data_range": (0.0, 1.0)}), "trajectory": data})


@pytest.mark.parametrize("shape", [(5, 4), (1, 5, 4)])
def test_the_film_strip_shows_state_and_mean_at_its_noise(shape):
    tree = path(shape)
    figure = plot_trajectory(tree, frames=3, draw=1, units="HU")
    found, data = panels(figure), tree["trajectory"]
    assert [axes.get_title() for axes in found[:3]] == ["noise 10", "0.316", "0.01"]
    for row, name in enumerate(("x", "denoised")):
        for axes, time in zip(found[3 * row : 3 * row + 3], (0, 5, 10), strict=True):
            np.testing.assert_array_equal(shown(axes), data[name].values[time, 1].reshape(5, 4))
    assert {axes.images[0].get_clim() for axes in found[3:]} == {(0.0, 1.0)}
    state = found[0].images[0]
    assert state.get_clim() == pytest.approx(tuple(np.percentile(shown(found[0]), (1, 99))))
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_label() == "<colorbar>"] == [
        "intensity (HU)"
    ]
    figure.canvas.draw()


def test_the_film_strip_has_a_third_row_if_there_is_a_conditioned_mean():
    tree = path(conditioned=True)
    found = panels(plot_trajectory(tree, frames=2))
    assert [axes.get_ylabel() for axes in found[::2]] == [
        "state\n(own scales)",
        "denoised",
        "conditioned\non the data",
    ]
    np.testing.assert_array_equal(shown(found[5]), tree["trajectory"]["conditioned"].values[-1, 0, 0])
    assert len(panels(plot_trajectory(path(times=3), frames=8))) == 6


def test_the_film_strip_refuses(memory_run):
    with pytest.raises(
        ValueError, match=r"expected a tree with the group 'trajectory', which bir\.trajectory makes"
    ):
        plot_trajectory(memory_run(make_layout()))
    with pytest.raises(ValueError, match="there is no draw 2; there are 0 to 1"):
        plot_trajectory(path(), draw=2)
    with pytest.raises(ValueError, match="frames is 0"):
        plot_trajectory(path(), frames=0)
    with pytest.raises(ValueError, match=r"'x' has the axes \('time', 'draw', 'x_column'\)"):
        plot_trajectory(path((4,)))
    broken = path()
    broken["trajectory"]["x"][6:, 1] = np.nan
    with pytest.raises(ValueError, match=r"'x' of draw 1 is not finite from noise 0\.158 on"):
        plot_trajectory(broken, draw=1, frames=11)
    plot_trajectory(broken, draw=0)
    data = path()["trajectory"].to_dataset()
    for changed, words in (
        (data.drop_vars("denoised"), r"lacks \['denoised'\]"),
        (data.drop_vars("noise"), r"lacks \['noise'\]"),
        (data.assign(denoised=data["denoised"][:, 0]), r"'denoised' has the axes \('time', 'x_channel'"),
    ):
        with pytest.raises(ValueError, match=words):
            plot_trajectory(xr.DataTree.from_dict({"trajectory": changed}))

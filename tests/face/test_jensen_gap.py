"""bayes_ir.trajectory and bayes_ir.jensen_gap: from a Pyro model to a tree."""

import math

import numpy as np
import pyro
import pytest
import torch

import bayes_ir as bir
from bayes_ir.inference import DPS, Exact, Flat, GuidedDiffusion, ModelError, Point, Tweedie
from bayes_ir.models import Gaussian, GaussianPrior, GaussianSensing, OneBit, Saturation

SHAPE = (1, 3, 4)


def prior():
    root = torch.randn(12, 12, generator=torch.Generator().manual_seed(0))
    return GaussianPrior(torch.zeros(SHAPE), root @ root.T / 12 + 0.1 * torch.eye(12), event_shape=SHAPE)


def model():
    law = prior()
    x = pyro.sample("img", law)
    pyro.sample("y", Gaussian(GaussianSensing(5, SHAPE, seed=1)(x), 0.3))


@pytest.fixture(scope="module")
def data():
    return {"y": bir.simulate(model, seed=1)["y"]}


def test_a_trajectory_ends_in_the_draws_of_sample(data):
    kernel = GuidedDiffusion(steps=5)
    tree = bir.trajectory(model, kernel, data, draws=3, seed=4, progress=False)
    group = tree["trajectory"].dataset
    assert group["x"].dims == ("time", "draw", "img_channel", "img_row", "img_column")
    assert set(group.data_vars) == {"x", "denoised", "conditioned"}
    posterior = bir.sample(model, kernel, data, draws=3, chains=1, block_size=3, seed=4, progress=False)
    np.testing.assert_array_equal(group["x"].isel(time=-1), posterior["posterior"]["img"].values[0])
    noise = group["noise"].values
    assert (np.diff(noise) < 0).all()
    assert noise[-1] == 0
    np.testing.assert_allclose(noise, group["b"] / group["a"])
    assert tree.attrs["kernel"] == repr(kernel)
    assert tree.attrs["seed"] == 4


def test_a_trajectory_of_few_frames_and_one_draw(data):
    tree = bir.trajectory(model, DPS(steps=20), data, frames=3, progress=False)
    assert dict(tree["trajectory"].sizes)["time"] == 3
    assert "conditioned" not in tree["trajectory"].data_vars


def test_the_gap_along_a_kernel_s_path(data):
    tree = bir.jensen_gap(model, data, kernel=DPS(steps=12), levels=4, draws=2, progress=False)
    group = tree["jensen_gap"].dataset
    assert dict(group.sizes) == {"time": 4, "draw": 2, "denoising_posterior": 5}
    assert group["denoising_posterior"].values.tolist() == [
        "Flat",
        "Point",
        "Isotropic",
        "Calibrated",
        "Tweedie",
    ]
    # A Gaussian prior: mean covariance and covariance are one, so that these two are exact.
    for name in ("Calibrated", "Tweedie"):
        assert (group["relative_error"].sel(denoising_posterior=name) < 1e-3).all()
    verdicts = bir.analysis.jensen_verdicts(tree)
    assert verdicts["Point"].startswith("Point (the choice of DPS): off by more than 10 % of the score")
    assert verdicts["Tweedie"].startswith("Tweedie: within 10 %")


def test_the_gap_at_given_images_does_not_depend_on_the_other_images(data):
    x = bir.simulate(model, seed=1)["img"]
    two = torch.stack([x, 0.5 * x])
    settings = {"levels": [2.0, 0.5], "progress": False}
    both = bir.jensen_gap(model, data, points=two, **settings)["jensen_gap"].dataset
    one = bir.jensen_gap(model, data, points=x.numpy(), **settings)["jensen_gap"].dataset
    assert both["noise"].values.tolist() == [2.0, 0.5]
    assert one.sizes["draw"] == 1
    assert both["log_likelihood"].shape == (2, 2)
    again = bir.jensen_gap(model, data, points=two, **settings)["jensen_gap"].dataset
    assert both.equals(again)


def test_draws_of_the_prior_by_default_and_own_posteriors(data):
    tree = bir.jensen_gap(
        model, data, levels=2, draws=1, denoising_posteriors=[Tweedie(), Flat()], nested=True, progress=False
    )
    group = tree["jensen_gap"].dataset
    assert group["denoising_posterior"].values.tolist() == ["Tweedie", "Flat"]
    assert (group["inner_draws"] > 0).all()
    assert tree.attrs["nested"]


def test_one_bit_data():
    law = prior()

    def one_bit():
        pyro.sample("y", OneBit(GaussianSensing(4, SHAPE, seed=1)(pyro.sample("x", law)), 0.3))

    data = {"y": bir.simulate(one_bit, seed=1)["y"]}
    tree = bir.jensen_gap(one_bit, data, kernel=GuidedDiffusion(steps=8), levels=3, draws=1, progress=False)
    group = tree["jensen_gap"].dataset
    errors = group["relative_error"].sel(denoising_posterior="Tweedie")
    assert (errors < 4 * group["relative_error_error"].sel(denoising_posterior="Tweedie") + 0.05).all()
    assert math.isnan(float(group["bound_operator_norm"]))
    assert "Calibrated(with_jacobian=True) (the choice of GuidedDiffusion)" in " ".join(
        bir.analysis.jensen_verdicts(tree).values()
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"levels": 0}, "levels is 0"),
        ({"levels": [1.0, -1.0]}, "positive ratios"),
        ({"levels": [math.nan]}, "positive ratios"),
        ({"draws": 0}, "draws is 0"),
        ({"points": torch.zeros(2, 2)}, r"images of shape \(1, 3, 4\)"),
        ({"points": torch.full(SHAPE, math.inf)}, "not finite"),
        ({"kernel": DPS(steps=4), "points": torch.zeros(SHAPE)}, "leave points out"),
        ({"kernel": DPS(steps=4), "levels": [1.0]}, "leave points out"),
        ({"denoising_posteriors": []}, "is empty"),
        ({"denoising_posteriors": [Point]}, "expected instances"),
        ({"inner_draws": 3}, "inner_draws >= 120"),
        ({"dtype": torch.int32}, "dtype"),
    ],
)
def test_bad_arguments_of_the_gap_are_answered_in_words(data, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        bir.jensen_gap(model, data, progress=False, **arguments)


def test_models_and_kernels_that_do_not_serve_are_refused(data):
    with pytest.raises(ModelError, match="walks no path"):
        bir.trajectory(model, Exact(), data, progress=False)
    with pytest.raises(ModelError, match="walks no path"):
        bir.jensen_gap(model, data, kernel=Exact(), progress=False)
    with pytest.raises(TypeError, match="is the class DPS"):
        bir.trajectory(model, DPS, data, progress=False)
    for frames in (1, 2.5):
        with pytest.raises(ValueError, match="frames is"):
            bir.trajectory(model, DPS(steps=4), data, frames=frames, progress=False)

    def saturated():
        pyro.sample("y", Gaussian(Saturation(SHAPE)(pyro.sample("x", prior())), 0.3))

    with pytest.raises(ModelError, match="is not linear"):
        bir.jensen_gap(saturated, {"y": torch.zeros(SHAPE)}, progress=False)

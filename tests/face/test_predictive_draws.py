import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

import bayes_ir as bir
from bayes_ir.analysis import NonFiniteDrawsWarning, open_posterior
from bayes_ir.inference import BlockedGibbs, Calibrated, Exact, GuidedDiffusion, ModelError
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit

RNG = torch.Generator().manual_seed(0)
COVARIANCE = torch.eye(3) + 0.5
PRIOR = GaussianPrior(torch.zeros(3), COVARIANCE)
A = DenseOperator(torch.randn(6, 3, generator=RNG), event_shape=(3,))
B = DenseOperator(torch.randn(4, 3, generator=RNG), event_shape=(3,))
NOISE = 0.5


def model():
    x = pyro.sample("x", PRIOR)
    pyro.sample("y", Gaussian(A(x), NOISE))


Y = bir.simulate(model, seed=1)["y"]
POSTERIOR = bir.sample(model, Exact(), {"y": Y}, draws=800, chains=2, progress=False)


def exact_moments():
    """Mean and variance of y_rep given y."""
    a, v0 = A.matrix.double().numpy(), COVARIANCE.double().numpy()
    v = np.linalg.inv(np.linalg.inv(v0) + a.T @ a / NOISE**2)
    return a @ v @ a.T @ Y.double().numpy() / NOISE**2, np.diag(a @ v @ a.T) + NOISE**2


@pytest.mark.parametrize("conditioned", [False, True])
def test_draws_follow_the_exact_predictive(conditioned):
    before = torch.get_rng_state()
    asked = pyro.condition(model, data={"y": Y}) if conditioned else model
    tree = bir.posterior_predictive(asked, POSTERIOR, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    y, (mean, variance) = tree["posterior_predictive"]["y"], exact_moments()
    assert y.dims == ("chain", "draw", "y_dim_0") and "posterior_predictive" not in POSTERIOR.children
    flat = y.values.reshape(-1, 6).astype(float)
    assert (np.abs(flat.mean(0) - mean) < 4.5 * np.sqrt(variance / 1600)).all()
    assert (np.abs(flat.var(0) / variance - 1) < 4.5 * np.sqrt(2 / 1600)).all()
    # Of one draw they are its own: y_rep - A x_i is the noise.
    noise = flat - POSTERIOR["posterior"]["x"].values.reshape(-1, 3) @ A.matrix.numpy().T
    assert np.abs(noise.std() / NOISE - 1) < 4.5 / np.sqrt(2 * noise.size)


def test_they_are_a_function_of_the_seed_and_of_nothing_else(tmp_path):
    path = tmp_path / "run.zarr"
    bir.sample(model, Exact(), {"y": Y}, draws=100, chains=2, progress=False, store=path)
    posterior = open_posterior(path)
    first = bir.posterior_predictive(model, posterior, seed=3)["posterior_predictive"]["y"]
    torch.manual_seed(17)
    some = bir.posterior_predictive(model, posterior.isel(draw=slice(64)), seed=3)
    np.testing.assert_array_equal(some["posterior_predictive"]["y"], first[:, :64])
    other = bir.posterior_predictive(model, posterior, seed=4)["posterior_predictive"]["y"]
    assert not np.array_equal(first, other)


def several():
    sigma = pyro.sample("sigma", dist.LogNormal(-1.0, 0.3))
    with pyro.plate("images", 2):
        x = pyro.sample("x", PRIOR)
        pyro.sample("s", OneBit(B(x), sigma).to_event(1))
        pyro.sample("y", Gaussian(A(x), sigma).to_event(1))
        pyro.deterministic("energy", x.square().sum(-1))


def test_nuisances_plates_several_sites_and_derived_ones():
    data = {name: value for name, value in bir.simulate(several, seed=2).items() if name in "sy"}
    kernel = BlockedGibbs(image=GuidedDiffusion(denoising_posterior=Calibrated(), steps=4), warmup=1)
    posterior = bir.sample(several, kernel, data, draws=16, chains=1, progress=False)
    found = bir.posterior_predictive(several, posterior)["posterior_predictive"]
    assert found["y"].dims == ("chain", "draw", "images", "y_dim_0") and found["y"].shape == (1, 16, 2, 6)
    assert set(np.unique(found["s"])) == {-1.0, 1.0} and set(found.data_vars) == {"s", "y"}
    # Every draw is at its own noise level.
    x, sigma = (posterior["posterior"][name].values[0] for name in ("x", "sigma"))
    noise = (found["y"].values[0] - x @ A.matrix.numpy().T) / sigma[:, None, None]
    assert abs(noise.std() - 1) < 4.5 / np.sqrt(2 * noise.size)
    # Given a value, a site is no longer unknown, and the model has to be told.
    known = data | {"sigma": torch.tensor(0.3)}
    held = bir.sample(several, kernel.image, known, draws=2, chains=1, progress=False)
    with pytest.raises(ModelError, match=r"site 'sigma' has shape \(\).*in `data` the values"):
        bir.posterior_predictive(several, held)
    told = bir.posterior_predictive(several, held, known)
    assert np.isfinite(told["posterior_predictive"]["y"]).all()


def test_missing_measurements_are_predicted_too():
    def masked():
        x = pyro.sample("x", PRIOR)
        with pyro.poutine.mask(mask=torch.arange(6) != 2):
            pyro.sample("y", Gaussian(A(x), NOISE))

    posterior = bir.sample(masked, Exact(), {"y": Y}, draws=20, chains=1, progress=False)
    assert np.isnan(posterior["observed_data"]["y"].values[2])
    assert np.isfinite(
        bir.posterior_predictive(masked, posterior, {"y": Y})["posterior_predictive"]["y"]
    ).all()


def test_draws_that_are_not_finite_predict_nothing():
    broken = POSTERIOR.isel(draw=slice(70)).copy(deep=True)
    broken["posterior"]["x"][1, 65] = np.nan
    with pytest.warns(NonFiniteDrawsWarning, match="1 of 140 draws are not finite; what they predict is NaN"):
        y = bir.posterior_predictive(model, broken)["posterior_predictive"]["y"]
    assert np.isnan(y[1, 65]).all() and int(np.isnan(y).sum()) == 6


def test_what_cannot_be_predicted_is_refused():
    with pytest.raises(
        ValueError, match=r"posterior_predictive: the tree has no group 'posterior', only \[\]"
    ):
        bir.posterior_predictive(model, xr.DataTree())
    with pytest.raises(ValueError, match=r"data\['y'\] is not what the posterior has"):
        bir.posterior_predictive(model, POSTERIOR, {"y": Y + 1})

    def other():
        x = pyro.sample("x", PRIOR)
        pyro.sample("y", Gaussian(B(x), NOISE))

    with pytest.raises(
        ModelError, match=r"observed 'y' of shape \(6,\), and the model measures {'y': \(4,\)}"
    ):
        bir.posterior_predictive(other, POSTERIOR)
    with pytest.raises(ModelError, match="data names the site 'w'"):
        bir.posterior_predictive(model, POSTERIOR, {"w": 1.0})
    with pytest.raises(ModelError, match=r"one latent site with a diffusion prior.*'x': 'Normal'"):
        bir.prior_predictive(lambda: pyro.sample("x", dist.Normal(0.0, 1.0)))
    with pytest.raises(ModelError, match="no site of the model has a channel"):
        bir.prior_predictive(lambda: pyro.sample("x", PRIOR))
    with pytest.raises(ValueError, match="draws is 0; expected a whole number of at least 1"):
        bir.prior_predictive(model, draws=0)


def test_the_prior_predictive_of_a_gaussian_model():
    before = torch.get_rng_state()
    tree = bir.prior_predictive(model, {"y": Y}, draws=1500, seed=5)
    assert torch.equal(before, torch.get_rng_state())
    x, y = tree["prior"]["x"], tree["prior_predictive"]["y"]
    assert x.dims == ("chain", "draw", "x_dim_0") and y.shape == (1, 1500, 6)
    np.testing.assert_array_equal(tree["observed_data"]["y"], Y)
    a = A.matrix.double().numpy()
    variance = np.diag(a @ COVARIANCE.double().numpy() @ a.T) + NOISE**2
    assert (np.abs(y.values[0].var(0) / variance - 1) < 4.5 * np.sqrt(2 / 1500)).all()
    noise = (y.values[0] - x.values[0] @ A.matrix.numpy().T) / NOISE
    assert abs(noise.var() - 1) < 4.5 * np.sqrt(2 / noise.size)
    assert "posterior_predictive" not in tree.children and tree.attrs["image_site"] == "x"


def test_a_prior_that_depends_on_a_label_is_drawn_with_its_label():
    priors = [GaussianPrior(torch.full((3,), c), 0.01 * torch.eye(3)) for c in (-1.0, 1.0)]

    def labelled():
        label = pyro.sample("label", dist.Categorical(torch.tensor([0.3, 0.7])))
        x = pyro.sample("x", priors[int(label)])
        pyro.sample("y", Gaussian(A(x), NOISE))

    found = bir.prior_predictive(labelled, draws=80)["prior"]
    np.testing.assert_array_equal(np.sign(found["x"].values[0, :, 0]), 2 * found["label"].values[0] - 1)
    assert abs(found["label"].values.mean() - 0.7) < 4.5 * np.sqrt(0.21 / 80)


def test_a_plate_and_its_nuisances_before_anything_is_measured():
    tree = bir.prior_predictive(several, draws=70)
    assert tree["prior"]["x"].dims == ("chain", "draw", "images", "x_dim_0")
    assert tree["prior"]["sigma"].dims == ("chain", "draw") and tree["prior"]["energy"].shape == (1, 70, 2)
    assert tree["prior_predictive"]["s"].shape == (1, 70, 2, 4)
    log = np.log(tree["prior"]["sigma"].values)
    assert abs(log.mean() + 1) < 4.5 * 0.3 / np.sqrt(70)

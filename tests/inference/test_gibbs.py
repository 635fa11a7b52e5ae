"""Blocked Gibbs sampling of image and nuisance parameters, against marginals that are known by quadrature.

Means of a nuisance parameter lie within four Monte Carlo standard errors (ArviZ's) of the exact one, which a correct
sampler misses in 6 of 100,000 cases, and its sd within 25 %.
"""

import arviz_stats
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import multivariate_normal

import bayes_ir as bir
from bayes_ir.inference import (
    BlockedGibbs,
    Exact,
    GuidedDiffusion,
    ModelError,
    read_joint,
)
from bayes_ir.models import DenseOperator, Gaussian, GaussianMixturePrior, GaussianPrior, OneBit

F64 = torch.float64
N = 4


def _normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


ROOT = _normal(N, N, seed=1)
COVARIANCE = ROOT @ ROOT.T / N + 0.2 * torch.eye(N, dtype=F64)
PRIOR = GaussianPrior(_normal(N, seed=2), COVARIANCE)
A, B = (DenseOperator(_normal(m, N, seed=m) / 2, dtype=F64) for m in (12, 5))
SIGMA = dist.LogNormal(torch.tensor(-1.0, dtype=F64), 0.7)


def _check(tree, name, grid, log_density):
    """The draws of a site against a density on a grid of its values."""
    density = np.exp(log_density - log_density.max())
    weights = density / density.sum()
    mean = weights @ grid
    sd = np.sqrt(weights @ (grid - mean) ** 2)
    draws = tree["posterior"][name]
    error = float(arviz_stats.mcse(draws))
    assert abs(float(draws.mean()) - mean) < 4 * error, (float(draws.mean()), mean, error)
    assert abs(float(draws.std()) / sd - 1) < 0.25
    assert error < 0.2 * sd  # a check that cannot fail is none


def _log_normal_of(y, matrix, covariance, mean):
    return multivariate_normal(matrix @ mean.numpy(), covariance).logpdf(y.numpy())


def two_sensors():
    x = pyro.sample("x", PRIOR)
    sigma = pyro.sample("sigma", SIGMA)
    pyro.deterministic("energy", x.square().sum())
    pyro.sample("a", Gaussian(A(x), sigma))
    pyro.sample("b", Gaussian(B(x), 0.3))


@pytest.mark.parametrize(
    "settings",
    [BlockedGibbs(warmup=80), BlockedGibbs(image=GuidedDiffusion(steps=8), warmup=80, renoise=1.0)],
    ids=["exact image step", "renoised image step"],
)
def test_noise_of_one_of_two_sensors(settings):
    data = {k: v for k, v in bir.simulate(two_sensors, seed=5).items() if k in ("a", "b")}
    tree = bir.sample(two_sensors, settings, data, draws=250, chains=2, seed=1, progress=False)
    grid = np.geomspace(0.01, 4, 400)
    matrix = torch.cat([A.matrix, B.matrix]).numpy()
    spread = matrix @ COVARIANCE.numpy() @ matrix.T
    y = torch.cat([data["a"], data["b"]])
    log_density = np.array(
        [
            _log_normal_of(y, matrix, spread + np.diag([s**2] * 12 + [0.09] * 5), PRIOR.mean)
            + float(SIGMA.log_prob(torch.tensor(s)))
            + np.log(s)  # equal steps of log sigma
            for s in grid
        ]
    )
    _check(tree, "sigma", grid, log_density)
    energy = (tree["posterior"]["x"] ** 2).sum("x_dim_0")
    np.testing.assert_allclose(tree["posterior"]["energy"], energy)
    assert {"nuts_step_size", "nuts_diverging"} <= set(tree["sample_stats"].data_vars)
    # The log likelihood is that of the draw with its own noise.
    s, x = (tree["posterior"][name].values[0, 0] for name in ("sigma", "x"))
    expected = Gaussian(A(torch.tensor(x)), float(s)).log_prob(data["a"])
    np.testing.assert_allclose(tree["log_likelihood"]["a"][0, 0], expected)


def test_noise_of_signs():
    few = DenseOperator(_normal(5, N, seed=5), dtype=F64)

    def model():
        x = pyro.sample("x", PRIOR)
        pyro.sample("y", OneBit(few(x), pyro.sample("sigma", SIGMA)))

    signs = torch.tensor([1.0, -1, 1, 1, -1], dtype=F64)
    tree = bir.sample(
        model, BlockedGibbs(warmup=80), {"y": signs}, draws=250, chains=2, seed=2, progress=False
    )
    grid = np.geomspace(0.02, 8, 120)
    flipped = (signs[:, None] * few.matrix).numpy()
    spread = flipped @ COVARIANCE.numpy() @ flipped.T
    inside = [
        multivariate_normal(-flipped @ PRIOR.mean.numpy(), spread + s**2 * np.eye(5)).cdf(np.zeros(5))
        for s in grid
    ]
    log_density = np.log(inside) + SIGMA.log_prob(torch.from_numpy(grid)).numpy() + np.log(grid)
    _check(tree, "sigma", grid, log_density)


def test_gain_under_a_mixture():
    means = torch.stack([_normal(N, seed=7), _normal(N, seed=8) + 1])
    prior = GaussianMixturePrior(torch.tensor([0.3, 0.7], dtype=F64), means, 0.3 * COVARIANCE.expand(2, N, N))
    gain = dist.LogNormal(torch.tensor(0.0, dtype=F64), 0.5)

    def model():
        x = pyro.sample("x", prior)
        g = pyro.sample("gain", gain)
        pyro.sample("y", Gaussian((g * B)(x), 0.3))

    y = bir.simulate(model, seed=6)["y"]
    tree = bir.sample(
        model, BlockedGibbs(warmup=80, transitions=2), {"y": y}, draws=300, chains=2, seed=3, progress=False
    )
    grid = np.geomspace(0.1, 6, 300)
    matrix = B.matrix.numpy()
    log_density = [
        np.logaddexp(
            *(
                np.log(w)
                + _log_normal_of(
                    y,
                    g * matrix,
                    g**2 * matrix @ (0.3 * COVARIANCE.numpy()) @ matrix.T + 0.09 * np.eye(5),
                    mean,
                )
                for w, mean in zip((0.3, 0.7), means, strict=True)
            )
        )
        for g in grid
    ]
    log_density = np.array(log_density) + gain.log_prob(torch.from_numpy(grid)).numpy() + np.log(grid)
    _check(tree, "gain", grid, log_density)


def test_a_label_that_chooses_among_priors_made_before():
    """Two runs may well draw labels of the same prior, here nine of ten: every label is looked at."""
    common = GaussianPrior(_normal(N, seed=7), COVARIANCE)
    priors = [common] * 9 + [GaussianPrior(_normal(N, seed=8), COVARIANCE)]

    def model():
        label = pyro.sample("label", dist.Categorical(torch.full((10,), 0.1)))
        pyro.sample("y", Gaussian(B(pyro.sample("x", priors[int(label)])), 0.8))

    assert read_joint(model, {"y": _normal(5, seed=9)}).prior_depends
    priors[9] = common
    assert not read_joint(model, {"y": _normal(5, seed=9)}).prior_depends


def test_a_label_that_chooses_the_prior():
    """The share of label 1 within four standard errors of its exact probability; the sites know of each other."""
    means = torch.stack([_normal(N, seed=7), _normal(N, seed=7) + 0.8])

    def model():
        label = pyro.sample("label", dist.Categorical(torch.tensor([0.4, 0.6])))
        x = pyro.sample("x", GaussianPrior(means[label], 0.5 * COVARIANCE))
        pyro.sample("y", Gaussian(B(x), 0.8))

    y = bir.simulate(model, seed=9)["y"]
    assert read_joint(model, {"y": y}).prior_depends
    made = bir.simulate(two_sensors, seed=5)
    assert not read_joint(two_sensors, {name: made[name] for name in ("a", "b")}).prior_depends
    tree = bir.sample(model, BlockedGibbs(warmup=20), {"y": y}, draws=500, chains=2, seed=4, progress=False)
    matrix = B.matrix.numpy()
    spread = matrix @ (0.5 * COVARIANCE.numpy()) @ matrix.T + 0.64 * np.eye(5)
    log_p = np.log([0.4, 0.6]) + [_log_normal_of(y, matrix, spread, mean) for mean in means]
    exact = np.exp(log_p - np.logaddexp(*log_p))[1]
    label = tree["posterior"]["label"].astype(float)
    error = float(arviz_stats.mcse(label))
    assert 0.05 < exact < 0.95 and abs(float(label.mean()) - exact) < 4 * error


def test_operators_that_do_not_depend_on_theta_are_applied_once_to_an_image():
    calls = []

    class Counted(DenseOperator):
        def forward(self, x):
            calls.append(x)
            return super().forward(x)

    first, second = Counted(A.matrix, dtype=F64), Counted(B.matrix, dtype=F64)

    def model():
        x = pyro.sample("x", PRIOR)
        sigma, gain = pyro.sample("sigma", SIGMA), pyro.sample("gain", SIGMA)
        pyro.sample("a", Gaussian(first(x), sigma))
        pyro.sample("b", Gaussian(second(x), 0.3))
        pyro.sample("c", Gaussian((gain * B)(x), 0.3))

    data = {"a": torch.zeros(12, dtype=F64), "b": torch.zeros(5, dtype=F64), "c": torch.ones(5, dtype=F64)}
    joint, x = read_joint(model, data), _normal(N, seed=3)
    calls.clear()
    found = [
        joint.log_joint(x, {"sigma": torch.tensor(s, dtype=F64), "gain": torch.tensor(0.5, dtype=F64)})
        for s in (0.2, 0.4, 0.8)
    ]
    assert len(calls) == 2 and len(set(found)) == 3
    other = joint.log_joint(
        x + 1, {"sigma": torch.tensor(0.2, dtype=F64), "gain": torch.tensor(0.5, dtype=F64)}
    )
    assert len(calls) == 4 and other != found[0]


def test_a_chain_is_a_function_of_its_seed_and_number(tmp_path):
    data = {k: v for k, v in bir.simulate(two_sensors, seed=5).items() if k in ("a", "b")}
    run = {"draws": 4, "seed": 7, "progress": False}
    both = bir.sample(two_sensors, BlockedGibbs(warmup=3), data, chains=2, **run)
    one = bir.sample(two_sensors, BlockedGibbs(warmup=3), data, chains=1, store=tmp_path / "run.zarr", **run)
    assert (both["posterior"]["sigma"][0] == one["posterior"]["sigma"][0]).all()
    assert (both["posterior"]["sigma"][0] != both["posterior"]["sigma"][1]).any()
    more = bir.sample(two_sensors, BlockedGibbs(warmup=3), data, chains=2, store=tmp_path / "run.zarr", **run)
    assert (more["posterior"]["x"].values == both["posterior"]["x"].values).all()


def test_a_plate_of_images_shares_a_noise_level():
    def model():
        sigma = pyro.sample("sigma", SIGMA)
        with pyro.plate("images", 3):
            x = pyro.sample("x", PRIOR)
            pyro.sample("y", Gaussian(A(x), sigma).to_event(1))

    y = bir.simulate(model, seed=3)["y"]
    tree = bir.sample(
        model,
        BlockedGibbs(image=GuidedDiffusion(steps=6), warmup=5),
        {"y": y},
        draws=5,
        chains=1,
        progress=False,
    )
    assert tree["posterior"]["x"].dims == ("chain", "draw", "images", "x_dim_0")
    assert tree["posterior"]["sigma"].dims == ("chain", "draw")
    assert tree["sample_stats"]["nuts_step_size"].dims == ("chain", "draw", "images")


def test_refusals():
    def improper():
        x = pyro.sample("x", PRIOR)
        s = pyro.sample("sigma", dist.ImproperUniform(dist.constraints.positive, (), ()))
        pyro.sample("y", Gaussian(A(x), s))

    y = {"y": torch.zeros(12, dtype=F64)}
    data = {k: v for k, v in bir.simulate(two_sensors, seed=5).items() if k in ("a", "b")}
    with pytest.raises(ModelError, match="the site 'sigma' has an improper prior"):
        bir.sample(improper, data=y, progress=False)

    def plain():
        pyro.sample("y", Gaussian(A(pyro.sample("x", PRIOR)), 0.3))

    with pytest.raises(TypeError, match="the image 'x' is all that this model leaves unknown"):
        bir.sample(plain, BlockedGibbs(), y, progress=False)
    with pytest.raises(TypeError, match="walks no path"):
        BlockedGibbs(image=Exact(), renoise=0.5)
    with pytest.raises(ValueError, match="expected warmup >= 0"):
        BlockedGibbs(warmup=-1)
    with pytest.raises(ValueError, match="drawn chain by chain; leave it out"):
        bir.sample(two_sensors, data=data, block_size=3, progress=False)

    def growing():
        x = pyro.sample("x", PRIOR)
        more = pyro.sample("more", dist.Bernoulli(torch.tensor(1.0)))
        operator = DenseOperator(_normal(12 + int(more), N, seed=0), dtype=F64)
        pyro.sample("y", Gaussian(operator(x), 0.3))

    with pytest.raises(
        ModelError, match=r"at more = 1: data\['y'\] has shape \(12,\); DenseOperator measures .*13"
    ):
        bir.sample(growing, data=y, progress=False)

    def with_parameter():
        x = pyro.sample("x", PRIOR)
        pyro.sample("y", Gaussian(A(x), pyro.param("s", torch.tensor(0.3, dtype=F64))))

    with pytest.warns(UserWarning, match="the parameter 's' of the model is taken at its present value"):
        bir.sample(with_parameter, Exact(), y, draws=2, chains=1, progress=False)
    pyro.clear_param_store()

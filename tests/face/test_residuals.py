import numpy as np
import pyro
import pytest
import torch
import xarray as xr
from scipy.stats import kstest, norm, poisson

import bayes_ir as bir
from bayes_ir.analysis import NonFiniteDrawsWarning, residual_check
from bayes_ir.inference import Exact, ModelError
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit, Poisson, Quantized
from bayes_ir.models.channels import StackedChannel
from bayes_ir.quantile_residuals import _residual

RNG = torch.Generator().manual_seed(0)
PRIOR = GaussianPrior(torch.zeros(3), torch.eye(3))
A = DenseOperator(torch.randn(8, 3, generator=RNG), event_shape=(3,))
CHANNELS = {
    "gaussian": lambda z: Gaussian(z, 0.5),
    "signs": lambda z: OneBit(z, 0.5, 0.2),
    "codes": lambda z: Quantized(z, 0.5, bits=2, step=1.0),
    "counts": lambda z: Poisson(z, peak=3.0, background=0.5, black=-3.0),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_at_the_truth_they_are_standard_normal(name):
    z = torch.randn(4000, generator=torch.Generator().manual_seed(1))
    channel = CHANNELS[name](z)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        y = channel.sample().double().numpy()
    found = _residual("y", channel, y, np.random.default_rng(3))
    assert kstest(found, "norm").pvalue > 0.01


def test_they_lie_within_the_probability_of_their_value():
    z = torch.linspace(-4, 4, 9)
    signs = _residual("y", OneBit(z, 1.0), np.ones(9), np.random.default_rng(0))
    assert (norm.cdf(signs) >= norm.cdf(-z.double().numpy()) - 1e-12).all()  # P(y = -1) lies below
    counts = np.arange(9.0)
    found = norm.cdf(
        _residual("y", Poisson(z, peak=2.0, background=1.0, black=-4.0), counts, np.random.default_rng(0))
    )
    rate = 2 * (z.double().numpy() + 4) + 1
    assert (poisson.cdf(counts - 1, rate) - 1e-9 <= found).all() and (
        found <= poisson.cdf(counts, rate) + 1e-9
    ).all()
    far = _residual(
        "y", OneBit(torch.tensor([30.0, -30.0]), 1.0), np.array([-1.0, 1.0]), np.random.default_rng(0)
    )
    assert far[0] < -25 and far[1] > 25 and np.isfinite(far).all()  # hardly possible, and told so


@pytest.mark.parametrize("name", ["gaussian", "signs"])
def test_one_exact_draw_has_the_residuals_of_noise_over_data_sets(name):
    def model():
        with pyro.plate("sets", 100):
            x = pyro.sample("x", PRIOR)
            pyro.sample("y", CHANNELS[name](A(x)).to_event(1))

    y = bir.simulate(model, seed=4)["y"]
    posterior = bir.sample(model, Exact(), {"y": y}, draws=2, chains=1, progress=False)
    tree = bir.residuals(model, posterior, seed=1)
    assert tree["residuals"]["y"].dims == ("chain", "draw", "sets", "y_dim_0")
    each = [residual_check(tree.isel(sets=i)).one_draw[0] for i in range(100)]
    assert kstest(each, "uniform").pvalue > 0.01
    assert residual_check(tree).p_value > 0.05  # all data sets as one

    def narrow():
        with pyro.plate("sets", 100):
            x = pyro.sample("x", PRIOR)
            pyro.sample("y", Gaussian(A(x), 0.4).to_event(1))

    if name == "gaussian":
        wrong = bir.sample(narrow, Exact(), {"y": y}, draws=2, chains=1, progress=False)
        assert residual_check(bir.residuals(narrow, wrong)).p_value < 1e-3


def model():
    x = pyro.sample("x", PRIOR)
    with pyro.poutine.mask(mask=torch.arange(8) != 5):
        pyro.sample("y", Gaussian(A(x), 0.5))


def test_formula_missing_measurements_and_draws_that_are_not_finite():
    y = bir.simulate(model, seed=1)["y"]
    posterior = bir.sample(model, Exact(), {"y": y}, draws=3, chains=1, progress=False)
    state = torch.get_rng_state()
    found = bir.residuals(model, posterior)["residuals"]["y"].values[0]
    assert torch.equal(state, torch.get_rng_state())
    expected = (y.numpy() - posterior["posterior"]["x"].values[0] @ A.matrix.numpy().T) / 0.5
    np.testing.assert_allclose(np.delete(found, 5, axis=1), np.delete(expected, 5, axis=1), atol=1e-4)
    assert np.isnan(found[:, 5]).all()
    assert residual_check(bir.residuals(model, posterior)).measurements == 7
    posterior["posterior"]["x"][0, 1] = np.inf
    with pytest.warns(NonFiniteDrawsWarning, match="1 of 3 draws are not finite; they have no residuals"):
        assert residual_check(bir.residuals(model, posterior)).draws_left_out == 1


def test_a_channel_without_a_distribution_function_is_refused():
    channel = StackedChannel([Gaussian(torch.zeros(2), 1.0)])
    with pytest.raises(
        ModelError, match=r"function of StackedChannel, the channel of 'y', is not known.*pit"
    ):
        _residual("y", channel, np.zeros(2), np.random.default_rng(0))
    with pytest.raises(ValueError, match="residuals: the tree has no group 'posterior'"):
        bir.residuals(model, xr.DataTree())

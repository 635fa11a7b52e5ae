"""The density of a denoiser by its probability flow: against exact densities of noised laws."""

import math
from itertools import pairwise

import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS
from torch import nn

from bayes_ir.models import (
    FlowDensity,
    GaussianMixturePrior,
    GaussianPrior,
    NetworkPrior,
    VarianceExploding,
    VariancePreserving,
    flow_log_density,
)

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def covariance(n, seed):
    root = normal(n, n, seed=seed)
    return root @ root.T / n + 0.05 * torch.eye(n, dtype=F64)


def gaussian(n=4, event_shape=None):
    return GaussianPrior(normal(n, seed=1), covariance(n, 2), event_shape=event_shape)


def mixture():
    covariances = torch.stack([0.3 * covariance(3, seed) for seed in (3, 4, 5)])
    return GaussianMixturePrior(
        torch.tensor([0.5, 0.3, 0.2], dtype=F64), 2 * normal(3, 3, seed=6), covariances
    )


def noised(prior, level, count, seed=7):
    """Draws of the law of ``x_0 + level eps`` and their exact log density."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x = prior.sample((count,)) + level * torch.randn(count, *prior.event_shape, dtype=F64)
    return x, exact(prior, x, level)


def exact(prior, x, level):
    flow = VarianceExploding(level, 10 * level)
    return prior.with_diffusion(flow).noised_log_prob(x, 0.0)


class LinearDenoiser(nn.Module):
    """The exact denoiser of a Gaussian, ``m + C (C + s^2 I)^-1 (x - m)`` with s of each image."""

    def __init__(self, prior):
        super().__init__()
        self.unit = nn.Parameter(torch.ones((), dtype=F64))
        self.mean = prior.mean.flatten()
        self.variances, self.basis = prior.components.variances[0], prior.components.basis[0]

    def forward(self, x_t, a, b):
        s2 = ((b / a) ** 2)[:, None]
        y = (x_t.flatten(1) / a[:, None] - self.mean) @ self.basis
        return (self.mean + (self.variances / (self.variances + s2) * y) @ self.basis.T).reshape(x_t.shape)


def learned(prior, **settings):
    low, high = prior.noise_range
    return NetworkPrior(
        LinearDenoiser(prior), VarianceExploding(low, high), prior.event_shape, mean=0.5, std=0.8, **settings
    )


@pytest.mark.parametrize("prior", [gaussian(), mixture()], ids=["gaussian", "mixture"])
def test_log_density_of_the_noised_law_to_fourth_order(prior):
    """Over a range that ends at a thousand standard deviations, where the law is Gaussian to rounding."""
    low, high = 10 * prior.noise_range[0], 100 * prior.noise_range[1]
    x, truth = noised(prior, low, 64)
    errors = [
        float((flow_log_density(prior, x, steps=n, noise_range=(low, high)).log_prob - truth).abs().max())
        for n in (32, 64, 128)
    ]
    assert errors[0] < 0.05 and errors[-1] < 1e-4, errors
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(3.7 < order < 5.2 for order in orders), (errors, orders)


@pytest.mark.parametrize(
    ("prior", "steps", "error"),
    [(gaussian(), 32, 5e-5), (mixture(), 128, 2e-3)],
    ids=["gaussian", "mixture"],
)
def test_the_end_of_the_range_costs_what_is_stated(prior, steps, error):
    """At ten standard deviations: ``(r / 2)^2 = 2.5e-5`` a direction, and the skewness of the mixture."""
    x, truth = noised(prior, prior.noise_range[0], 64)
    found = flow_log_density(prior, x, steps=steps)
    assert isinstance(found, FlowDensity) and found.noise_level == prior.noise_range[0]
    assert found.log_prob.dtype == F64 and (found.standard_error == 0).all()
    torch.testing.assert_close(found.log_prob, truth, rtol=0, atol=error)


def test_a_gaussian_without_correlations_is_exact_after_two_steps():
    prior = GaussianPrior(normal(3), torch.diag(torch.tensor([0.1, 1.0, 4.0], dtype=F64)))
    x, truth = noised(prior, 0.3, 5)
    found = flow_log_density(prior, x, steps=2, noise_range=(0.3, 2.0))
    torch.testing.assert_close(found.log_prob, truth, rtol=1e-12, atol=1e-12)


def test_any_batch_any_process_any_chunk_the_same_density():
    prior = gaussian(4, event_shape=(1, 2, 2))
    x, truth = noised(prior, prior.noise_range[0], 6)
    whole = flow_log_density(prior, x).log_prob
    torch.testing.assert_close(whole, truth, rtol=0, atol=1e-4)
    for rows in (1, 3, 9):
        torch.testing.assert_close(flow_log_density(prior, x, rows=rows).log_prob, whole)
    other = prior.with_diffusion(VariancePreserving()).expand([7])
    batched = flow_log_density(other, x.reshape(2, 3, 1, 2, 2))
    assert batched.log_prob.shape == batched.standard_error.shape == (2, 3)
    torch.testing.assert_close(batched.log_prob.flatten(), whole)
    torch.testing.assert_close(flow_log_density(prior, x[0]).log_prob, whole[0])
    assert flow_log_density(prior, x[:0]).log_prob.shape == (0,)


def test_probes_estimate_the_trace_with_the_error_they_state():
    """Forty seeds of 8 probes: their mean within 4 standard errors of the exact trace (fails once in 15,000), their
    spread within a third of the mean stated one (a chi-square of 39 degrees of freedom, 3 sd: once in 300)."""
    prior = gaussian(12)
    x, _ = noised(prior, prior.noise_range[0], 1)
    settings = {"steps": 12}
    truth = flow_log_density(prior, x[0], **settings).log_prob
    runs = [flow_log_density(prior, x[0], probes=8, seed=seed, **settings) for seed in range(40)]
    estimates = torch.stack([run.log_prob for run in runs])
    stated = torch.stack([run.standard_error for run in runs]).square().mean().sqrt()
    spread = estimates.std()
    assert abs(estimates.mean() - truth) < 4 * spread / math.sqrt(40)
    assert 2 / 3 < spread / stated < 4 / 3, (spread, stated)
    assert stated > 0.1  # there is something to estimate
    again = flow_log_density(prior, x[0], probes=8, seed=3, **settings)
    assert torch.equal(again.log_prob, runs[3].log_prob)


def test_more_than_64_pixels_are_probed_and_as_many_probes_are_exact():
    prior = gaussian(65)
    x, _ = noised(prior, prior.noise_range[0], 2)
    settings = {"steps": 6}
    probed = flow_log_density(prior, x, **settings)
    whole = flow_log_density(prior, x, probes=65, **settings)
    assert (probed.standard_error > 0).all() and (whole.standard_error == 0).all()
    # Student's t with 15 degrees of freedom: beyond 5 once in 6,000; the two share their probes.
    assert ((probed.log_prob - whole.log_prob).abs() < 5 * probed.standard_error).all()


@pytest.mark.parametrize("probes", [None, 2], ids=["exact", "probes"])
def test_the_gradient_is_the_score(probes):
    """Of the mixture exactly; with probes that of the estimate, by differences."""
    prior = mixture()
    level = 5 * prior.noise_range[0]
    x, _ = noised(prior, level, 5)
    settings = {"steps": 96, "probes": probes, "noise_range": (level, 50 * prior.noise_range[1])}
    x.requires_grad_()
    found = flow_log_density(prior, x, **settings)
    assert not found.standard_error.requires_grad
    (gradient,) = torch.autograd.grad(found.log_prob.sum(), x)
    x = x.detach()
    if probes is None:
        score = prior.with_diffusion(VarianceExploding(level, 1e3)).score(x, 0.0)
        torch.testing.assert_close(gradient, score, rtol=1e-3, atol=2e-3)
    along, h = normal(*x.shape, seed=8), 1e-5
    up, down = (flow_log_density(prior, x + s * h * along, **settings).log_prob for s in (1, -1))
    torch.testing.assert_close((gradient * along).sum(-1), (up - down) / (2 * h), rtol=1e-6, atol=1e-6)
    assert not flow_log_density(prior, x, **settings).log_prob.requires_grad


def test_a_learned_prior_with_the_exact_network_and_rough_moments():
    prior = gaussian(4, event_shape=(1, 2, 2))
    network = learned(prior, density_steps=48)
    x, truth = noised(prior, prior.noise_range[0], 6)
    # Moments that are off by a standard deviation: m_1 is known to a hundredth of it, and weighs a tenth.
    torch.testing.assert_close(network.log_prob(x), truth, rtol=0, atol=5e-3)
    assert network.log_prob(x.float()).dtype == torch.float32
    assert network.expand([3]).log_prob(x[0]).shape == (3,)
    probed = learned(prior, density_probes=2)
    assert torch.equal(probed.log_prob(x), flow_log_density(probed, x, probes=2).log_prob)
    assert not torch.allclose(probed.log_prob(x), network.log_prob(x), atol=1e-3)


def test_an_image_that_diverged_has_no_density_and_stops_nothing():
    network = learned(gaussian(2), density_steps=4)
    x = torch.tensor([[0.0, 1.0], [math.inf, 0.0], [0.0, math.nan]], dtype=F64)
    found = network.log_prob(x)
    assert found[0].isfinite() and found[1:].isnan().all()
    torch.testing.assert_close(found[0], network.log_prob(x[0]))


def test_nuts_on_a_learned_prior():
    """Mean and covariance of the noised law, within 4.5 standard errors of the effective size of x (once in 25,000)."""
    prior = GaussianPrior(
        torch.tensor([1.0, -0.5], dtype=F64), torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=F64)
    )
    network = learned(prior, density_steps=6)

    def model():
        return pyro.sample("x", network)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pyro.clear_param_store()
        start = {"x": torch.zeros(2, dtype=F64)}
        run = MCMC(NUTS(model), 200, warmup_steps=60, initial_params=start, disable_progbar=True)
        run.run()
    x = run.get_samples()["x"]
    ess = float(min(run.diagnostics()["x"]["n_eff"].min(), len(x)))
    assert ess > 50
    target = prior.components.covariance_matrix + prior.noise_range[0] ** 2 * torch.eye(2, dtype=F64)
    centred = x - prior.mean
    products = (centred[:, :, None] * centred[:, None, :]).flatten(1)
    for values, truth in ((x, prior.mean), (products, target.flatten())):
        assert ((values.mean(0) - truth).abs() < 4.5 * values.std(0) / math.sqrt(ess)).all()


class Detached(nn.Module):
    def forward(self, x_t, a, b):
        return x_t.detach()


@pytest.mark.parametrize(
    ("x", "settings", "words"),
    [
        (torch.zeros(3), {}, r"trailing\s+dimensions \(4,\)"),
        (torch.full((4,), math.nan), {}, "not finite"),
        (torch.zeros(4, dtype=torch.int64), {}, r"torch\.int64.*not finite floating point"),
        (torch.zeros(4), {"steps": 1}, "steps >= 2"),
        (torch.zeros(4), {"rows": 0}, "rows >= 1"),
        (torch.zeros(4), {"probes": 1}, "one probe tells nothing of its error"),
        (torch.zeros(4), {"noise_range": (0.0, 1.0)}, "0 < low < high < inf"),
        (torch.zeros(4), {"noise_range": (2.0, 1.0)}, "0 < low < high < inf"),
    ],
)
def test_impossible_requests_are_refused(x, settings, words):
    with pytest.raises(ValueError, match=words):
        flow_log_density(gaussian(), x, **settings)


def test_a_denoiser_without_a_derivative_is_refused():
    prior = NetworkPrior(Detached(), VarianceExploding(), (2,))
    with pytest.raises(ValueError, match="no derivative"):
        prior.log_prob(torch.zeros(2))


def test_log_prob_refuses_what_is_no_image():
    network = learned(gaussian(2))
    with pytest.raises(ValueError, match=r"trailing\s+dimensions \(2,\)"):
        network.log_prob(torch.zeros(3, dtype=F64))
    with pytest.raises(ValueError, match=r"torch\.int64.*not finite floating point"):
        network.log_prob(torch.zeros(2, dtype=torch.int64))

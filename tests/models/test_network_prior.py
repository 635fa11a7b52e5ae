import math

import pyro
import pytest
import torch
from torch import nn

from bayes_ir.models.diffusion import (
    DDPM,
    RectifiedFlow,
    VarianceExploding,
    VariancePreserving,
    noise_from_denoised,
    score_from_denoised,
    velocity_from_denoised,
)
from bayes_ir.models.networks import Denoiser, UNet
from bayes_ir.models.priors import GaussianMixturePrior, NetworkPrior
from bayes_ir.models.reverse import heun_sample
from bayes_ir.models.time_grids import karras_grid

SHAPE = (1, 6, 10)  # 3 x 5 patches: an odd half resolution


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def tiny_network(width=8):
    network = UNet(1, width, 1)
    for parameter in network.parameters():  # away from the zero-initialised output
        nn.init.normal_(parameter, std=0.1)
    return network


def tiny_prior(**settings):
    settings = {"data_range": (0.0, 1.0), "mean": 0.2, "std": 0.3, "sample_steps": 4, **settings}
    settings.setdefault("density_steps", 4)
    return NetworkPrior(Denoiser(tiny_network(), 0.2, 0.3), VarianceExploding(0.01, 50.0), SHAPE, **settings)


class Exact(nn.Module):
    """The denoiser of a mixture as a module ``network(x_t, a, b)``."""

    def __init__(self, mixture):
        super().__init__()
        self.mixture = mixture
        self.unit = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x_t, a, b):
        return self.mixture._denoised_mean(x_t, a, b)


class Predicts(nn.Module):
    """An exact network trained at a home process and called as ``network(x_t, t)``."""

    def __init__(self, mixture, home, what, first_time=0.0):
        super().__init__()
        self.mixture, self.home, self.what, self.first_time = (
            mixture.with_diffusion(home),
            home,
            what,
            first_time,
        )
        self.unit = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x_t, t):
        t = t + self.first_time
        x0_hat = self.mixture.denoise(x_t, t)
        (a, b), (a_dot, b_dot) = self.home.coefficients(t), self.home.derivatives(t)
        a, b, a_dot, b_dot = (c[:, None] for c in (a, b, a_dot, b_dot))
        return {
            "denoised": x0_hat,
            "noise": noise_from_denoised(x_t, x0_hat, a, b),
            "score": score_from_denoised(x_t, x0_hat, a, b),
            "velocity": velocity_from_denoised(x_t, x0_hat, a, b, a_dot, b_dot),
        }[self.what]


def mixture():
    covariance = torch.tensor([[0.05, 0.02], [0.02, 0.1]], dtype=torch.float64)
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    return GaussianMixturePrior([0.4, 0.6], means, torch.stack([covariance, covariance / 2]))


def test_denoiser_sees_the_coefficients_of_each_image():
    prior = tiny_prior()
    x_t = torch.randn(2, 3, *SHAPE)
    t = torch.tensor([[0.1, 0.4, 0.9], [0.2, 0.5, 1.0]])
    together = prior.denoise(x_t, t)
    assert together.shape == x_t.shape
    one = prior.denoise(x_t[1, 2], 1.0)
    torch.testing.assert_close(together[1, 2], one, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(together, prior.denoise(x_t, 0.1))
    a, b = map(float, prior.diffusion.coefficients(1.0))
    torch.testing.assert_close(prior.denoise_at(x_t[1], a, b)[2], one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("process", [VariancePreserving(), DDPM(), RectifiedFlow()], ids=repr)
def test_every_process_gives_the_same_denoiser(process):
    prior = tiny_prior()
    x, level = torch.randn(3, *SHAPE), 0.7
    a, _ = process.coefficients(process.time_at(level))
    torch.testing.assert_close(
        prior.with_diffusion(process).denoise(a.float() * x, process.time_at(level)),
        prior.denoise(x, prior.diffusion.time_at(level)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_gradient_reaches_the_image_and_not_the_parameters():
    prior = tiny_prior().to(dtype=torch.float64)
    x_t = torch.randn(*SHAPE, dtype=torch.float64, requires_grad=True)
    direction = torch.randn(*SHAPE, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((prior.denoise(x_t, 0.4) * direction).sum(), x_t)
    along, h = torch.randn(*SHAPE, dtype=torch.float64), 1e-5
    up, down = (prior.denoise(x_t.detach() + s * h * along, 0.4) for s in (1, -1))
    expected = float(((up - down) / (2 * h) * direction).sum())
    assert float((gradient * along).sum()) == pytest.approx(expected, rel=1e-6)
    assert not any(p.requires_grad for p in prior.network.parameters())
    assert not prior.network.training
    assert not prior.denoise(x_t.detach(), 0.4).requires_grad


def test_types_follow_the_image_and_moves_copy_the_network():
    prior = tiny_prior()
    assert prior.denoise(torch.randn(*SHAPE, dtype=torch.float64), 0.5).dtype == torch.float64
    double = prior.to(dtype=torch.float64)
    assert (prior.dtype, double.dtype) == (torch.float32, torch.float64)
    assert double.sample().dtype == double.mean.dtype == torch.float64
    assert prior.to("cpu").device == torch.device("cpu")
    x = torch.randn(2, *SHAPE)
    torch.testing.assert_close(prior.denoise(x, 0.5), double.denoise(x, 0.5), rtol=1e-4, atol=1e-4)


def test_pyro_samples_and_plates():
    prior = tiny_prior()

    def model():
        x = pyro.sample("x", prior)
        with pyro.plate("images", 3):
            return x, pyro.sample("z", prior)

    x, z = model()
    assert x.shape == SHAPE
    assert z.shape == (3, *SHAPE)
    assert prior.expand([2]).sample((4,)).shape == (4, 2, *SHAPE)
    assert prior.expand([2]).mean.shape == (2, *SHAPE)
    torch.testing.assert_close(prior.variance, torch.full(SHAPE, 0.09))
    trace = pyro.poutine.trace(model).get_trace()
    trace.compute_log_prob()
    assert [trace.nodes[name]["log_prob"].shape for name in "xz"] == [(), (3,)]


def test_draws_are_a_function_of_the_seed():
    prior = tiny_prior(churn=2.0)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(prior.sample((2,)))
    assert torch.equal(draws[0], draws[1])
    assert not torch.allclose(draws[0], draws[2])


@pytest.mark.parametrize("churn", [0.0, 10.0])
def test_draws_with_an_exact_network_follow_the_prior(churn):
    exact = mixture()
    prior = NetworkPrior(
        Exact(exact),
        VarianceExploding(0.005, 40.0),
        (2,),
        noise_range=(0.005, 40.0),
        mean=exact.mean,
        std=exact.variance.sqrt(),
        sample_steps=40,
        churn=churn,
    )
    n = 20_000
    x = prior.sample((n,))
    # Monte Carlo error (5 standard errors) plus 0.005 for the 40 steps.
    assert ((x.mean(0) - exact.mean).abs() < 5 * (exact.variance / n).sqrt() + 0.005).all()
    square = (x - exact.mean).square()
    assert ((square.mean(0) - exact.variance).abs() < 5 * square.std(0) / math.sqrt(n) + 0.005).all()
    share = float((x[:, 0] > 0).double().mean())
    assert abs(share - 0.6) < 5 * math.sqrt(0.24 / n) + 0.005


def test_heun_is_of_second_order():
    """Halving the steps of a Gaussian's probability flow divides the error by four."""
    flow = VarianceExploding(0.1, 10.0)
    start = torch.tensor([[10.0]], dtype=torch.float64)
    errors = []
    for steps in (16, 32, 64):
        levels = flow.ratio(karras_grid(flow, steps))
        # x_0 ~ N(0, 1): x0_hat = x / (1 + s^2) and the flow keeps x / (1 + s^2)^(1/2).
        end = heun_sample(lambda x, s: x / (1 + s**2), start, levels)
        at_lowest = start * math.sqrt((1 + 0.1**2) / (1 + 10.0**2))
        errors.append(float((end - at_lowest / (1 + 0.1**2)).abs()))
    orders = [math.log2(errors[i] / errors[i + 1]) for i in range(2)]
    assert all(1.8 < order < 2.3 for order in orders), orders


@pytest.mark.parametrize("what", ["denoised", "noise", "score", "velocity"])
@pytest.mark.parametrize("home", [VarianceExploding(0.01, 50.0), DDPM(), RectifiedFlow()], ids=repr)
@pytest.mark.parametrize(
    "process", [VarianceExploding(0.02, 30.0), VariancePreserving(), RectifiedFlow()], ids=repr
)
def test_predictions_of_any_home_serve_any_process(what, home, process):
    exact = mixture()
    prior = NetworkPrior(Predicts(exact, home, what), home, (2,), noise_range=(0.02, 30.0), prediction=what)
    x = torch.randn(5, 2, dtype=torch.float64)
    for level in (0.03, 0.4, 20.0):
        t = process.time_at(level)
        torch.testing.assert_close(
            prior.with_diffusion(process).denoise(x, t),
            exact.with_diffusion(process).denoise(x, t),
            rtol=1e-6,
            atol=1e-6,
        )


def test_time_argument_translates_steps_counted_from_zero():
    exact, home = mixture(), DDPM()
    network = Predicts(exact, home, "noise", first_time=1.0)
    prior = NetworkPrior(network, home, (2,), prediction="noise", time=lambda t: t - 1)
    x = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(prior.denoise(x, 300.0), exact.with_diffusion(home).denoise(x, 300.0))
    assert prior.noise_range == pytest.approx((float(home.ratio(1.0)), float(home.ratio(1000.0))))


def test_noise_beyond_the_home_process_is_taken_to_its_end():
    exact, home = mixture(), VarianceExploding(0.01, 50.0)
    prior = NetworkPrior(Predicts(exact, home, "noise"), home, (2,), prediction="noise")
    pure = prior.with_diffusion(RectifiedFlow()).denoise(torch.randn(5, 2, dtype=torch.float64), 1.0)
    torch.testing.assert_close(pure, exact.mean.expand(5, 2), rtol=0, atol=0.2)


def test_defaults_come_from_data_range_and_process():
    prior = NetworkPrior(nn.Identity(), VarianceExploding(0.01, 9.0), (2,), data_range=(-1.0, 3.0))
    assert prior.noise_range == pytest.approx((0.01, 9.0))
    torch.testing.assert_close(prior.mean, torch.ones(2))
    torch.testing.assert_close(prior.variance, torch.full((2,), 4.0))
    assert repr(prior) == "NetworkPrior(event_shape=(2,), parameters=0)"


def make(network=None, diffusion=None, **settings):
    return NetworkPrior(network or nn.Identity(), diffusion or VarianceExploding(), (2,), **settings)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"network": lambda x, a, b: x}, TypeError, r"torch\.nn\.Module"),
        ({"data_range": (1.0, 0.0)}, ValueError, "low < high"),
        ({"noise_range": (0.0, 1.0)}, ValueError, "0 < low < high < inf"),
        ({"diffusion": RectifiedFlow()}, ValueError, "give the noise-to-signal ratios"),
        ({"sample_steps": 1}, ValueError, "sample_steps >= 2"),
        ({"churn": -1.0}, ValueError, "churn >= 0"),
        ({"density_steps": 1}, ValueError, "density_steps >= 2"),
        ({"density_probes": 1}, ValueError, "density_probes >= 2 or None"),
        ({"prediction": "epsilon"}, ValueError, "'denoised', 'noise', 'score', 'velocity'"),
        ({"time": lambda t: t}, ValueError, "only with prediction="),
    ],
)
def test_impossible_priors_are_refused(settings, error, words):
    with pytest.raises(error, match=words):
        make(**settings)


def test_networks_that_return_something_else_are_refused():
    class Doubles(nn.Module):
        def forward(self, x_t, a, b):
            return torch.cat([x_t, x_t], dim=1)

    with pytest.raises(ValueError, match=r"returned \(3, 4\) for x_t of shape \(3, 2\)"):
        make(Doubles()).denoise(torch.zeros(3, 2), 0.5)

    class Wraps(nn.Module):
        def forward(self, x_t, a, b):
            return {"sample": x_t}

    with pytest.raises(ValueError, match="returned dict"):
        make(Wraps()).denoise(torch.zeros(3, 2), 0.5)

import math

import pyro
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from bayes_ir.models.diffusion import DDPM, RectifiedFlow, VarianceExploding, VariancePreserving
from bayes_ir.models.priors import GaussianMixturePrior, GaussianPrior, gaussian_mixture

PROCESSES = [VarianceExploding(0.01, 50.0), VariancePreserving(), DDPM(), RectifiedFlow()]
PARTS = [0.02, 0.2, 0.5, 0.9]  # of the way from t_min to t_max


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def mixture(event_shape=None, dtype=torch.float64):
    rng = torch.Generator().manual_seed(7)
    root = torch.randn(3, 6, 6, generator=rng, dtype=torch.float64)
    means = 2 * torch.randn(3, 6, generator=rng, dtype=torch.float64)
    covariances = root @ root.mT / 6 + 0.05 * torch.eye(6)
    return GaussianMixturePrior(
        torch.tensor([0.2, 0.3, 0.5]), means.to(dtype), covariances.to(dtype), event_shape=event_shape
    )


def covariances_of(prior):
    c = prior.components
    return (c.basis * c.variances[:, None]) @ c.basis.mT


def times(process):
    return [process.t_min + part * (process.t_max - process.t_min) for part in PARTS]


def points(n=4):
    return 2 * torch.randn(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
class TestAtEveryNoiseLevel:
    def test_score_is_the_gradient_of_the_log_density(self, process):
        prior = mixture().with_diffusion(process)
        for t in times(process):
            x_t = points().requires_grad_()
            (gradient,) = torch.autograd.grad(prior.noised_log_prob(x_t, t).sum(), x_t)
            torch.testing.assert_close(prior.score(x_t, t), gradient, rtol=1e-8, atol=1e-8)

    def test_log_density_agrees_with_torch(self, process):
        prior = mixture().with_diffusion(process)
        for t in times(process):
            a, b = process.coefficients(t)
            noised = a**2 * covariances_of(prior) + b**2 * torch.eye(6)
            reference = MixtureSameFamily(
                Categorical(prior.weights), MultivariateNormal(a * prior.components.means, noised)
            )
            torch.testing.assert_close(prior.noised_log_prob(points(), t), reference.log_prob(points()))

    def test_denoised_mean_is_the_mean_of_the_denoising_posterior(self, process):
        prior = mixture().with_diffusion(process)
        for t in times(process):
            posterior = prior.denoising_posterior(points(), t)
            torch.testing.assert_close(posterior.mean, prior.denoise(points(), t), rtol=1e-10, atol=1e-10)

    def test_jacobian_gives_the_covariance_of_the_denoising_posterior(self, process):
        """Tweedie's second identity, Cov[x_0 | x_t] = (b^2 / a) d x0_hat / d x_t."""
        prior = mixture().with_diffusion(process)
        for t in times(process):
            a, b = process.coefficients(t)
            x_t = points(1)[0]
            jacobian = torch.autograd.functional.jacobian(lambda x, t=t: prior.denoise(x, t), x_t)
            covariance = prior.denoising_posterior(x_t, t).covariance_matrix
            torch.testing.assert_close(b**2 / a * jacobian, covariance, rtol=1e-7, atol=1e-9)

    def test_denoising_posterior_is_bayes_rule(self, process):
        """log p(x_0 | x_t) = log p(x_0) + log N(x_t; a x_0, b^2 I) - log p(x_t), at any x_0."""
        prior = mixture().with_diffusion(process)
        for t in times(process):
            a, b = process.coefficients(t)
            x_t, x_0 = points(4), points(8)[4:]
            likelihood = torch.distributions.Normal(a * x_0, b).log_prob(x_t).sum(-1)
            expected = prior.log_prob(x_0) + likelihood - prior.noised_log_prob(x_t, t)
            torch.testing.assert_close(
                prior.denoising_posterior(x_t, t).log_prob(x_0), expected, rtol=1e-7, atol=1e-6
            )


def test_time_may_differ_along_the_batch():
    prior = mixture(event_shape=(2, 3))
    x_t, t = points().reshape(2, 2, 2, 3), torch.tensor([[0.1, 0.3], [0.6, 0.9]])
    together = prior.denoise(x_t, t)
    for i in range(2):
        for j in range(2):
            torch.testing.assert_close(together[i, j], prior.denoise(x_t[i, j], float(t[i, j])))
            torch.testing.assert_close(prior.score(x_t, t)[i, j], prior.score(x_t[i, j], float(t[i, j])))


def test_a_large_batch_is_denoised_in_parts(monkeypatch):
    prior = mixture()
    x, t = torch.randn(7, 6, dtype=torch.float64, requires_grad=True), torch.linspace(0.1, 2, 7)
    whole = prior.denoise(x, t)
    (gradient,) = torch.autograd.grad(whole.square().sum(), x)
    monkeypatch.setattr(gaussian_mixture, "_NUMBERS", 2 * prior.components.means.numel())
    parts = prior.denoise(x, t)
    torch.testing.assert_close(parts, whole, rtol=1e-14, atol=0)
    torch.testing.assert_close(torch.autograd.grad(parts.square().sum(), x)[0], gradient, rtol=1e-13, atol=0)
    assert prior.denoise(x[:0], t[:0]).shape == (0, 6)


def test_pure_noise_of_a_flow_is_denoised_to_the_mean():
    prior = mixture().with_diffusion(RectifiedFlow())
    torch.testing.assert_close(prior.denoise(points(), 1.0), prior.mean.expand(4, 6))


def test_hundreds_of_dimensions_stay_finite_and_right():
    """Two components 40 standard deviations apart: densities underflow, their logarithms must not."""
    n = 800
    means = torch.stack([torch.full((n,), -math.sqrt(2.0)), torch.full((n,), math.sqrt(2.0))])
    root = torch.randn(n, 20, dtype=torch.float64) / 5
    covariance = 0.01 * torch.eye(n, dtype=torch.float64) + root @ root.T
    prior = GaussianMixturePrior([0.999, 0.001], means, torch.stack([covariance, covariance]))
    t = prior.diffusion.time_at(0.5)
    x_t = means[1].double() + 0.5 * torch.randn(n, dtype=torch.float64)
    gain = torch.linalg.solve(covariance + 0.25 * torch.eye(n), x_t - means[1])
    torch.testing.assert_close(prior.denoise(x_t, t), means[1] + covariance @ gain, rtol=1e-8, atol=1e-8)
    reference = MultivariateNormal(means[1].double(), covariance + 0.25 * torch.eye(n)).log_prob(x_t)
    assert float(prior.noised_log_prob(x_t, t)) == pytest.approx(
        float(reference) + math.log(0.001), rel=1e-10
    )
    far = prior.noised_log_prob(1000 * x_t, t)
    assert far.isfinite()
    assert far < -1e6


def test_moments_of_draws():
    prior = mixture()
    n = 40_000
    x = prior.sample((n,))
    # Standard errors of a mean and of a second moment; 5 of them fail by chance once in 1e5 for 27 numbers.
    assert ((x.mean(0) - prior.mean).abs() < 5 * (prior.variance / n).sqrt()).all()
    centred = x - prior.mean
    products = centred[:, :, None] * centred[:, None, :]
    exact = prior.components.covariance_matrix
    assert ((products.mean(0) - exact).abs() < 5 * products.std(0) / math.sqrt(n)).all()
    torch.testing.assert_close(exact.diagonal(), prior.variance)


def test_draws_follow_the_mixture():
    """Shares of the components and the mean of log p, against draws made by torch."""
    prior = mixture()
    n = 20_000
    x = prior.sample((n,))
    label = (x[:, None] - prior.components.means).square().sum(-1).argmin(1)
    reference = MixtureSameFamily(
        Categorical(prior.weights), MultivariateNormal(prior.components.means, covariances_of(prior))
    ).sample((n,))
    label_reference = (reference[:, None] - prior.components.means).square().sum(-1).argmin(1)
    share, share_reference = (torch.bincount(v, minlength=3) / n for v in (label, label_reference))
    # Difference of two shares: standard error at most (2 * 0.25 / n)^(1/2) = 0.005.
    assert ((share - share_reference).abs() < 5 * 0.005).all()
    entropy, entropy_reference = prior.log_prob(x), prior.log_prob(reference)
    error = (entropy.var() / n + entropy_reference.var() / n).sqrt()
    assert (entropy.mean() - entropy_reference.mean()).abs() < 5 * error


def test_draws_of_the_denoising_posterior_follow_its_moments():
    prior = mixture().with_diffusion(VarianceExploding(0.01, 50.0))
    posterior = prior.denoising_posterior(points(2), prior.diffusion.time_at(1.5))
    n = 40_000
    x = posterior.sample((n,))
    assert x.shape == (n, 2, 6)
    assert ((x.mean(0) - posterior.mean).abs() < 5 * (posterior.variance / n).sqrt()).all()
    square = (x - posterior.mean).square()
    assert ((square.mean(0) - posterior.variance).abs() < 5 * square.std(0) / math.sqrt(n)).all()


def test_transport_is_the_inverse_distribution_function():
    prior = GaussianMixturePrior([0.25, 0.75], [[0.0], [10.0]], [[[4.0]], [[1.0]]])
    uniform = torch.tensor([0.1, 0.24, 0.26, 0.999], dtype=torch.float64)
    normal = torch.tensor([[1.0], [-1.0], [2.0], [0.0]], dtype=torch.float64)
    size = (
        prior.components.transport(uniform, normal).squeeze(-1) - torch.tensor([0.0, 0.0, 10.0, 10.0])
    ).abs()
    torch.testing.assert_close(size, torch.tensor([2.0, 2.0, 2.0, 0.0]))


def test_pyro_samples_expands_and_plates():
    prior = mixture(event_shape=(2, 3), dtype=torch.float32)

    def model():
        x = pyro.sample("x", prior)
        with pyro.plate("images", 4):
            return x, pyro.sample("z", prior)

    trace = pyro.poutine.trace(model).get_trace()
    x, z = trace.nodes["_RETURN"]["value"]
    assert x.shape == (2, 3)
    assert z.shape == (4, 2, 3)
    assert x.dtype == torch.float32
    trace.compute_log_prob()
    assert trace.nodes["z"]["log_prob"].shape == (4,)
    copies = prior.expand([5])
    assert copies.batch_shape == (5,)
    assert copies.sample((2,)).shape == (2, 5, 2, 3)
    assert copies.mean.shape == copies.variance.shape == (5, 2, 3)
    assert copies.log_prob(copies.sample()).shape == (5,)
    assert prior.batch_shape == ()


def test_types_and_moves():
    prior = mixture(dtype=torch.float32)
    assert prior.dtype == prior.sample().dtype == torch.float32
    double = prior.to(dtype=torch.float64)
    assert double.dtype == double.sample().dtype == double.mean.dtype == torch.float64
    assert prior.dtype == torch.float32
    assert prior.to("cpu").dtype == torch.float32
    assert prior.denoise(points().float(), 0.5).dtype == torch.float32
    assert double.denoise(points().float(), 0.5).dtype == torch.float32
    assert prior.components.means.dtype == torch.float64


def test_gaussian_prior_is_wiener_filtering():
    prior = GaussianPrior([1.0, -1.0], [[2.0, 0.5], [0.5, 1.0]])
    x_t = torch.tensor([3.0, 0.0])
    covariance, mean = torch.tensor([[2.0, 0.5], [0.5, 1.0]]), torch.tensor([1.0, -1.0])
    expected = mean + covariance @ torch.linalg.solve(covariance + 0.49 * torch.eye(2), x_t - mean)
    torch.testing.assert_close(prior.denoise(x_t, prior.diffusion.time_at(0.7)), expected)
    assert repr(prior) == "GaussianPrior(event_shape=(2,))"


def test_noise_range_covers_the_mixture():
    low, high = mixture().noise_range
    total = mixture().components.covariance_matrix
    assert low == pytest.approx(0.01 * math.sqrt(float(total.trace()) / 6))
    assert high == pytest.approx(10 * math.sqrt(float(torch.linalg.eigvalsh(total)[-1])))


def test_a_flat_direction_has_no_density_but_a_denoiser():
    prior = GaussianPrior([0.0, 0.0], [[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match=r"GaussianPrior\.log_prob: a covariance is singular"):
        prior.log_prob(torch.zeros(2))
    torch.testing.assert_close(
        prior.denoise(torch.ones(2), prior.diffusion.time_at(1.0)), torch.tensor([0.5, 0.0])
    )


EYE = [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0.5, 0.5], [[0.0, 0.0]], [EYE]), "one row per weight"),
        (([1.0], [[0.0, 0.0]], [[[1.0]]]), r"expected covariances \(1, 2, 2\)"),
        (([0.5, -0.5], [[0.0, 0.0]] * 2, [EYE] * 2), "weights must be positive"),
        (([0.5, math.nan], [[0.0, 0.0]] * 2, [EYE] * 2), "weights must be positive"),
        (([1.0], [[0.0, math.inf]], [EYE]), "means finite"),
        (([1.0], [[0.0, 0.0]], [[[1.0, math.nan], [0.0, 1.0]]]), "not finite"),
        (([1.0], [[0.0, 0.0]], [[[1.0, 0.3], [0.0, 1.0]]]), "not symmetric"),
        (([1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "not positive semi-definite"),
        (([1.0], [[0.0, 0.0]], [[[0.0, 0.0], [0.0, 0.0]]]), "a point is no prior"),
    ],
)
def test_impossible_mixtures_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        GaussianMixturePrior(*arguments)


def test_wrong_event_shapes_are_refused():
    with pytest.raises(ValueError, match="event_shape of 2 values"):
        GaussianPrior([0.0, 0.0], EYE, event_shape=(3,))
    with pytest.raises(ValueError, match=r"expected trailing dimensions \(2,\)"):
        GaussianPrior([0.0, 0.0], EYE).denoise(torch.zeros(3), 0.5)

"""Exact posteriors of one-bit and quantized data: against grids, rejection and Gibbs chains; what Exact refuses."""

import math

import numpy as np
import pyro
import pytest
import torch
from scipy.stats import chisquare, ks_2samp, norm

from bayes_ir.inference import Exact, ModelError, exact_posterior, read_problem
from bayes_ir.inference.exact import box_posterior, minimax_tilting
from bayes_ir.inference.run import draw_block, draw_blocks
from bayes_ir.models import DenseOperator, GaussianMixturePrior, GaussianPrior, OneBit, Quantized

F64 = torch.float64
MIXTURE = GaussianMixturePrior(
    torch.tensor([0.5, 0.3, 0.2], dtype=F64),
    torch.tensor([[-1.5, -0.5], [0.5, 1.0], [1.5, -1.0]], dtype=F64),
    torch.tensor([[[0.5, 0.3], [0.3, 0.4]], [[0.3, 0.0], [0.0, 0.8]], [[0.2, -0.1], [-0.1, 0.2]]], dtype=F64),
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def gaussian(n, seed=0):
    root = normal(n, n, seed=seed)
    return GaussianPrior(0.3 * normal(n, seed=seed + 1), root @ root.T / n + 0.1 * torch.eye(n, dtype=F64))


def problem(prior, channel, y, matrix):
    operator = DenseOperator(matrix, dtype=F64)

    def model():
        pyro.sample("y", channel(operator(pyro.sample("x", prior))))

    return read_problem(model, {"y": torch.as_tensor(y, dtype=F64)})


def measured(channel, matrix, x):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return channel(matrix @ x).sample()


def draw(p, count, seed=1):
    return draw_block(p, Exact(), 0, 0, 0, count, seed=seed)


def one_bit(z):
    """Known dither and a different noise for every measurement."""
    m = z.shape[-1]
    return OneBit(z, torch.linspace(0.2, 0.8, m, dtype=F64), torch.linspace(-0.4, 0.6, m, dtype=F64))


def quantized(z):
    return Quantized(z, torch.linspace(0.2, 0.8, z.shape[-1], dtype=F64), bits=3, step=0.7)


CHANNELS = {
    "one-bit": (one_bit, [1.0, -1.0, -1.0]),
    "quantized": (quantized, [0.35, 1.05, -2.45]),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_a_mixture_in_two_dimensions_against_a_grid(name):
    """Evidence, moments and counts in squares of side 0.2; six measurements."""
    channel, matrix = CHANNELS[name][0], normal(6, 2, seed=7)
    p = problem(MIXTURE, channel, measured(channel, matrix, torch.tensor([0.2, 0.1], dtype=F64)), matrix)
    axis = torch.linspace(-5.98, 5.98, 300, dtype=F64)  # midpoints of cells of side 0.04
    grid = torch.cartesian_prod(axis, axis)
    log_density = MIXTURE.log_prob(grid) + p.log_likelihood(grid).sum(-1)
    log_evidence = float(log_density.logsumexp(0)) + 2 * math.log(0.04)
    weight = log_density.softmax(0).numpy()

    log_weights = box_posterior(p).log_weights(20_000, np.random.default_rng(0))
    error = float(log_weights.standard_error.max())
    assert float(log_weights.value.logsumexp(0)) == pytest.approx(log_evidence, abs=4 * error + 1e-6)
    assert error < 0.01

    draws = 8000
    block = draw(p, draws)
    x, points = block.draws.numpy(), grid.numpy()
    for power in (lambda v: v, lambda v: v**2, lambda v: v.prod(1, keepdims=True)):
        spread = power(x).std(0) / math.sqrt(draws)
        assert (np.abs(power(x).mean(0) - weight @ power(points)) < 4 * spread).all()
    expected = draws * weight.reshape(60, 5, 60, 5).sum((1, 3))
    counts, *_ = np.histogram2d(*x.T, bins=60, range=[[-6, 6], [-6, 6]])
    often = expected > 5
    observed, expected = (np.append(n[often], draws - n[often].sum()) for n in (counts, expected))
    assert len(expected) > 15 and chisquare(observed, expected).pvalue > 1e-3
    assert 0.1 < float(block.stats["acceptance_rate"][0]) <= 1.0
    assert block.stats["nfe"].tolist() == [0] * draws


@pytest.mark.parametrize(("name", "y"), [("one-bit", -1.0), ("quantized", 1.75)])
def test_one_measurement_against_rejection(name, y):
    prior, matrix = gaussian(4), normal(1, 4, seed=5)
    p = problem(prior, CHANNELS[name][0], [y], matrix)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = prior.components.sample(torch.Size([200_000]))
        kept = x[(p.channel_at(x).sample() - y).abs()[:, 0] < 1e-6]
    assert len(kept) > 3000
    drawn = draw(p, 5000).draws
    for direction in (*torch.eye(4, dtype=F64), matrix[0]):
        assert ks_2samp((drawn @ direction).numpy(), (kept @ direction).numpy()).pvalue > 1e-3


@pytest.mark.parametrize(("channel", "noise"), [("one-bit", 0.05), ("quantized", 0.02)])
def test_many_measurements_against_the_score(channel, noise):
    """E s = 0 and E x s^T = -I for the score s of the posterior; N = 10, M = 30, where few proposals are kept."""
    matrix, prior = normal(30, 10, seed=3) / math.sqrt(30), gaussian(10)

    def law(z):
        return OneBit(z, noise) if channel == "one-bit" else Quantized(z, noise, bits=2, step=0.4)

    y = measured(law, matrix, prior.components.means[0] + 0.3)
    block = draw(problem(prior, law, y, matrix), 4000)
    x = block.draws.requires_grad_()
    log_density = prior.log_prob(x) + law(x @ matrix.T).log_prob(y).sum(-1)
    (score,) = torch.autograd.grad(log_density.sum(), x)
    x = x.detach()
    zero = torch.cat([score, (x[:, :, None] * score[:, None, :] + torch.eye(10)).flatten(1)], 1)
    assert (zero.mean(0) / zero.std(0)).abs().max() < 4 / math.sqrt(4000)
    assert float(block.stats["acceptance_rate"][0]) < 0.3


def test_one_latent_cell_in_closed_form():
    """x scalar, A = 1: the evidence is Phi and the mean that of a tilted normal."""
    p = problem(
        GaussianPrior(torch.tensor([0.5], dtype=F64), torch.tensor([[2.0]], dtype=F64)),
        lambda z: OneBit(z, 1.0, 0.2),
        [1.0],
        torch.ones(1, 1),
    )
    value, error = box_posterior(p).log_weights(10, np.random.default_rng(0))
    u = (0.5 - 0.2) / math.sqrt(3.0)
    assert value.tolist() == pytest.approx([norm.logcdf(u)]) and error.tolist() == pytest.approx(
        [0.0], abs=1e-9
    )
    x = draw(p, 20_000).draws
    exact = 0.5 + 2.0 / math.sqrt(3.0) * norm.pdf(u) / norm.cdf(u)
    assert float(x.mean()) == pytest.approx(exact, abs=4 * float(x.std()) / math.sqrt(20_000))


def test_components_far_from_the_data_are_left_out():
    prior = GaussianMixturePrior([0.5, 0.5], torch.tensor([[1.0], [-30.0]], dtype=F64), torch.ones(2, 1, 1))
    p = problem(prior, lambda z: OneBit(z, 0.1), [1.0], torch.ones(1, 1))
    posterior = box_posterior(p)
    assert posterior.components == [0]
    assert posterior.log_weights(10, np.random.default_rng(0)).value[1] == -torch.inf
    assert (draw(p, 100).draws > -1).all()


@pytest.mark.parametrize("name", CHANNELS)
def test_draws_are_a_function_of_the_block(name):
    channel, y = CHANNELS[name]
    p = problem(gaussian(6), channel, y, normal(3, 6, seed=2))
    blocks = {b.index: b.draws for b in draw_blocks(p, Exact(), draws=9, chains=1, seed=3, block_size=4)}
    assert [len(blocks[i]) for i in range(3)] == [4, 4, 1]
    np.random.seed(1)
    torch.rand(3)  # the global generators play no part
    assert torch.equal(draw_block(p, Exact(), 0, 1, 4, 4, seed=3).draws, blocks[1])
    assert len(torch.cat(list(blocks.values())).unique(dim=0)) == 9
    single = p.to(dtype=torch.float32)
    assert draw(single, 5).draws.dtype == torch.float32 and draw(single, 5).draws.shape == (5, 6)


def test_blocks_are_independent():
    """With hardly any noise x is the latent value itself: no two blocks may share it."""
    prior = GaussianPrior(torch.zeros(1, dtype=F64), torch.eye(1, dtype=F64))
    p = problem(prior, lambda z: OneBit(z, 1e-3), [1.0], torch.ones(1, 1))
    one, two = (b.draws[:, 0] for b in draw_blocks(p, Exact(), draws=400, chains=1, seed=0, block_size=200))
    assert abs(float(torch.corrcoef(torch.stack([one, two]))[0, 1])) < 4 / math.sqrt(200)


def test_refusals(monkeypatch):
    prior = gaussian(4)
    many = problem(prior, lambda z: OneBit(z, 0.1), torch.ones(101), normal(101, 4))
    with pytest.raises(
        ModelError, match=r"takes at most 100 measurements, and site 'y' has 101. Use QCSSGMPlus"
    ):
        Exact().check(many)
    few = problem(prior, lambda z: OneBit(z, 0.1), torch.ones(6), normal(6, 4))
    Exact().check(few)
    with pytest.raises(ModelError, match=r"Gaussian channel"):
        exact_posterior(few)
    monkeypatch.setattr(minimax_tilting, "_HOPELESS", 1.0)
    monkeypatch.setattr(minimax_tilting, "_TRIAL", 1)
    box_posterior.cache_clear()
    with pytest.raises(
        ModelError, match=r"site 'y' is out of reach: minimax tilting keeps .* use QCSSGMPlus"
    ):
        Exact().check(few)

"""MCGDiff: a step written out, mode weights and evidence of mixtures in closed form, and what clouds share."""

import math

import numpy as np
import pyro
import pytest
import torch

from bayes_ir import inference
from bayes_ir.inference import GuidedDiffusion, MCGDiff, ModelError, exact_posterior, read_problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.models import DenseOperator, Gaussian, GaussianMixturePrior, GaussianPrior, OneBit, Operator

F64 = torch.float64
N = 8


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def problem(prior, matrix, y, noise, channel=Gaussian):
    operator = DenseOperator(matrix, dtype=F64)

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior)), noise))

    return read_problem(model, {"y": torch.as_tensor(y, dtype=F64)})


def gaussian():
    i = torch.arange(N)
    return GaussianPrior(normal(N, seed=1), 0.8 ** (i[:, None] - i).abs().double())


def separate():
    """Three modes 11 standard deviations apart, with 0.77, 0.22 and 0.01 of the posterior of two measurements."""
    means = torch.tensor([[2.0, -2.0], [-2.0, 2.0], [2.0, 2.0]], dtype=F64).repeat(1, 4)
    prior = GaussianMixturePrior([0.5, 0.3, 0.2], means, (0.25 * torch.eye(N, dtype=F64)).expand(3, N, N))
    rows = torch.cat([torch.ones(1, N, dtype=F64), normal(1, N, seed=3)]) / math.sqrt(N)
    return problem(prior, rows, [1.8, 0.3], 1.0)


def overlapping():
    roots = normal(3, N, N, seed=6)
    covariances = 0.5 * roots @ roots.mT / N + 0.2 * torch.eye(N, dtype=F64)
    prior = GaussianMixturePrior([0.5, 0.3, 0.2], 0.5 * normal(3, N, seed=5), covariances)
    return problem(prior, normal(2, N, seed=2) / math.sqrt(2), [0.5, -0.4], 0.3)


def mode_weights(p, x):
    """Mean probabilities of the modes given draws of the posterior, and the exact weights."""
    law, _ = exact_posterior(p)
    z = (x[:, None] - law.means)[..., None, :] @ law.basis
    log_normal = -0.5 * (z[..., 0, :].square() / law.variances + law.variances.log()).sum(-1)
    return (log_normal + law.log_weights).softmax(-1).mean(0), law.log_weights.softmax(-1)


def evidences(block):
    """``log Z_hat`` of every cloud."""
    cloud, value = block.stats["cloud"], block.stats["log_evidence"]
    return torch.stack([value[cloud == c][0] for c in range(int(cloud.max()) + 1)])


@pytest.mark.parametrize("k", [0, 8, 14])
@pytest.mark.parametrize("kappa", [None, 1e-2])
def test_a_step_is_the_published_one(k, kappa):
    """Noise 0.05 to 2 in four directions, in the variables of the paper: alpha bar, tau, eta and kappa."""
    u, _, vt = (m.numpy() for m in torch.linalg.svd(normal(4, N, seed=2)))
    s, noise, y = np.array([4.0, 1.0, 0.3, 0.1]), 0.2, normal(4, seed=3).numpy()
    p = problem(gaussian(), torch.from_numpy(u @ np.diag(s) @ vt[:4]), y, noise)
    kernel = MCGDiff(
        particles=5, steps=20, eta=0.7, spread="published", ess_threshold=0.0, kappa=kappa, grid="ddim"
    )
    state = kernel.init(p, Rng(0, draws=8, dtype=F64))
    for _ in range(k):
        state = state.moved(state.x, memory=state.memory)
    now, before = state.levels[0], state.memory.clouds.log_w
    found, _ = kernel.step(p, state, Rng(7, draws=8, dtype=F64))

    bar = np.array([float(level.a**2) for level in state.schedule])
    v = np.array([float(level.ratio) for level in state.schedule])
    tau = [np.argmax(v <= noise / s_i) for s_i in s]
    if kappa:
        tau = [np.abs(noise**2 * bar - (1 - bar) * s_i**2).argmin() for s_i in s]
    x0_hat = p.prior.with_diffusion(kernel.process(p.prior)).denoise(state.x, now.t).numpy()
    a, a_next = bar[k], bar[k + 1]
    c = 0.7 * math.sqrt((1 - a_next) / (1 - a) * (1 - a / a_next))
    eps_hat = (state.x.numpy() - math.sqrt(a) * x0_hat) / math.sqrt(1 - a)
    mean = math.sqrt(a_next) * x0_hat + math.sqrt(1 - a_next - c**2) * eps_hat
    rng = Rng(7, draws=8, dtype=F64)
    rng.spawn(2)
    z = rng.spawn(10).normal(N).numpy().reshape(2, 5, N)
    wanted, log_w = mean + c * z, before.numpy().copy()
    for i, s_i in enumerate(s):
        if tau[i] < k + 1:
            continue
        at_tau = bar[tau[i]]
        datum = math.sqrt(at_tau) * (u.T @ y)[i] / s_i
        inflated = kappa if kappa else at_tau * ((noise / s_i) ** 2 - v[tau[i]] ** 2)  # of the datum at tau

        def observed(b, at_tau=at_tau, inflated=inflated):
            return 1 - b / at_tau * (1 - inflated)

        def log_normal(x, m, variance):
            return -0.5 * ((x - m) ** 2 / variance + np.log(2 * np.pi * variance))

        m_i, s2, target = mean @ vt[i], observed(a_next), math.sqrt(a_next / at_tau) * datum
        # Densities of x_t, not of x_t / a: the constants differ.
        log_w += log_normal(target, m_i, c**2 + s2) + 0.5 * np.log(a_next)
        log_w -= log_normal(
            state.x.numpy() @ vt[i], math.sqrt(a / at_tau) * datum, observed(a)
        ) + 0.5 * np.log(a)
        precision = 1 / c**2 + 1 / s2
        drawn = (m_i / c**2 + target / s2) / precision + z @ vt[i] / math.sqrt(precision)
        wanted += (drawn - wanted @ vt[i])[..., None] * vt[i]
    np.testing.assert_allclose(found.x.numpy(), wanted, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.memory.clouds.log_w.numpy(), log_w, rtol=1e-8, atol=1e-8)


def test_a_gaussian_posterior():
    """16 clouds of 250; the spread over clouds gives the standard errors of the mean."""
    p = problem(gaussian(), normal(4, N, seed=2) / 2, normal(4, seed=3), 0.3)
    block, (law, log_evidence) = (
        draw_block(p, MCGDiff(particles=250), 0, 0, 0, 4000, seed=1),
        exact_posterior(p),
    )
    means = block.draws.reshape(16, 250, N).mean(1)
    assert ((means.mean(0) - law.mean).abs() < 4 * means.std(0) / 4 + 0.02 * law.variance.sqrt()).all()
    assert (block.draws.std(0) / law.variance.sqrt() - 1).abs().max() < 0.1
    z = (evidences(block) - log_evidence).exp()
    assert (z.mean() - 1).abs() < 4 * z.std() / 4
    assert torch.equal(block.stats["cloud"], torch.arange(16).repeat_interleave(250))
    assert (block.stats["nfe"] == 100).all()
    assert (block.stats["ess"] > 1).all() and (block.stats["ess"] < 250).all()


def test_weights_of_separate_modes():
    """8,000 draws of 16 clouds: what guidance misses by more than a tenth is found, and the evidence with it."""
    p = separate()
    block = draw_block(p, MCGDiff(particles=500, steps=50), 0, 0, 0, 8000, seed=1)
    found, wanted = mode_weights(p, block.draws)
    guided, _ = mode_weights(p, draw_block(p, GuidedDiffusion(), 0, 0, 0, 1000, seed=1).draws)
    assert (found - wanted).abs().sum() / 2 < 0.05 < 0.1 < (guided - wanted).abs().sum() / 2
    z = (evidences(block) - exact_posterior(p)[1]).exp()
    assert (z.mean() - 1).abs() < 4 * z.std() / 4


def test_more_particles_know_more():
    """Overlapping modes; spread of the evidence over 120 clouds, known to 10 per cent, with 25 and 400 particles."""
    p = overlapping()
    few, many = (draw_block(p, MCGDiff(particles=n), 0, 0, 0, 120 * n, seed=1) for n in (25, 400))
    assert evidences(many).std() < 0.75 * evidences(few).std()
    z = (evidences(many) - exact_posterior(p)[1]).exp()
    assert (z.mean() - 1).abs() < 4 * z.std() / math.sqrt(120)
    found, wanted = mode_weights(p, many.draws)
    assert (found - wanted).abs().sum() / 2 < 0.03
    assert 0.5 < many.stats["log_evidence_error"].mean() / evidences(many).std() < 2


def test_clouds_are_independent():
    p, kernel = overlapping(), MCGDiff(particles=6, steps=10)
    ends = []
    for push in (0.0, 1e3):
        rng = Rng(0, draws=15, dtype=F64)
        state = kernel.init(p, rng)
        state.x[0] += push
        while not state.done:
            state, info = kernel.step(p, state, rng)
        ends.append(state.x)
    assert info["cloud"].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert torch.equal(ends[0][5:], ends[1][5:]) and not torch.equal(ends[0][:5], ends[1][:5])
    few = draw_block(p, kernel, 0, 0, 0, 4, seed=1)
    assert few.stats["nfe"].tolist() == [20, 20, 10, 10]  # six particles, ten steps


def test_one_draw_of_exact_data_in_float32():
    p = problem(gaussian(), normal(4, N, seed=2) / 2, normal(4, seed=3), 1e-4).to(dtype=torch.float32)
    block = draw_block(p, MCGDiff(particles=100, steps=20), 0, 0, 0, 1, seed=1)
    assert block.draws.dtype == torch.float32 and block.draws.shape == (1, N)
    assert (p.operator(block.draws[0]) - p.y).abs().max() < 1e-3


def test_settings_and_refusals():
    kernel = MCGDiff(kappa=1e-2, eta=0.85, spread="published", ess_threshold=1.0, resampling="multinomial")
    assert eval(repr(kernel), vars(inference)) == kernel
    draws = draw_block(overlapping(), kernel, 0, 0, 0, 5, seed=1).draws
    assert draws.isfinite().all()
    for wrong in ({"particles": 1}, {"ess_threshold": 1.5}, {"eta": 0.0}):
        with pytest.raises(ValueError, match="expected particles >= 2, 0 <= ess_threshold <= 1 and 0 < eta"):
            MCGDiff(**wrong)
    for wrong in ({"resampling": "stratified"}, {"spread": "none"}, {"kappa": 0.0}):
        with pytest.raises(ValueError, match="expected resampling 'systematic' or 'multinomial', spread"):
            MCGDiff(**wrong)
    with pytest.raises(ModelError, match="needs a Gaussian channel; site 'y' has OneBit"):
        MCGDiff().check(problem(gaussian(), normal(4, N), torch.ones(4), 0.3, OneBit))

    class Absolute(Operator):
        def forward(self, x):
            return x.abs()

    absolute = Absolute((N,), (N,), dtype=F64)

    def model() -> None:
        pyro.sample("y", Gaussian(absolute(pyro.sample("x", gaussian())), 0.1))

    with pytest.raises(ModelError, match=r"needs a linear operator.*Use DPS"):
        MCGDiff().check(read_problem(model, {"y": torch.ones(N, dtype=F64)}))

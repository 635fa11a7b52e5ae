"""TwistedSMC: weights of moves against densities, exactness in the limit, evidence, mode weights, refusals."""

import math
from dataclasses import replace

import pyro
import pytest
import torch

from bayes_ir.inference import (
    DDIM,
    Ancestral,
    Calibrated,
    Exact,
    Flat,
    GuidedDiffusion,
    Isotropic,
    Langevin,
    ModelError,
    Point,
    Tweedie,
    TwistedSMC,
    exact_posterior,
    read_problem,
)
from bayes_ir.inference.exact import box_posterior
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.inference.twisting import twist
from bayes_ir.models import (
    DenseOperator,
    Gaussian,
    GaussianMixturePrior,
    GaussianPrior,
    OneBit,
    Operator,
    VarianceExploding,
)

F64 = torch.float64
N, M, NOISE = 5, 3, 0.3


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def gaussian_prior() -> GaussianPrior:
    root = normal(N, N, seed=1)
    return GaussianPrior(normal(N, seed=2), root @ root.T / N + 0.2 * torch.eye(N, dtype=F64))


def separate_prior() -> GaussianMixturePrior:
    means = torch.stack([torch.full((N,), -2.0, dtype=F64), torch.full((N,), 2.0, dtype=F64)])
    return GaussianMixturePrior(
        torch.tensor([0.3, 0.7], dtype=F64), means, 0.2 * torch.eye(N, dtype=F64).expand(2, N, N)
    )


def problem(prior=None, channel=lambda z: Gaussian(z, NOISE), y=None, m: int = M):
    prior = gaussian_prior() if prior is None else prior
    operator = DenseOperator(normal(m, N, seed=3) / math.sqrt(m))

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior))))

    return read_problem(model, {"y": normal(m, seed=4) if y is None else y})


def one_bit():
    return problem(channel=lambda z: OneBit(z, NOISE), y=torch.tensor([1.0, -1.0, 1.0], dtype=F64))


@pytest.mark.parametrize("with_jacobian", [False, True])
@pytest.mark.parametrize("channel", ["gaussian", "one-bit"])
def test_ratio_of_a_move_is_that_of_its_densities(channel, with_jacobian):
    """q is simulated: its mean and covariance over many moves from one state give log q; p is written down."""
    p, moves = problem() if channel == "gaussian" else one_bit(), 200_000
    prior = p.prior.with_diffusion(VarianceExploding(0.01, 20.0))
    sampler = Ancestral(steps=6, grid="karras")
    now, then = sampler.schedule(prior)[2:4]
    q = sampler.transition(now, then)
    x_t = (normal(N, seed=7) * 2).expand(moves, N)
    belief = Calibrated(with_jacobian=with_jacobian).at(prior, x_t[:1], now)
    found = twist(p.system, x_t[:1], belief).take(torch.zeros(moves, dtype=torch.int64))
    if with_jacobian:  # the exact prior's gains agree: part them
        found = found._replace(shift=found.shift + 0.1)
    moved = found.moved_from_draw(p.system, belief.covariance, q, Rng(0, draws=moves, dtype=F64))
    v = torch.stack([belief.covariance(e[None])[0] for e in torch.eye(N, dtype=F64)])
    mean = q.kept * x_t[0] + q.clean * belief.x0_hat[0]
    eye = torch.eye(N, dtype=F64)
    log_p = torch.distributions.MultivariateNormal(mean, q.clean**2 * v + q.noise**2 * eye).log_prob(moved.x)
    log_q = torch.distributions.MultivariateNormal(moved.x.mean(0), moved.x.T.cov()).log_prob(moved.x)
    # Estimating log q from n moves is off by O((N / n)^{1/2}) where |x - mean| is a few standard deviations.
    torch.testing.assert_close(moved.log_ratio, log_p - log_q, rtol=0, atol=0.12)
    assert float((moved.log_ratio - log_p + log_q).mean().abs()) < 3e-3


def test_ratio_of_a_move_from_the_mean():
    p, moves = one_bit(), 50
    prior = p.prior.with_diffusion(VarianceExploding(0.01, 20.0))
    sampler = Ancestral(steps=30, grid="karras")
    now, then = sampler.schedule(prior)[10:12]
    q, x_t = sampler.transition(now, then), normal(moves, N, seed=7) * 2
    found = twist(p.system, x_t, Tweedie().at(prior, x_t, now))
    moved = found.moved_from_mean(q, Rng(0, draws=moves, dtype=F64))

    def log_density(x0_hat):
        return torch.distributions.Normal(q.kept * x_t + q.clean * x0_hat, q.noise).log_prob(moved.x).sum(1)

    expected = log_density(found.x0_hat) - log_density(found.x0_hat + found.shift)
    torch.testing.assert_close(moved.log_ratio, expected, rtol=1e-8, atol=1e-8)


def test_weights_stay_equal_where_everything_is_gaussian():
    """p(x_0 | x_t, y) is exact then, and every weight one but for the start; the evidence is known."""
    p, draws = problem(), 4000
    law, log_evidence = exact_posterior(p)
    block = draw_block(p, TwistedSMC(steps=6, particles=draws, kept=1.0), 0, 0, 0, draws, seed=1)
    assert float(block.stats["particles_ess"].min()) > 0.9 * draws
    error = float(block.stats["log_evidence_error"][0])
    assert abs(float(block.stats["log_evidence"][0] - log_evidence)) < 4 * error + 0.01
    assert ((block.draws.mean(0) - law.mean) / law.variance.sqrt()).abs().max() < 4 / math.sqrt(draws) + 0.01
    assert (block.draws.std(0) / law.variance.sqrt() - 1).abs().max() < 3 / math.sqrt(draws) + 0.01


def test_evidence_of_one_bit_data():
    p = one_bit()
    import numpy as np

    exact = float(box_posterior(p).log_weights(20_000, np.random.default_rng(0)).value.logsumexp(0))
    block = draw_block(p, TwistedSMC(steps=16, particles=2000, kept=1.0), 0, 0, 0, 2000, seed=1)
    assert (
        abs(float(block.stats["log_evidence"][0]) - exact)
        < 4 * float(block.stats["log_evidence_error"][0]) + 0.01
    )


def weight_of_the_right_mode(draws: torch.Tensor) -> float:
    return float((draws.sum(1) > 0).double().mean())


def test_weights_of_separate_modes_where_a_guided_path_errs():
    p = problem(separate_prior(), y=torch.tensor([0.1], dtype=F64), m=1)
    exact = weight_of_the_right_mode(draw_block(p, Exact(), 0, 0, 0, 20_000, seed=3).draws)
    guided = draw_block(
        p, GuidedDiffusion(denoising_posterior=Calibrated(), steps=64), 0, 0, 0, 2000, seed=1
    ).draws
    ours = draw_block(p, TwistedSMC(steps=64, particles=2000, kept=1.0), 0, 0, 0, 2000, seed=1).draws
    assert 0.1 < exact < 0.9
    assert abs(weight_of_the_right_mode(ours) - exact) < 0.05
    assert abs(weight_of_the_right_mode(guided) - exact) > 0.1


def test_weighted_particles_stand_for_the_posterior():
    p, n = one_bit(), 4000
    kernel = TwistedSMC(steps=8, particles=n, kept=1.0, weighted=True, ess_threshold=0.0)
    block = draw_block(p, kernel, 0, 0, 0, n, seed=1)
    w = block.stats["log_weight"].softmax(0)
    exact = draw_block(p, Exact(), 0, 0, 0, 20_000, seed=3).draws
    error = (w[:, None] * block.draws).sum(0) - exact.mean(0)
    ess = float(1 / w.square().sum())
    assert ess > 0.3 * n
    assert (error / exact.std(0)).abs().max() < 4 * math.sqrt(1 / ess + 1 / 20_000) + 0.02
    with pytest.raises(ModelError, match="multiples of 4000"):
        draw_block(p, kernel, 0, 0, 0, 100, seed=1)


def test_clouds_share_the_draws_and_count_their_network_calls():
    block = draw_block(one_bit(), TwistedSMC(steps=8, particles=20), 0, 0, 0, 25, seed=1)
    assert block.stats["cloud"].bincount().tolist() == [9, 8, 8]
    assert (block.stats["nfe"] == round(8 * 60 / 25)).all()
    assert len(block.stats["log_evidence"].unique()) == 3


@pytest.mark.parametrize(
    "kernel",
    [
        TwistedSMC(steps=32, particles=1000, denoising_posterior=Isotropic(), kept=1.0),
        TwistedSMC(steps=64, particles=1000, denoising_posterior=Tweedie(), drawn=False, kept=1.0),
        TwistedSMC(steps=192, particles=2000, denoising_posterior=Flat(), drawn=False, kept=0.5),
        TwistedSMC(sampler=DDIM(steps=32, eta=0.8, grid="karras"), particles=1000, kept=1.0),
    ],
    ids=repr,
)
def test_any_twist_and_transition_leads_to_the_posterior(kernel):
    p = one_bit()
    exact = draw_block(p, Exact(), 0, 0, 0, 20_000, seed=3).draws
    found = draw_block(p, kernel, 0, 0, 0, 1000, seed=1).draws
    # Some 150 of 1,000 particles say something of their own (of 2,000 with the flat twist): 0.08 sd, times three.
    assert ((found.mean(0) - exact.mean(0)) / exact.std(0)).abs().max() < 0.25
    assert (found.std(0) / exact.std(0) - 1).abs().max() < 0.2


class Squares(Operator):
    """``x^2``, pixel by pixel."""

    def forward(self, x):
        return x**2


def test_refusals():
    with pytest.raises(ValueError, match="particles >= 2, 0 < kept"):
        TwistedSMC(particles=1)
    with pytest.raises(ValueError, match="Langevin is no transition"):
        TwistedSMC(sampler=Langevin())
    with pytest.raises(ValueError, match="set drawn=False"):
        TwistedSMC(denoising_posterior=Tweedie())
    with pytest.raises(ValueError, match="set drawn=False"):
        TwistedSMC(denoising_posterior=Point())
    with pytest.raises(ValueError, match="moves from means without noise"):
        TwistedSMC(sampler=DDIM(eta=0.0), drawn=False)
    with pytest.raises(ValueError, match="set kept=1"):
        TwistedSMC(weighted=True)
    p = problem()
    with pytest.raises(ModelError, match="needs a linear operator"):
        TwistedSMC().check(replace(p, operator=Squares((N,), (N,))))

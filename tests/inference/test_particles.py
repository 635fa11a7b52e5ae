"""Particles: counts of resampling, evidence of a two-state model in closed form, errors from genealogies."""

import math

import pytest
import torch

from bayes_ir.inference.particles import (
    Clouds,
    effective_sample_size,
    multinomial,
    normalised,
    resample_where_needed,
    share,
    systematic,
    take,
)
from bayes_ir.inference.rng import Rng

F64 = torch.float64
INF = torch.inf


def rows(clouds: int, seed: int = 0) -> Rng:
    return Rng(seed, draws=clouds, dtype=F64)


def counts(ancestors, particles):
    return torch.zeros(len(ancestors), particles, dtype=F64).scatter_add_(
        1, ancestors, torch.ones_like(ancestors, dtype=F64)
    )


def test_normalised_weights():
    w = torch.tensor([[1.0, 2.0, 5.0], [0.0, 3.0, 1.0]], dtype=F64)
    weights, log_mean = normalised(w.log() - 2000)  # where exp underflows
    torch.testing.assert_close(weights, w / w.sum(1, keepdim=True))
    torch.testing.assert_close(log_mean, w.mean(1).log() - 2000)
    torch.testing.assert_close(effective_sample_size(w.log()), w.sum(1) ** 2 / w.square().sum(1))


def test_particles_that_diverged_have_no_weight():
    weights, log_mean = normalised(torch.tensor([[0.0, torch.nan], [-INF, torch.nan]]))
    assert weights.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert log_mean.tolist() == pytest.approx([-math.log(2), -INF])


@pytest.mark.parametrize("scheme", ["systematic", "multinomial"])
def test_resampling_is_unbiased(scheme):
    """Counts over 20,000 clouds: standard errors from the variance of a binomial count, an upper bound."""
    clouds, count = 20_000, 7
    w = torch.tensor([0.31, 0.0, 0.02, 0.4, 0.27], dtype=F64).expand(clouds, -1)
    if scheme == "systematic":
        ancestors = systematic(3 * w, rows(clouds).uniform(), count)
    else:
        ancestors = multinomial(3 * w, rows(clouds).uniform(count))
    assert ancestors.shape == (clouds, count) and ancestors.dtype == torch.int64
    n = counts(ancestors, 5)
    bound = 4 * (count * w[0] * (1 - w[0]) / clouds).sqrt()
    assert ((n.mean(0) - count * w[0]).abs() <= bound).all()  # exact for the particle without weight
    if scheme == "systematic":
        assert (n - count * w).abs().max() < 1
    else:
        variance = count * w[0] * (1 - w[0])
        assert (n.var(0) - variance).abs().max() < 0.05 * variance.max()


def test_the_last_position_stays_inside():
    w = torch.tensor([[0.5, 0.5, 0.0]], dtype=F64)
    last = torch.tensor([1 - 2.0**-53], dtype=F64)
    assert systematic(w, last, 1000).max() == 1
    assert multinomial(w, last[:, None]).tolist() == [[1]]


def test_only_clouds_below_the_threshold_are_resampled():
    log_w = torch.tensor([[0.0, 0.0, 0.0, 0.5], [0.0, 0.0, 0.0, 9.0]], dtype=F64)
    ancestors, after, increment, resampled = resample_where_needed(log_w, 0.5, rows(2).uniform())
    assert resampled.tolist() == [False, True]
    assert ancestors[0].tolist() == [0, 1, 2, 3] and ancestors[1].tolist() == [3, 3, 3, 3]
    assert torch.equal(after[0], log_w[0]) and not after[1].any()
    torch.testing.assert_close(increment, torch.stack([torch.zeros((), dtype=F64), normalised(log_w)[1][1]]))
    assert resample_where_needed(log_w, 1.0, rows(2).uniform(4))[3].all()  # every step
    assert not resample_where_needed(log_w, 0.0, rows(2).uniform())[3].any()
    x = torch.arange(24).reshape(2, 4, 3)
    assert torch.equal(take(x, ancestors)[1], x[1, 3].expand(4, 3))


START, STAY = 0.3, 0.8  # P(state 1) at the start, P(no change)
POTENTIAL = torch.tensor(
    [[0.2, 0.9], [0.8, 0.3], [0.05, 0.6], [0.5, 0.1]], dtype=F64
)  # of states 0, 1 in time


def chain(clouds, particles, threshold, scheme="systematic", seed=0):
    """A hidden chain of two states and four observations: the clouds at the end and their states."""
    rng = rows(clouds, seed)
    found = Clouds.start(clouds, particles)
    state = (rng.uniform(particles) < START).long()
    for k, potential in enumerate(POTENTIAL):
        if k:
            found, ancestors = found.resampled(
                threshold, rng.uniform() if scheme == "systematic" else rng.uniform(particles)
            )
            state = take(state, ancestors)
            state = torch.where(rng.uniform(particles) < STAY, state, 1 - state)
        found = found.weighted(potential[state].log())
    return found, state


def evidence():
    law = torch.tensor([1 - START, START], dtype=F64)
    step = torch.tensor([[STAY, 1 - STAY], [1 - STAY, STAY]], dtype=F64)
    for k, potential in enumerate(POTENTIAL):
        law = (law @ step if k else law) * potential
    return law.sum(), law[1] / law.sum()


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scheme", ["systematic", "multinomial"])
def test_evidence_of_a_hidden_chain(threshold, scheme):
    """20,000 clouds of 16: the mean of Z_hat is Z and of Z_hat W(state 1) is Z p(state 1), to four standard errors."""
    clouds, particles = 20_000, 16
    found, state = chain(clouds, particles, threshold, scheme)
    exact, share_of_one = evidence()
    z = found.log_evidence.exp() / exact
    assert (z.mean() - 1).abs() < 4 * z.std() / math.sqrt(clouds)
    ones = z * (normalised(found.log_w)[0] * state).sum(1)
    assert (ones.mean() - share_of_one).abs() < 4 * ones.std() / math.sqrt(clouds)
    assert (found.least <= effective_sample_size(found.log_w) + 1e-12).all() and (
        found.least >= 1 - 1e-12
    ).all()


def test_errors_from_genealogies_are_the_spread_over_clouds():
    """2,000 clouds of 400: their spread is known to 1.6 per cent."""
    for threshold in (0.7, 1.0):
        found, _ = chain(2000, 400, threshold, "multinomial")
        spread, typical = found.log_evidence.std(), found.log_evidence_error.square().mean().sqrt()
        assert float(typical) == pytest.approx(float(spread), rel=0.07)
    steady, _ = chain(2000, 400, 1.0)
    safe, less = steady.log_evidence_error.square().mean().sqrt(), steady.log_evidence.std()
    assert less < spread and 1.05 < safe / less < 1.3


def test_one_family_says_that_the_error_is_unknown():
    found = Clouds.start(1, 50).weighted(torch.where(torch.arange(50) == 7, 0.0, -INF)[None])
    found, ancestors = found.resampled(0.5, rows(1).uniform())
    assert (ancestors == 7).all() and (found.eve == 7).all()
    assert float(found.log_evidence_error) == pytest.approx(1)
    assert float(found.log_evidence) == pytest.approx(-math.log(50))


def test_draws_are_shared_among_clouds():
    """10 draws of 4 clouds; over 5,000 repetitions every cloud gives its particles by their weights."""
    log_w = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=F64)
    total = torch.zeros(4, 6, dtype=F64)
    for u in rows(4).uniform(5000).T:
        cloud, particle = share(log_w, u, 10)
        total.view(-1).scatter_add_(0, 6 * cloud + particle, torch.ones(10, dtype=F64))
    assert cloud.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    wanted = normalised(log_w)[0] * torch.tensor([[3.0], [3.0], [2.0], [2.0]])
    torch.testing.assert_close(total / 5000, wanted, rtol=0, atol=4 * math.sqrt(0.25 / 5000))


def test_a_spawned_generator():
    one, two = (Rng(3, 1, 2, draws=4) for _ in range(2))
    child, again = one.spawn(10), two.spawn(10)
    numbers = child.normal(2)
    assert numbers.shape == (10, 2) and numbers.dtype == torch.float32
    assert torch.equal(again.normal(2), numbers)  # a function of the block
    assert torch.equal(one.normal(), two.normal())
    assert not torch.equal(one.spawn(10).normal(2), numbers)  # and of how far the block has come

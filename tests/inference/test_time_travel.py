"""Time travel: the published schedule, move by move, and the law of a rising move."""

from itertools import pairwise

import pytest
import torch

from bayes_ir.inference import DDIM
from bayes_ir.inference.kernels.time_travel import Move, renoised, time_travel
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Level
from bayes_ir.models import DDPM, GaussianPrior, VarianceExploding

F64 = torch.float64


def ladder(n: int) -> list[Level]:
    """n levels of noise n, n - 1, ..., 1 and the clean one, without a signal scale."""
    one = torch.ones((), dtype=F64)
    return [Level(one * k, one, one * k) for k in range(n, -1, -1)]


def heights(moves: list[Move]) -> list[int]:
    return [int(moves[0].now.b), *(int(move.then.b) for move in moves)]


def published(n: int, length: int, repeats: int) -> list[int]:
    """The loop of the RePaint paper's schedule, counted in levels that are left; the clean one is 0."""
    jumps = {j + 1: repeats - 1 for j in range(0, n - length, length)}
    t, visited = n, [n]
    while t >= 1:
        if jumps.get(t, 0) > 0:
            jumps[t] -= 1
            visited += range(t + 1, t + length + 1)
            t += length
        t -= 1
        visited.append(t)
    return visited


@pytest.mark.parametrize(
    ("n", "length", "repeats"), [(250, 10, 10), (20, 3, 2), (7, 1, 3), (5, 5, 4), (12, 4, 1)]
)
def test_the_published_schedule(n, length, repeats):
    moves = time_travel(ladder(n), length, repeats)
    assert heights(moves) == published(n, length, repeats)
    assert all(first.then is second.now for first, second in pairwise(moves))
    assert all(move.forward == bool(move.then.ratio > move.now.ratio) for move in moves)
    assert all(abs(one - other) == 1 for one, other in pairwise(heights(moves)))


def test_counts_of_repaint():
    moves = time_travel(ladder(250), 10, 10)
    assert sum(not move.forward for move in moves) == 2410  # network calls
    assert sum(move.forward for move in moves) == 2160


def test_written_out():
    assert heights(time_travel(ladder(5), 2, 2)) == [5, 4, 3, 4, 5, 4, 3, 2, 1, 2, 3, 2, 1, 0]
    assert heights(time_travel(ladder(4))) == [4, 3, 2, 1, 0]


def test_of_a_sampler():
    prior = GaussianPrior(torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64)).with_diffusion(DDPM())
    levels = DDIM(steps=20, grid="ddim").schedule(prior)
    moves = time_travel(levels, 4, 3)
    assert moves[0].now is levels[0] and moves[-1].then is levels[-1]
    assert sum(not m.forward for m in moves) == sum(m.forward for m in moves) + len(levels) - 1


@pytest.mark.parametrize("diffusion", [DDPM(), VarianceExploding(0.01, 10.0)], ids=repr)
def test_a_rising_move_keeps_the_marginals(diffusion):
    """From x_t of a point x_0, one move and two in a row both end at N(a_s x_0, b_s^2)."""
    times = torch.tensor([0.1, 0.4, 0.9], dtype=F64) * (1000 if isinstance(diffusion, DDPM) else 1)
    low, middle, high = (Level(t, *diffusion.coefficients(t)) for t in times)
    draws, point = 40_000, torch.tensor([3.0, -1.0], dtype=F64)
    rng = Rng(0, draws=draws, dtype=F64)
    x_t = low.a * point + low.b * rng.normal(2)
    for x_s in (renoised(x_t, low, high, rng), renoised(renoised(x_t, low, middle, rng), middle, high, rng)):
        assert ((x_s.mean(0) - high.a * point) / high.b).abs().max() < 4 / draws**0.5
        assert (x_s.std(0) / high.b - 1).abs().max() < 4 / (2 * draws) ** 0.5
        correlation = torch.corrcoef(torch.stack([x_t[:, 0], x_s[:, 0]]))[0, 1]
        assert abs(correlation - high.a / low.a * low.b / high.b) < 4 / draws**0.5  # it starts from x_t


def test_refusals():
    for wrong in ({"length": 0}, {"repeats": 0}):
        with pytest.raises(ValueError, match="expected length >= 1 and repeats >= 1"):
            time_travel(ladder(4), **wrong)
    repeated = [level for level in ladder(3) for _ in range(2)]
    assert len(time_travel(repeated)) == 7
    with pytest.raises(ValueError, match=r"falls strictly.*such as DDIM"):
        time_travel(repeated, 1, 2)

"""Like particles beside each other: a region keeps its weight at resampling, and families stay together within it."""

import math

import pytest
import torch

from bayes_ir.inference.ordering import like_beside_like
from bayes_ir.inference.particles import resample_where_needed

F64 = torch.float64


def two_modes(n: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Particles (1, n, d) of two modes in mixed order, and which mode each is of."""
    rng = torch.Generator().manual_seed(seed)
    mode = torch.rand(n, generator=rng) < 0.5
    x = torch.randn(n, d, generator=rng, dtype=F64)
    return (x + 8.0 * mode[:, None])[None], mode


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 7, 1), (3, 64, 20), (1, 1000, 1, 5, 5), (2, 33, 4)])
def test_an_order_is_a_permutation_of_every_cloud(shape):
    order = like_beside_like(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    assert order.shape == shape[:2]
    assert (order.sort(1).values == torch.arange(shape[1])).all()


@pytest.mark.parametrize("d", [2, 40])
def test_parts_are_of_one_mode_and_numbers_ascend_within_a_part(d):
    x, mode = two_modes(160, d)
    parts = like_beside_like(x)[0].reshape(16, 10)
    of_one_mode = mode[parts].all(1) | ~mode[parts].any(1)
    assert int(of_one_mode.sum()) >= 15  # by chance less than one
    assert (parts.diff(dim=1) > 0).all()


def test_clouds_do_not_see_each_other_and_nan_is_no_obstacle():
    x = torch.randn(3, 50, 12, dtype=F64, generator=torch.Generator().manual_seed(2))
    x[1, 7] = torch.nan
    together = like_beside_like(x)
    for c in range(3):
        torch.testing.assert_close(together[c : c + 1], like_beside_like(x[c : c + 1]))


def test_a_mode_keeps_its_weight_where_chance_would_move_it():
    """The number kept of a mode errs by less than two parts' worth in every resampling; in mixed order by a root."""
    x, mode = two_modes(800, 6)
    rng = torch.Generator().manual_seed(3)
    errors: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(200):
        log_w = torch.randn(1, 800, generator=rng, dtype=F64)
        exact = 800 * float(log_w.softmax(1)[0, mode].sum())
        for ordered, found in errors.items():
            u = torch.rand(1, generator=rng, dtype=F64)
            ancestors, *_ = resample_where_needed(log_w, 1.0, u, x if ordered else None)
            assert (ancestors.diff(dim=1) >= 0).all()
            found.append(float(mode[ancestors[0]].sum()) - exact)
    rms = {ordered: math.sqrt(sum(e * e for e in found) / 200) for ordered, found in errors.items()}
    assert rms[True] < 1.5
    assert rms[False] > 4 * rms[True]
    mean = sum(errors[True]) / 200  # unbiased
    assert abs(mean) < 4 * rms[True] / math.sqrt(200)

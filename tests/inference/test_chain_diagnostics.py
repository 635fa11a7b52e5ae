"""R-hat and effective sizes against ArviZ, and against what is known of autoregressive chains."""

import math

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats

from bayes_ir.inference.exact.chain_diagnostics import effective_size, split_rhat


def autoregressive(rho, chains, states, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    x = np.empty((chains, states))
    x[:, 0] = rng.standard_normal(chains)
    for t in range(1, states):
        x[:, t] = rho * x[:, t - 1] + math.sqrt(1 - rho**2) * rng.standard_normal(chains)
    return x + shift * np.arange(chains)[:, None]


@pytest.mark.parametrize(
    ("rho", "chains", "states", "shift"),
    [(0.0, 4, 500, 0.0), (0.9, 4, 1001, 0.0), (0.5, 64, 100, 0.0), (-0.6, 4, 400, 0.0), (0.8, 3, 300, 1.0)],
)
def test_both_against_arviz(rho, chains, states, shift):
    x = autoregressive(rho, chains, states, shift=shift)
    both = torch.from_numpy(np.stack([x, 3 - 2 * autoregressive(0.3, chains, states, seed=1)], -1))
    for number, one in enumerate(both.unbind(-1)):
        array = one.numpy()
        assert float(split_rhat(both)[number]) == pytest.approx(
            float(array_stats.rhat(array, chain_axis=0, draw_axis=1, method="split")), rel=1e-10
        )
        # ArviZ adds one term of the sum after the last pair.
        assert float(effective_size(both)[number]) == pytest.approx(
            float(array_stats.ess(array, chain_axis=0, draw_axis=1, method="mean")), rel=0.03
        )


def test_the_effective_size_of_an_autoregressive_chain():
    """It is (1 - rho) / (1 + rho) of the states."""
    x = torch.from_numpy(autoregressive(0.8, 20, 5000))[..., None]
    assert float(effective_size(x)) == pytest.approx(100_000 / 9, rel=0.1)
    assert float(split_rhat(x)) < 1.005


def test_chains_that_disagree_are_seen():
    apart = torch.from_numpy(autoregressive(0.2, 4, 500, shift=0.5))[..., None]
    assert float(split_rhat(apart)) > 1.1 and float(effective_size(apart)) < 50
    # A trend shared by all chains: seen because they are split.
    trend = torch.from_numpy(autoregressive(0.2, 4, 500) + np.linspace(0, 2, 500))[..., None]
    assert float(split_rhat(trend)) > 1.1

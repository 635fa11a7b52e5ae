import arviz_stats
import numpy as np
import pytest
from made_draws import tree_of

from bayes_ir.analysis.precision import draws_needed


def walk(seed, draws, chains=4, rho=0.6):
    """Stationary autoregressive chains of unit variance; ESS per draw of their mean (1 - rho) / (1 + rho)."""
    rng = np.random.default_rng(seed)
    x = np.empty((chains, draws))
    x[:, 0] = rng.normal(size=chains)
    for i in range(1, draws):
        x[:, i] = rho * x[:, i - 1] + np.sqrt(1 - rho**2) * rng.normal(size=chains)
    return x


def test_of_an_autoregressive_chain_the_number_is_known():
    found = draws_needed(tree_of(walk(0, 4000)[..., None], dims=("x_dim_0",)), lambda x: x[0], 0.01)
    exact = 4 / 0.01**2  # variance 1, four draws for an effective one
    assert found.draws == pytest.approx(exact, rel=0.2)
    assert found.ess_per_draw == pytest.approx(0.25, rel=0.2) and found.r_hat == pytest.approx(1, abs=0.01)
    assert found.draws_per_chain == -(-found.draws // 4)


def test_the_forecast_comes_true():
    small = draws_needed(tree_of(walk(1, 1000)[..., None], dims=("x_dim_0",)), np.mean, 0.02)
    again = walk(2, small.draws_per_chain)
    assert arviz_stats.mcse(again) == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize(
    ("of", "how"),
    [
        ("mean", {"method": "mean"}),
        ("sd", {"method": "sd"}),
        ("median", {"method": "median"}),
        (0.9, {"method": "quantile", "prob": 0.9}),
    ],
)
def test_the_error_that_is_scaled_is_arvizs(of, how):
    values = walk(3, 300)
    found = draws_needed(tree_of(values[..., None], dims=("x_dim_0",)), lambda x: x[0], 0.05, of=of)
    error = float(arviz_stats.mcse(values, **how))
    assert found.mcse == pytest.approx(error, rel=1e-12)
    assert found.draws == int(np.ceil(1200 * (error / 0.05) ** 2))
    assert found.ess_per_draw == pytest.approx(float(arviz_stats.ess(values, **how)) / 1200)


def test_within_a_plate_the_image_that_needs_most_is_served():
    values = np.stack([walk(4, 200), 3 * walk(5, 200), walk(6, 200)], axis=2)[..., None]
    found = draws_needed(tree_of(values, dims=("images", "x_dim_0")), lambda x: x[0], 0.05)
    alone = draws_needed(tree_of(values[:, :, 1], dims=("x_dim_0",)), lambda x: x[0], 0.05)
    assert (found.draws, found.mcse) == (alone.draws, alone.mcse)


def test_questions_without_an_answer_are_refused():
    tree = tree_of(walk(7, 50)[..., None], dims=("x_dim_0",))
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="mcse must be a positive number"):
            draws_needed(tree, np.mean, wrong)
    for wrong in ("mode", 1.0, 90):
        with pytest.raises(
            ValueError, match="of must be 'mean', 'sd', 'median' or the probability of a quantile"
        ):
            draws_needed(tree, np.mean, 0.1, of=wrong)
    with pytest.raises(ValueError, match=r"4 chains of 50 draws do not tell .*: it never varies"):
        draws_needed(tree, lambda x: 0.1, 0.1)
    with pytest.raises(ValueError, match=r"1 chains of 1 draws do not tell .*four draws per chain"):
        draws_needed(tree_of(np.ones((1, 1, 2)), dims=("x_dim_0",)), np.mean, 0.1)
    with pytest.raises(ValueError, match=r"2 chains of 3 draws do not tell .*four draws per chain"):
        draws_needed(tree_of(walk(8, 3, chains=2)[..., None], dims=("x_dim_0",)), np.mean, 0.1)

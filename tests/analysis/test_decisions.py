import arviz_stats
import numpy as np
import pytest
from made_draws import tree_of
from scipy.stats import entropy, norm

from bayes_ir.analysis.decisions import decision_entropy
from bayes_ir.analysis.left_out import NonFiniteDrawsWarning


def as_given(images):
    """The image is its own table of probabilities."""
    return images.reshape(len(images), -1)


def dirichlet(seed, chains=4, draws=250, alpha=(2.0, 1.0, 0.5)):
    return np.random.default_rng(seed).dirichlet(alpha, size=(chains, draws))


def test_entropies_are_scipys():
    values = dirichlet(0)
    found = decision_entropy(tree_of(values, ("x_dim_0",)), as_given, classes=["cat", "dog", "owl"])
    pooled = values.reshape(-1, 3)
    assert list(found["class"].values) == ["cat", "dog", "owl"] and found.attrs["units"] == "nats"
    np.testing.assert_allclose(found["probability"], pooled.mean(0), rtol=1e-12)
    assert found["entropy_of_mean"] == pytest.approx(entropy(pooled.mean(0)), rel=1e-12)
    assert found["mean_entropy"] == pytest.approx(entropy(pooled, axis=1).mean(), rel=1e-12)
    difference = entropy(pooled.mean(0)) - entropy(pooled, axis=1).mean()
    assert found["mutual_information"] == pytest.approx(difference, rel=1e-12)
    divergence = entropy(pooled, pooled.mean(0)[None], axis=1)
    assert found["mutual_information"] == pytest.approx(divergence.mean(), rel=1e-10)
    assert found["mutual_information_mcse"] == pytest.approx(
        float(arviz_stats.mcse(divergence.reshape(4, 250)))
    )
    assert found["probability_mcse"][1] == pytest.approx(float(arviz_stats.mcse(values[..., 1])))


def test_the_stated_errors_are_those_of_repetitions():
    names = ("entropy_of_mean", "mean_entropy", "mutual_information")
    runs = [
        decision_entropy(tree_of(dirichlet(seed, draws=50), ("x_dim_0",)), as_given)
        for seed in range(100, 160)
    ]
    alpha = np.array([2.0, 1.0, 0.5])
    mean = alpha / alpha.sum()
    for name in names:
        estimates = np.array([float(run[name]) for run in runs])
        stated = np.sqrt(np.mean([float(run[f"{name}_mcse"]) ** 2 for run in runs]))
        # The sd of 60 estimates is known to 1 / sqrt(120) = 9 %: 4.5 of those.
        assert estimates.std(ddof=1) == pytest.approx(stated, rel=0.42)
    bias = np.mean([float(run["bias"]) for run in runs])
    exact = -0.5 * (mean * (1 - mean) / (alpha.sum() + 1) / 200 / mean).sum()
    assert bias == pytest.approx(exact, rel=0.1)
    estimates = np.array([float(run["entropy_of_mean"]) for run in runs])
    assert abs(estimates.mean() - bias - entropy(mean)) < 4.5 * estimates.std(ddof=1) / np.sqrt(60)


def test_a_decided_classifier_leaves_the_entropy_of_its_votes():
    values = np.random.default_rng(1).normal(size=(4, 500, 1))

    def sign(images):
        positive = images[:, 0] > norm.ppf(0.7)
        return np.stack([~positive, positive], axis=1)

    found = decision_entropy(tree_of(values, ("x_dim_0",)), sign)
    assert found["mean_entropy"] == 0 and found["mutual_information"] == found["entropy_of_mean"]
    assert abs(found["probability"][1] - 0.3) < 4.5 * np.sqrt(0.21 / 2000)
    assert abs(found["entropy_of_mean"] - entropy([0.3, 0.7])) < 4.5 * np.log(7 / 3) * np.sqrt(0.21 / 2000)
    never = decision_entropy(tree_of(values, ("x_dim_0",)), lambda x: np.tile([1.0, 0.0], (len(x), 1)))
    assert never["entropy_of_mean"] == never["mutual_information_mcse"] == never["bias"] == 0


def test_of_a_plate_each_image_is_decided():
    values = np.stack([dirichlet(2), dirichlet(3)], axis=2)
    found = decision_entropy(tree_of(values, ("images", "x_dim_0")), as_given)
    assert found["probability"].dims == ("images", "class") and found["bias"].dims == ("images",)
    for i in range(2):
        alone = decision_entropy(tree_of(values[:, :, i], ("x_dim_0",)), as_given)
        for name in alone.data_vars:
            np.testing.assert_allclose(found[name][i], alone[name], rtol=1e-10)


def test_few_draws_have_no_error_and_bad_ones_are_left_out():
    one = decision_entropy(tree_of(dirichlet(4)[:1, :1], ("x_dim_0",)), as_given)
    assert np.isnan(one["entropy_of_mean_mcse"]) and np.isnan(one["bias"])
    assert one["mutual_information"] == pytest.approx(0, abs=1e-15)
    values = dirichlet(5)
    values[2, 100:] = np.nan
    with pytest.warns(NonFiniteDrawsWarning, match=r"150 of 1000 draws .* Used are 3 chains of 250 draws"):
        found = decision_entropy(tree_of(values, ("x_dim_0",)), as_given)
    np.testing.assert_allclose(found["probability"], values[[0, 1, 3]].reshape(-1, 3).mean(0))


def test_classifiers_that_give_no_probabilities_are_refused():
    tree = tree_of(dirichlet(6, chains=1, draws=8), ("x_dim_0",))
    with pytest.raises(
        ValueError, match=r"an array of shape \(8,\) for 8 images; it must give probabilities \(8, K\)"
    ):
        decision_entropy(tree, lambda x: x.argmax(1))
    for wrong in (lambda x: 2 * x, lambda x: x - 0.5, lambda x: x * np.nan):
        with pytest.raises(
            ValueError, match="which are no probabilities; they must not be negative and sum to 1"
        ):
            decision_entropy(tree, wrong)
    with pytest.raises(ValueError, match="got 2 classes, the classifier knows 3"):
        decision_entropy(tree, as_given, classes=["a", "b"])

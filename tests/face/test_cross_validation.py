"""K-fold cross-validation against the exact predictive of every fold, and what it leaves out and refuses."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import norm

import bayes_ir as bir
from bayes_ir.analysis import HighParetoKWarning, compare_models, measurement_loo
from bayes_ir.inference import BlockedGibbs, Exact
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit

N, M, NOISE = 4, 12, 0.5
GENERATOR = np.random.default_rng(3)
ROWS = GENERATOR.normal(size=(M, N))
COVARIANCE = 0.5 * np.eye(N) + 0.5
PRIOR = GaussianPrior(torch.zeros(N), torch.as_tensor(COVARIANCE).float())
OPERATOR = DenseOperator(torch.as_tensor(ROWS).float())
Y = ROWS @ (np.linalg.cholesky(COVARIANCE) @ GENERATOR.normal(size=N)) + NOISE * GENERATOR.normal(size=M)
DATA = {"y": torch.as_tensor(Y).float()}


def model(noise=NOISE):
    x = pyro.sample("x", PRIOR)
    pyro.sample("y", Gaussian(OPERATOR(x), noise))


def crossed(model=model, data=DATA, **how):
    settings = {"kernel": Exact(), "folds": 4, "draws": 500, "chains": 1, "progress": False} | how
    return bir.measurement_kfold(model, data=data, **settings)


def exact_elpd(fold_of):
    """log N(y_m; a_m mu_f, a_m S_f a_m^T + s^2), with the posterior N(mu_f, S_f) of the other folds."""
    elpd = np.empty(M)
    for k in np.unique(fold_of):
        kept, out = fold_of != k, fold_of == k
        covariance = np.linalg.inv(np.linalg.inv(COVARIANCE) + ROWS[kept].T @ ROWS[kept] / NOISE**2)
        mean = covariance @ ROWS[kept].T @ Y[kept] / NOISE**2
        variance = np.einsum("mi,ij,mj->m", ROWS[out], covariance, ROWS[out]) + NOISE**2
        elpd[out] = norm.logpdf(Y[out], ROWS[out] @ mean, np.sqrt(variance))
    return elpd


def test_elpd_is_that_of_the_exact_predictive_of_every_fold():
    fold_of = np.arange(M) % 3
    runs = np.array([crossed(folds={"y": fold_of}, seed=s).elpd_i.values for s in range(12)])
    error, se = runs.mean(0) - exact_elpd(fold_of), runs.std(0, ddof=1) / np.sqrt(12)
    # Twelve t-values of 11 degrees of freedom: one above 4.5 in 1 % of seeds; 1e-3 for the bias of a log of a mean.
    assert (np.abs(error) < 4.5 * se + 1e-3).all()


def test_random_folds_are_equal_reproducible_and_told():
    one, two, other = crossed(), crossed(), crossed(seed=1)
    assert one.kind == "loo_kfold" and one.n_folds == 4 and one.n_data_points == M and np.isnan(one.p)
    assert np.bincount(one.elpd_i["fold"]).tolist() == [3, 3, 3, 3]
    assert (one.elpd_i == two.elpd_i).all() and not (one.elpd_i["fold"] == other.elpd_i["fold"]).all()
    assert one.elpd == pytest.approx(one.elpd_i.values.sum())
    np.testing.assert_allclose(one.elpd_i["y"], Y, rtol=1e-6)
    assert "4-fold" in str(one)


def test_models_are_ranked_and_mixed_ones_refused():
    found = {"right": crossed(), "noisy": crossed(lambda: model(5.0))}
    table = compare_models(found)
    assert table.index[0] == "right" and table["share_high_k"].isna().all()
    assert table.attrs["verdict"].startswith("'right' is ahead of 'noisy' by")
    posterior = bir.sample(model, Exact(), DATA, draws=200, chains=1, progress=False)
    with (
        pytest.warns(HighParetoKWarning),
        pytest.raises(ValueError, match="of one measurement from all others, and from some of them"),
    ):
        compare_models({"folds": found["right"], "loo": posterior})
    with pytest.warns(HighParetoKWarning):
        assert compare_models({"a": measurement_loo(posterior), "b": posterior}).loc["b", "elpd_diff"] == 0
    with pytest.raises(ValueError, match="fold differs; give them the same data, folds= and seed="):
        compare_models({"a": found["right"], "b": crossed(seed=1)})
    with pytest.raises(ValueError, match="y differs"):
        compare_models({"a": found["right"], "b": crossed(data={"y": DATA["y"] + 1})})


def test_what_the_model_masks_is_not_predicted_and_sites_not_asked_for_are_kept():
    there = torch.arange(M) != 5

    def two_sensors():
        x = pyro.sample("x", PRIOR)
        with pyro.poutine.mask(mask=there):
            pyro.sample("y", Gaussian(OPERATOR(x), NOISE))
        pyro.sample("z", Gaussian(OPERATOR(x), 1e-3))

    x = np.array([0.5, -1.0, 0.2, 1.5])
    data = DATA | {"z": torch.as_tensor(ROWS @ x).float()}
    found = crossed(two_sensors, data, sites="y")
    assert found.n_data_points == M - 1 and set(found.elpd_i["site"].values) == {"y"}
    # The second sensor tells x to about 1e-3, so that y is predicted with its own noise alone.
    np.testing.assert_allclose(found.elpd_i.values, norm.logpdf(Y, ROWS @ x, NOISE)[there], atol=0.05)
    both = crossed(two_sensors, data)
    assert list(both.elpd_i["site"].values) == ["y"] * (M - 1) + ["z"] * M


def test_unknown_noise_signs_and_a_plate():
    def unknown_noise():
        noise = pyro.sample("noise", dist.LogNormal(-0.7, 0.3))
        x = pyro.sample("x", PRIOR)
        pyro.sample("y", Gaussian(OPERATOR(x), noise))

    found = crossed(unknown_noise, kernel=BlockedGibbs(image=Exact(), warmup=20), folds=2, draws=60)
    assert found.n_data_points == M and np.isfinite(found.elpd)

    def signs():
        with pyro.plate("images", 2):
            x = pyro.sample("x", PRIOR)
            pyro.sample("y", OneBit(OPERATOR(x), NOISE).to_event(1))

    y = torch.stack([DATA["y"].sign(), -DATA["y"].sign()])
    found = crossed(signs, {"y": y}, folds={"y": np.arange(M) % 2}, draws=400)
    assert found.n_data_points == 2 * M and (found.elpd_i < 0).all()
    # Prior and channel are symmetric: y and -y are predicted alike.
    np.testing.assert_allclose(found.elpd_i.values[:M], found.elpd_i.values[M:], atol=0.6)


def test_what_cannot_be_crossed_is_refused():
    with pytest.raises(ValueError, match="folds is 1; expected a whole number of at least 2"):
        crossed(folds=1)
    with pytest.raises(ValueError, match=r"13 folds of sites with {'y': 12} measurements"):
        crossed(folds=13)
    with pytest.raises(ValueError, match=r"got the folds \[3\]; expected at least two"):
        crossed(folds={"y": np.full(M, 3)})
    with pytest.raises(ValueError, match=r"folds of 'y' are float64 of shape \(12,\); expected integers"):
        crossed(folds={"y": np.ones(M)})
    with pytest.raises(ValueError, match=r"asked for the sites \['z'\]; observed are \['y'\]"):
        crossed(sites="z")

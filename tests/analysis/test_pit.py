import numpy as np
import pytest
import xarray as xr
from made_gaussian import NOISE, leave_one_out, posterior_of, problem, tree_of
from scipy.stats import kstest, norm

from bayes_ir.analysis import HighParetoKWarning, measurement_pit

A, TRUTH, Y = problem()


@pytest.mark.parametrize("left_out", [True, False])
def test_pit_is_that_of_the_exact_predictive(left_out):
    if left_out:
        mean, sd = leave_one_out(A, Y)
    else:
        m, v = posterior_of(A, Y)
        mean, sd = A @ m, np.sqrt(np.einsum("mi,ij,mj->m", A, v, A) + NOISE**2)
    runs = [measurement_pit(tree_of(A, Y, seed=s), left_out=left_out)["y"].values for s in range(12)]
    error, se = np.mean(runs, 0) - norm.cdf(Y, mean, sd), np.std(runs, 0, ddof=1) / np.sqrt(12)
    # Twelve t-values of 11 degrees of freedom: one above 4.5 in 1 % of seeds.
    assert (np.abs(error) < 4.5 * se + 1e-3).all()


@pytest.mark.filterwarnings("ignore::bayes_ir.analysis.leave_one_out.HighParetoKWarning")
def test_over_data_sets_the_left_out_pit_is_uniform_and_the_plain_one_is_not():
    first = {True: [], False: []}
    for seed in range(100):
        a, _, y = problem(seed=100 + seed, measurements=6)
        tree = tree_of(a, y, chains=1, draws=200, seed=seed)
        for left_out, found in first.items():
            found.append(float(measurement_pit(tree, left_out=left_out)["y"][0]))
    assert kstest(first[True], "uniform").pvalue > 0.01
    # y helped to predict itself: nearer to the middle, by paired differences.
    inwards = np.abs(np.array(first[True]) - 0.5) - np.abs(np.array(first[False]) - 0.5)
    assert inwards.mean() > 4 * inwards.std() / np.sqrt(100)


def signs(seed, right, m=400, draws=500):
    """Signs of a fair or unfair coin, and predictions of it that know its probability."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.uniform(size=m) < 0.8, 1.0, -1.0)
    p = 0.8 if right else 0.6
    predicted = np.where(rng.uniform(size=(1, draws, m)) < p, 1.0, -1.0)
    log_lik = np.broadcast_to(np.log(np.where(y > 0, p, 1 - p)), predicted.shape)
    coords = {"y_dim_0": np.arange(m)}
    groups = {"log_likelihood": log_lik, "posterior_predictive": predicted}
    nodes = {
        g: xr.Dataset({"y": (("chain", "draw", "y_dim_0"), a)}, coords=coords) for g, a in groups.items()
    }
    return xr.DataTree.from_dict(nodes | {"observed_data": xr.Dataset({"y": ("y_dim_0", y)}, coords=coords)})


def test_signs_are_spread_over_their_probability():
    assert kstest(measurement_pit(signs(0, True))["y"], "uniform").pvalue > 0.01
    assert kstest(measurement_pit(signs(0, False))["y"], "uniform").pvalue < 1e-6
    u = measurement_pit(signs(0, True))["y"].values
    assert ((u > 0) & (u < 1)).all() and not np.array_equal(
        u, measurement_pit(signs(0, True), seed=1)["y"].values
    )


def test_missing_measurements_have_none_and_axes_are_kept():
    tree = tree_of(A, Y)
    tree["observed_data"]["y"][2] = np.nan
    found = measurement_pit(tree)
    assert found["y"].dims == ("y_dim_0",) and np.isnan(found["y"].values).tolist() == [
        i == 2 for i in range(12)
    ]
    assert found.attrs["draws"] == 2000 and found.attrs["max_k"] < 0.7


def test_what_has_no_pit_is_refused_and_high_k_is_told():
    tree = tree_of(A, Y)
    with pytest.raises(ValueError, match=r"no group 'posterior_predictive'.*bir.posterior_predictive\(model"):
        measurement_pit(
            xr.DataTree.from_dict({k: v.dataset for k, v in tree.children.items() if "pred" not in k})
        )
    with pytest.raises(ValueError, match="got 2 finite draws"):
        measurement_pit(tree.isel(draw=[0]))
    a = A.copy()
    a[0] *= 200
    with pytest.warns(HighParetoKWarning, match="LOO-PIT is not to be trusted"):
        measurement_pit(tree_of(a, Y))

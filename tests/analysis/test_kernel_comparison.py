import numpy as np
import pytest
import xarray as xr
from made_gaussian import problem, tree_of

from bayes_ir.analysis import compare_kernels, psnr, sliced_wasserstein

A, TRUTH, Y = problem()


def squeezed(tree, factor, shift=0.0):
    tree = tree.copy(deep=True)
    x = tree["posterior"]["x"]
    x[:] = x.mean(("chain", "draw")) + factor * (x - x.mean(("chain", "draw"))) + shift
    return tree


def test_a_right_kernel_is_at_one_and_wrong_ones_are_told_apart():
    right = tree_of(A, Y, seed=2)
    table = compare_kernels(
        {"right": right, "narrow": squeezed(right, 0.8), "shifted": squeezed(right, 1.0, 0.3)},
        reference=tree_of(A, Y, chains=1, draws=6000, seed=9),
    )
    # Root mean squares of four correlated z-values: above 2.5 in less than 1 % of seeds.
    assert table.loc["right", "mean_z"] < 2.5 and table.loc["right", "sd_z"] < 2.5
    assert table.loc["narrow", "sd_z"] > 5 and table.loc["narrow", "sd_ratio"] == pytest.approx(0.8, rel=0.05)
    assert table.loc["shifted", "mean_z"] > 5 and table.loc["shifted", "sd_z"] == table.loc["right", "sd_z"]
    assert 0.5 < table.loc["right", "distance_over_floor"] < 1.7 < table.loc["narrow", "distance_over_floor"]
    assert (table["draws"] == 2000).all() and (table["nfe"] == 7).all() and (table["diverging"] == 0).all()


def test_z_of_right_kernels_is_one_on_average():
    reference = [tree_of(A, Y, chains=1, draws=800, seed=500 + s) for s in range(25)]
    rows = [
        compare_kernels({"k": tree_of(A, Y, draws=200, seed=s)}, reference=r, projections=10).iloc[0]
        for s, r in enumerate(reference)
    ]
    for name in ("mean_z", "sd_z"):
        squares = np.array([row[name] ** 2 for row in rows])
        assert abs(squares.mean() - 1) < 4 * squares.std(ddof=1) / np.sqrt(25)


def test_figures_are_those_of_their_own_functions():
    run, reference = tree_of(A, Y, draws=100), tree_of(A, Y, chains=1, draws=400, seed=3)
    run.attrs |= {"sampling_time": 50.0, "data_range": [-1.0, 1.0]}
    row = compare_kernels({"run": run}, TRUTH, reference, seed=4).loc["run"]
    x, exact = run["posterior"]["x"].values.reshape(-1, 4), reference["posterior"]["x"].values[0]
    assert row["distance"] == pytest.approx(sliced_wasserstein(x, exact[200:], seed=4))
    mean = x.mean(0)
    assert row["rmse"] == pytest.approx(np.sqrt(((mean - TRUTH) ** 2).mean()))
    assert row["psnr"] == pytest.approx(psnr(mean, TRUTH, 2.0))
    assert row["rmse_over_sd"] == pytest.approx(row["rmse"] / np.sqrt(x.var(0, ddof=1).mean()))
    assert row["log_lik"] == pytest.approx(run["sample_stats"]["log_lik"].values.mean())
    assert row["seconds"] == 0.25 and 0 < row["p_value"] < 1


def test_draws_that_are_not_finite_are_counted():
    run = tree_of(A, Y)
    run["posterior"]["x"][0, :3] = np.nan
    table = compare_kernels({"run": run}, reference=tree_of(A, Y, seed=8))
    assert (table.loc["run", "draws"], table.loc["run", "diverging"]) == (1997, 3) and table.notna().loc[
        "run", "mean_z"
    ]


def test_what_cannot_be_compared_is_refused():
    run = tree_of(A, Y)
    with pytest.raises(ValueError, match="runs are not of the same data: 12 of 12 measurements 'y' differ"):
        compare_kernels({"run": run}, reference=tree_of(A, Y + 1))
    with pytest.raises(ValueError, match="got no run"):
        compare_kernels({})
    with pytest.raises(ValueError, match="'run' is no posterior with the group observed_data"):
        compare_kernels({"run": xr.DataTree()})
    with pytest.raises(ValueError, match=r"shapes {'a': \(4,\), 'b': \(3,\)}"):
        compare_kernels({"a": run, "b": run.isel(x_dim_0=slice(3))})
    moved = run.copy()
    moved["posterior"] = run["posterior"].to_dataset().assign_coords(x_dim_0=np.arange(4) + 1)
    with pytest.raises(
        ValueError, match=r"'b' has the coordinates 1 ... 4 .* 'a' has 0 ... 3 .* same pixels of both"
    ):
        compare_kernels({"a": run, "b": moved})
    with pytest.raises(ValueError, match="1 of 1 draws of a run are finite; expected at least 2"):
        compare_kernels({"run": run.isel(chain=[0], draw=[0])})
    with pytest.raises(ValueError, match="reference has 2 finite draws; expected at least 4"):
        compare_kernels({"run": run}, reference=run.isel(draw=[0]))

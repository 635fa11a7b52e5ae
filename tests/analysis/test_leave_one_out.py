import warnings

import numpy as np
import pytest
import xarray as xr
from made_blocks import make_block, make_layout, observed
from made_gaussian import M, leave_one_out, problem, tree_of
from scipy.stats import norm

from bayes_ir.analysis import (
    HighParetoKWarning,
    MemorySink,
    ZarrSink,
    compare_models,
    measurement_check,
    measurement_loo,
    open_posterior,
)
from bayes_ir.analysis.leave_one_out import relative_efficiency
from bayes_ir.analysis.measurements import measurements_of

A, TRUTH, Y = problem()


def test_elpd_is_that_of_the_exact_leave_one_out_predictive():
    mean, sd = leave_one_out(A, Y)
    exact = norm.logpdf(Y, mean, sd)
    runs = np.array([measurement_loo(tree_of(A, Y, seed=s)).elpd_i.values for s in range(12)])
    error, se = runs.mean(0) - exact, runs.std(0, ddof=1) / np.sqrt(12)
    # Twelve t-values of 11 degrees of freedom: one above 4.5 in 1 % of seeds.
    assert (np.abs(error) < 4.5 * se + 1e-3).all()
    assert runs.std(0).max() < 0.1  # 2,000 draws tell elpd_m to better than 0.1


def test_of_a_store_still_being_written_the_finished_part_is_judged(tmp_path):
    whole = make_layout(draws=40, block_size=8)
    finished = make_layout(draws=16, block_size=8)
    stored = ZarrSink(tmp_path / "s.zarr", whole, observed(whole))
    memory = MemorySink(finished, observed(finished))
    for chain, index in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 3)):
        stored.write(make_block(whole, chain, index))
    for chain, index in ((0, 0), (0, 1), (1, 0), (1, 1)):
        memory.write(make_block(finished, chain, index))
    with pytest.raises(ValueError, match=r"6 of 10 blocks: the run has not finished.*partial=True"):
        open_posterior(stored.path)
    part, same = open_posterior(stored.path, partial=True), memory.finish({})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HighParetoKWarning)
        got, expected = measurement_loo(part), measurement_loo(same)
        assert compare_models({"part": part, "same": same}).loc["part", "elpd_diff"] == 0
    np.testing.assert_allclose(got.elpd_i.values, expected.elpd_i.values)
    assert measurement_check(part) == measurement_check(same)


def split(tree):
    """The measurements as two sites: five in a row, and the others in a plate of 2 with one missing."""
    tree = tree.copy()
    for group in ("observed_data", "log_likelihood"):
        y = tree[group]["y"]
        values = np.concatenate([y.values[..., 5:], y.values[..., :1]], axis=-1)
        values = values.reshape(*y.shape[:-1], 2, -1)
        values[..., 1, -1] = np.nan if group == "observed_data" else 0.0
        lead = y.dims[:-1]
        data = xr.Dataset(
            {"a": ((*lead, "a_dim_0"), y.values[..., :5]), "b": ((*lead, "plate", "b_dim_0"), values)},
            coords={"a_dim_0": np.arange(5), "plate": np.arange(2), "b_dim_0": np.arange(4)},
        )
        tree[group] = xr.DataTree(data)
    return tree


def test_several_sites_plates_and_missing_measurements_make_one_row():
    whole, parts = measurement_loo(tree_of(A, Y)), measurement_loo(split(tree_of(A, Y)))
    np.testing.assert_allclose(parts.elpd_i.values, whole.elpd_i.values)
    assert parts.n_data_points == M and list(parts.elpd_i["site"].values) == ["a"] * 5 + ["b"] * 7
    some = measurement_loo(split(tree_of(A, Y)), sites="a")
    np.testing.assert_allclose(some.elpd_i.values, whole.elpd_i.values[:5])


def test_a_measurement_that_is_sure_at_every_draw_is_its_own_prediction():
    tree = tree_of(A, Y)
    tree["log_likelihood"]["y"][..., 3] = -0.25
    tree["log_likelihood"]["y"][..., 4] = 0.0
    tree["log_likelihood"]["y"][0, :6, 4] = -0.5  # of 2,000 draws six are less sure: no tail to fit
    found = measurement_loo(tree)
    assert found.elpd_i.values[3] == pytest.approx(-0.25) and found.pareto_k.values[3] == 0
    assert found.elpd_i.values[4] == pytest.approx(-np.log1p(6 / 2000 * np.expm1(0.5)))


def test_draws_that_are_not_finite_are_left_out():
    tree, broken = tree_of(A, Y), tree_of(A, Y)
    broken["log_likelihood"]["y"][1, -1, 0] = np.nan
    assert measurement_loo(broken).n_samples == 1999
    assert measurement_loo(broken).elpd == pytest.approx(measurement_loo(tree).elpd, abs=0.05)


def test_the_chains_of_a_model_with_nuisances_are_worth_less_than_their_draws():
    tree = tree_of(A, Y)
    slow = tree.isel(draw=np.repeat(np.arange(100), 10))
    found = [relative_efficiency(measurements_of("test", t, {"log_likelihood": ""})) for t in (tree, slow)]
    assert found[0] > 0.8 and found[1] < 0.25  # each draw ten times over: about 0.1


def test_the_right_noise_is_ranked_first_and_what_is_told_is_in_words():
    a, _, y = problem(seed=2, measurements=200)
    models = {f"{s}": tree_of(a, y, noise=s) for s in (0.5, 1.0, 2.0)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = compare_models(models)
    assert table.index[0] == "1.0" and (table["max_k"] < 0.7).all() and (table["draws"] == 2000).all()
    assert table.attrs["verdict"].startswith("'1.0' is ahead of '2.0' by")
    assert table.attrs["verdict"].endswith("in log predictive probability")
    same = compare_models({"one": models["1.0"], "two": tree_of(a, y, noise=1.0, seed=5)})
    assert same.attrs["verdict"].endswith("too little to tell them apart")


def test_a_measurement_that_decides_alone_is_told():
    a, _, y = problem()
    a[0] *= 200  # it tells x with a precision that the others do not come near
    with pytest.warns(
        HighParetoKWarning, match=r"of 12 measurements \(.*\) have a Pareto k above 0.7.*too influ"
    ):
        measurement_loo(tree_of(a, y))
    with pytest.warns(HighParetoKWarning) as caught:
        table = compare_models({"far": tree_of(a, y), "also": tree_of(a, y, seed=3)})
    assert [str(each.message).split(":")[0] for each in caught] == ["'far'", "'also'"]
    assert (table["share_high_k"] > 0).all()
    assert table.attrs["verdict"].endswith(
        "; but 8 % of 'far' and 8 % of 'also' have a Pareto k above the limit, of which this error knows nothing"
    )


def test_what_cannot_be_compared_is_refused():
    tree, other = tree_of(A, Y), tree_of(A, Y + 1)
    with pytest.raises(ValueError, match="12 of 12 measurements 'y' differ in 'one' and 'two'"):
        compare_models({"one": tree, "two": other})
    with pytest.raises(ValueError, match=r"observed \['y'\], 'two' \['a', 'b'\]"):
        compare_models({"one": tree, "two": split(tree)})
    with pytest.raises(ValueError, match="densities, the others probabilities"):
        compare_models({"one": tree, "two": tree_of(A, Y, attrs={"channel": "OneBit"})})
    with pytest.raises(ValueError, match="at least two models"):
        compare_models({"one": tree})
    with pytest.raises(ValueError, match="'two' is no posterior with the group observed_data"):
        compare_models({"one": tree, "two": xr.DataTree()})


def test_what_cannot_be_left_out_is_refused():
    tree = tree_of(A, Y)
    with pytest.raises(ValueError, match=r"no group 'log_likelihood', only .*bir.sample records it"):
        measurement_loo(xr.DataTree.from_dict({"observed_data": tree["observed_data"].dataset}))
    with pytest.raises(ValueError, match="got 2 finite draws; expected at least 25"):
        measurement_loo(tree.isel(draw=[0]))
    with pytest.raises(ValueError, match=r"asked for the sites \['s'\]; observed are \['y'\]"):
        measurement_loo(tree, sites="s")
    moved = tree.copy()
    moved["log_likelihood"] = xr.DataTree(
        tree["log_likelihood"].dataset.assign_coords(y_dim_0=np.arange(M) + 1)
    )
    with pytest.raises(ValueError, match="coordinates of log_likelihood/y along 'y_dim_0' are not those of"):
        measurement_loo(moved)
    impossible = tree.copy(deep=True)
    impossible["log_likelihood"]["y"][0, 0, 0] = -np.inf
    with pytest.raises(ValueError, match="likelihood of 1 of 12 measurements is zero"):
        measurement_loo(impossible)
    impossible["log_likelihood"]["y"][:] = np.nan
    with pytest.raises(ValueError, match="none of the 2000 draws is finite"):
        measurement_loo(impossible)

import numpy as np
import pytest
import xarray as xr
from made_gaussian import N, posterior_of, problem, tree_of

from bayes_ir.analysis import contraction, contraction_map

A, TRUTH, Y = problem()


def prior_of(seed=7, draws=2000, chains=1, values=None):
    x = np.random.default_rng(seed).normal(size=(chains, draws, N)) if values is None else values
    coords = {"chain": np.arange(len(x)), "draw": np.arange(x.shape[1]), "x_dim_0": np.arange(x.shape[2])}
    return xr.DataTree.from_dict(
        {"prior": xr.Dataset({"x": (("chain", "draw", "x_dim_0"), x)}, coords=coords)}
    )


def test_contraction_of_a_gaussian_is_that_of_its_covariances_within_its_error():
    exact = 1 - np.diag(posterior_of(A, Y)[1])
    found = [contraction_map(tree_of(A, Y, seed=s), prior_of(10_000 + s)) for s in range(60)]
    z = np.array([(f["contraction"].values - exact) / f["se"].values for f in found])
    # 60 z-values of each of four pixels: their mean square is 1, give or take four times sqrt(2 / 60).
    np.testing.assert_allclose((z**2).mean(0), 1, atol=4 * np.sqrt(2 / 60))
    assert found[0]["contraction"].dims == ("x_dim_0",)


def test_functionals_and_regions():
    covariance = posterior_of(A, Y)[1]
    mask = np.array([True, True, False, False])
    found = contraction(
        tree_of(A, Y),
        prior_of(),
        {"pair": mask, "difference": lambda x: x[0] - x[3], "pixel": lambda x: x[2]},
    )
    directions = {"pair": mask / 2, "difference": np.array([1, 0, 0, -1]), "pixel": np.array([0, 0, 1, 0])}
    for name, c in directions.items():
        exact = 1 - c @ covariance @ c / (c @ c)
        assert abs(found.loc[name, "contraction"] - exact) < 4 * found.loc[name, "se"] < 0.3
    assert found.loc["pair", "prior_sd"] == pytest.approx(np.sqrt(0.5), rel=0.1)
    pixel = contraction_map(tree_of(A, Y), prior_of())["contraction"].values[2]
    assert found.loc["pixel", "contraction"] == pytest.approx(pixel, abs=1e-6)


def test_draws_that_repeat_themselves_are_worth_less():
    tree = tree_of(A, Y)
    slow = tree.isel(draw=np.repeat(np.arange(100), 10))
    pixel = {"pixel": lambda x: x[0]}
    # 200 draws ten times over, beside 200 draws: the same error, within what the ESS is known to.
    honest = contraction(tree.isel(draw=slice(100)), prior_of(draws=100_000), pixel)["se"].iloc[0]
    assert contraction(slow, prior_of(draws=100_000), pixel)["se"].iloc[0] == pytest.approx(honest, rel=0.35)


def test_a_pixel_without_variance():
    tree, values = tree_of(A, Y), np.random.default_rng(0).normal(size=(1, 100, N))
    values[..., 0] = 0.0
    tree["posterior"]["x"][..., :2] = 0.5
    found = contraction_map(tree, prior_of(values=values))
    assert (
        np.isnan(found["contraction"].values[0])
        and found["contraction"].values[1] == 1
        and found["se"][1] == 0
    )
    with pytest.raises(ValueError, match="functional 'p' does not vary under the prior"):
        contraction(tree, prior_of(values=values), {"p": lambda x: x[0]})


def test_what_has_no_contraction_is_refused():
    tree, prior = tree_of(A, Y), prior_of()
    with pytest.raises(
        ValueError, match=r"second tree has no group 'prior', only .*bir.prior_predictive\(model\)"
    ):
        contraction_map(tree, tree)
    with pytest.raises(ValueError, match=r"axes {'x_dim_0': 4}, those of the prior {'x_dim_0': 3}"):
        contraction_map(tree, prior.isel(x_dim_0=slice(3)))
    with pytest.raises(ValueError, match="has 1 finite draw; a variance needs at least 2"):
        contraction_map(tree.isel(chain=[0], draw=[0]), prior)
    with pytest.raises(ValueError, match="has 1 finite draw; a variance needs at least 2"):
        contraction(tree.isel(chain=[0], draw=[0]), prior)
    with pytest.raises(ValueError, match=r"region 'r' has shape \(3,\) and type bool"):
        contraction(tree, prior, {"r": np.ones(3, dtype=bool)})
    broken = tree.copy(deep=True)
    broken["posterior"]["x"][:] = np.nan
    with pytest.raises(ValueError, match="none of the 2000 draws is finite"):
        contraction_map(broken, prior)


def test_of_a_plate_each_image_has_a_row():
    rng = np.random.default_rng(11)
    dims = ("chain", "draw", "images", "x_dim_0")
    scales = np.array([[0.5], [0.2], [1.0]])
    after = xr.Dataset({"x": (dims, scales * rng.normal(size=(2, 100, 3, 4)))})
    before = xr.DataTree.from_dict({"prior": xr.Dataset({"x": (dims, rng.normal(size=(1, 200, 3, 4)))})})
    found = contraction(after, before, {"mean": np.mean, "pair": np.array([True, True, False, False])})
    assert list(found.index) == [f"{name}[{i}]" for name in ("mean", "pair") for i in range(3)]
    for i in range(3):
        of_one = {"prior": before["prior"].to_dataset().isel(images=i)}
        alone = contraction(after.isel(images=i), xr.DataTree.from_dict(of_one), {"mean": np.mean})
        np.testing.assert_allclose(found.loc[f"mean[{i}]"], alone.loc["mean"], rtol=1e-10)

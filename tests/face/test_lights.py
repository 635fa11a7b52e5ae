"""Diagnostics of a report: each light against figures made by hand, ArviZ or scipy."""

import warnings

import arviz_stats
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayes_ir.reporting.diagnostics import diagnose
from bayes_ir.reporting.lights import Diagnostic, Light, banded, chance_r_hat, worst
from bayes_ir.reporting.opening import Run

CHAINS, DRAWS, SIDE, M = 4, 120, 4, 6


def _tree(draws=DRAWS, chains=CHAINS, seed=0, **attrs):
    """Independent draws of a unit Gaussian image, and measurements that they explain."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(chains, draws, 1, SIDE, SIDE))
    lik = rng.normal(size=(chains, draws, M)) * 0.1 - 1
    dims = ("chain", "draw")
    stats = {
        "log_lik": (dims, lik.sum(-1)),
        "log_lik_rep": (dims, rng.permutation(lik.sum(-1).ravel()).reshape(chains, draws)),
        "diverging": (dims, np.zeros((chains, draws), dtype=bool)),
        "nfe": (dims, np.full((chains, draws), 32)),
    }
    groups = {
        "/": xr.Dataset(attrs={"image_site": "x", "data_range": [-4.0, 4.0], "channel": "Gaussian"} | attrs),
        "posterior": xr.Dataset({"x": ((*dims, "x_channel", "x_row", "x_column"), x)}),
        "sample_stats": xr.Dataset(stats),
        "log_likelihood": xr.Dataset({"y": ((*dims, "y_dim_0"), lik)}),
        "observed_data": xr.Dataset({"y": (("y_dim_0",), rng.normal(size=M))}),
    }
    return xr.DataTree.from_dict(groups)


def _scalars(r_hat=1.0, ess=900.0):
    return pd.DataFrame(
        {"r_hat": [1.0, r_hat], "ess_bulk": [900.0, ess], "ess_tail": [900.0, 900.0]}, index=["mean", "norm"]
    )


def _found(tree, scalars=None):
    return {d.name: d for d in diagnose(Run("r", tree), _scalars() if scalars is None else scalars)}


def test_nothing_to_say_of_good_draws():
    found = _found(_tree())
    judged = {name: d.light for name, d in found.items() if d.light is not Light.GREEN}
    assert judged == {"network evaluations": Light.TOLD}
    assert worst(found.values()) is Light.GREEN
    assert found["network evaluations"].value == "32 per draw"


@pytest.mark.parametrize(
    ("r_hat", "light", "words"),
    [
        (1.01, Light.GREEN, "same story"),
        (1.0101, Light.AMBER, "by chance"),
        (1.09, Light.AMBER, "more than chance"),
        (1.11, Light.RED, "above 1.1"),
        (np.nan, Light.GREEN, "same story"),  # a functional that never varies
    ],
)
def test_r_hat(r_hat, light, words):
    found = _found(_tree(), _scalars(r_hat=r_hat))["largest R-hat"]
    assert found.light is light and words in found.reason, found


def test_r_hat_of_few_draws_or_one_chain_is_no_verdict():
    few = _found(_tree(draws=4), _scalars(r_hat=1.3))["largest R-hat"]
    assert few.light is Light.AMBER and "by chance" in few.reason
    one = _found(_tree(chains=1), _scalars(r_hat=1.3))["largest R-hat"]
    assert one.light is Light.UNKNOWN and "one chain" in one.reason


@pytest.mark.parametrize(
    ("ess", "light", "words"),
    [
        (400, Light.GREEN, "known well enough"),
        (399, Light.AMBER, "nearly independent"),
        (60, Light.AMBER, "move slowly"),
        (39, Light.RED, "below 10 for each of 4 chains"),
        (np.nan, Light.GREEN, "known well enough"),
    ],
)
def test_effective_draws(ess, light, words):
    found = _found(_tree(), _scalars(ess=ess))["fewest effective draws"]
    assert found.light is light and words in found.reason, found


def test_chance_r_hat_is_the_quantile_of_arviz_split_r_hat():
    """2,000 sets of independent draws; the share above must be a tenth within four standard errors."""
    rng, sets = np.random.default_rng(1), 2000
    for chains, draws in ((4, 20), (2, 60)):
        bound = chance_r_hat(
            chains, draws, quantities=1, level=0.2
        )  # half of it for each of ArviZ's two ranks
        values = xr.Dataset({"f": (("chain", "draw", "set"), rng.normal(size=(chains, draws, sets)))})
        found = arviz_stats.rhat(values, method="split")["f"].values
        assert abs((found > bound).mean() - 0.1) < 4 * (0.09 / sets) ** 0.5, (chains, draws)
    assert chance_r_hat(4, 3, 1) == np.inf
    assert chance_r_hat(4, 1000, 6) < 1.01 < chance_r_hat(4, 50, 6)


def test_diverging_draws():
    tree = _tree()
    tree["sample_stats"]["diverging"][0, :3] = True
    one = _found(tree)["diverging draws"]
    assert (one.light, one.value) == (Light.AMBER, "3 of 480")
    tree["sample_stats"]["diverging"][0, :5] = True
    assert _found(tree)["diverging draws"].light is Light.RED  # 5 of 480 are more than 1 in 100


@pytest.mark.parametrize(
    ("shift", "light", "words"),
    [
        (0.0, Light.GREEN, "fit the data"),
        (-9.0, Light.RED, "do not reach"),
        (9.0, Light.RED, "over-fitted"),
    ],
)
def test_measurements(shift, light, words):
    tree = _tree()
    tree["sample_stats"]["log_lik"] += shift
    found = _found(tree)["measurements explained"]
    assert found.light is light and words in found.reason
    small = _tree(draws=10)
    small["sample_stats"]["log_lik"] += shift
    few = _found(small)["measurements explained"]
    assert few.light is (Light.GREEN if shift == 0 else Light.AMBER)  # forty draws prove less


def test_range_of_the_draws_is_the_share_outside():
    tree = _tree(data_range=[-1.0, 1.0])
    x = tree["posterior"]["x"].values
    share = float((np.abs(x) > 1.1).mean())
    found = _found(tree)["range of the draws"]
    assert found.light is Light.RED and found.value == f"{100 * share:.2g} % of pixels"
    assert _found(_tree(data_range=[]))["range of the draws"].light is Light.UNKNOWN


@pytest.mark.parametrize(
    ("channel", "y", "light", "value"),
    [
        ("OneBit", [1] * 9 + [-1], Light.GREEN, "90 % are 1"),
        ("OneBit", [1] * 19 + [-1], Light.AMBER, "95 % are 1"),
        ("OneBit", [-1] * 200, Light.RED, "100 % are -1"),
        ("Quantized", [0, 1, 1, 2, 2, 2, 1, 1, 2, 3], Light.GREEN, "20 % in the outermost of 4 codes"),
        ("Quantized", [0, 0, 1, 1, 2, 2, 3, 3], Light.AMBER, "50 % in the outermost of 4 codes"),
        ("Quantized", [0, 0, 0, 1, 2, 3, 3], Light.RED, "71 % in the outermost of 4 codes"),
        ("Quantized", list(range(300)), Light.UNKNOWN, "300 different values"),
    ],
)
def test_saturated_measurements(channel, y, light, value):
    tree = _tree(channel=channel)
    tree["observed_data"] = xr.DataTree(xr.Dataset({"y": (("y_dim_0",), np.array(y, dtype=float))}))
    found = _found(tree)["codes of y"]
    assert (found.light, found.value) == (light, value)


def test_leave_one_out_counts_what_arviz_counts():
    """Likelihoods with tails exp(Exponential(2) draws): k of weights 1/L is 2 and 0.1."""
    tree, rng = _tree(), np.random.default_rng(3)
    heavy = np.repeat([[2.0, 0.1]], 3, axis=0).ravel()
    lik = -rng.exponential(size=(CHAINS, DRAWS, M)) * heavy
    tree["log_likelihood"]["y"].values[:] = lik
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loo = arviz_stats.loo(tree, pointwise=True, reff=1.0)
    found = _found(tree)["LOO of y"]
    assert found.light is Light.AMBER and f"for {int((loo.pareto_k > loo.good_k).sum())} of 6" in found.value
    assert f"elpd {loo.elpd:.4g}" in found.value and "above 0.63 for 3 of 6" in found.value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lik: lik[:, :6], "24 draws are too few to reweight"),
        (lambda lik: lik * np.nan, "constant or not finite"),
        (lambda lik: lik * 0, "constant or not finite"),
    ],
)
def test_leave_one_out_that_cannot_be_says_why(change, words):
    tree = _tree()
    lik = change(tree["log_likelihood"]["y"])
    tree["log_likelihood"] = xr.DataTree(xr.Dataset({"y": lik}))
    found = _found(tree)["LOO of y"]
    assert found.light is Light.UNKNOWN and words in found.reason


def test_leave_one_out_of_the_fewest_draws():
    lik = _tree()["log_likelihood"]["y"][:1, :25]
    tree = _tree()
    tree["log_likelihood"] = xr.DataTree(xr.Dataset({"y": lik}))
    assert _found(tree)["LOO of y"].value.startswith("elpd")


def test_a_measurement_left_out_is_no_measurement():
    tree = _tree()
    whole = _found(tree)["LOO of y"].value
    tree["log_likelihood"]["y"].values[..., 0] = 0.0
    found = _found(tree)["LOO of y"].value
    assert "of 6" in whole and "of 5" in found


def test_what_was_not_recorded_is_unknown():
    tree = _tree()
    del tree["sample_stats"], tree["log_likelihood"], tree["observed_data"]
    found = _found(tree)
    for name in ("diverging draws", "measurements explained", "LOO", "network evaluations"):
        assert found[name].light is Light.UNKNOWN and found[name].reason, name


def test_divergences_of_nuts():
    tree = _tree()
    flags = xr.DataArray(np.zeros((CHAINS, DRAWS, 5)), dims=("chain", "draw", "images"))
    tree["sample_stats"]["nuts_diverging"] = flags
    assert _found(tree)["NUTS divergences"].light is Light.GREEN
    tree["sample_stats"]["nuts_diverging"][1, 5] = 2  # in each of the plate's images
    found = _found(tree)["NUTS divergences"]
    assert (found.light, found.value) == (Light.AMBER, "2")


def test_an_unfinished_run_is_said_to_be():
    found = _found(_tree(partial="chains [0, 1, 2, 3] of 4, the first 120 of 200 draws of each"))
    assert found["run finished"].light is Light.AMBER and "first 120 of 200" in found["run finished"].reason


def test_bands_and_the_worst():
    assert [banded(v, 1, 2) for v in (1, 2, 2.1)] == [Light.GREEN, Light.AMBER, Light.RED]
    lights = [Diagnostic("a", light, "", "") for light in (Light.GREEN, Light.TOLD, Light.UNKNOWN)]
    assert worst(lights) is Light.GREEN and worst([]) is Light.GREEN
    assert worst([*lights, Diagnostic("b", Light.AMBER, "", "")]) is Light.AMBER
    assert worst([Diagnostic("b", Light.AMBER, "", ""), Diagnostic("c", Light.RED, "", "")]) is Light.RED

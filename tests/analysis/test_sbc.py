"""Randomised ranks, what a calibration returns, and what it refuses."""

import matplotlib
import numpy as np
import pytest
from scipy.stats import kstest

from bayes_ir.analysis import FewReplicationsWarning, default_quantities, holm_adjusted, sbc_ranks
from bayes_ir.analysis.sbc import count_below, randomised_ranks

matplotlib.use("Agg")
RNG = np.random.default_rng(0)


def _exact(replications=40, draws=9, shape=(3,)):
    return RNG.normal(size=(replications, *shape)), RNG.normal(size=(replications, draws, *shape))


def test_ranks_by_hand():
    less, equal = count_below(np.array([2.0, 5.0]), np.array([[1.0, 5.0], [2.0, 7.0], [3.0, 5.0]]))
    assert less.tolist() == [1, 0] and equal.tolist() == [1, 2]
    u = randomised_ranks(less, equal, np.array([0.25, 0.5]), 3)
    assert u == pytest.approx([(1 + 0.25 * 2) / 4, (0 + 0.5 * 3) / 4])


def test_ranks_of_a_discrete_quantity_are_uniform():
    x, s = (RNG.integers(0, 3, size=shape).astype(float) for shape in ((1500, 1), (1500, 9, 1)))
    with_ties = sbc_ranks(x, s, {"value": lambda x, y: x[:, 0]})["prior_sbc"]["value"].values
    assert kstest(with_ties.ravel(), "uniform").pvalue > 0.01


def test_layout_of_the_tree_and_the_picture():
    import arviz_plots

    with pytest.warns(FewReplicationsWarning, match=r"40 replications of 9 draws: .* probability 0\.\d\d"):
        tree = sbc_ranks(*_exact())
    assert set(tree.children) == {"prior_sbc", "sbc_test"}
    assert list(tree["prior_sbc"].data_vars) == list(default_quantities((3,)))
    assert tree["prior_sbc"]["energy"].dims == ("chain", "draw")
    assert tree["prior_sbc"]["energy"].shape == (1, 40)
    test = tree["sbc_test"]
    assert test["p_holm"].values == pytest.approx(holm_adjusted(test["p_value"].values))
    assert tree.attrs["smallest_p_holm"] == test["p_holm"].values.min()
    assert tree.attrs["replications"] == 40 and tree.attrs["draws_per_replication"] == 9
    for coverage in (False, True):
        picture = arviz_plots.plot_ecdf_pit(tree, group="prior_sbc", coverage=coverage, backend="matplotlib")
        assert len(picture.viz["plot"].data_vars) == 4


def test_the_verdict_names_what_deviates():
    x, s = _exact(500, 19)
    assert sbc_ranks(x, s).attrs["verdict"] == "no deviation at level 0.05"
    s[..., 0] += 1.0
    tree = sbc_ranks(x, s, {"first": lambda x, y: x[:, 0], "second": lambda x, y: x[:, 1]})
    assert tree.attrs["verdict"] == "not calibrated: first"
    # the draws are larger than the truth, so its rank is low
    assert tree["sbc_test"]["mean_rank"].sel(quantity="first") < 0.3
    narrow = sbc_ranks(x, 0.5 * _exact(500, 19)[1], ["linear_0"])
    assert narrow["sbc_test"]["sd_ratio"].item() > 1.2


def test_data_reach_the_quantities_and_the_seed_moves_only_the_randomisation():
    x, s = _exact(500, 19, ())
    y = np.arange(500)

    def centred(x, y):
        return x - y

    given = sbc_ranks(x + y, s + y[:, None], {"centred": centred}, data=y)
    again = sbc_ranks(x, s, {"centred": lambda x, y: x})
    other = sbc_ranks(x, s, {"centred": lambda x, y: x}, seed=1)
    assert given["prior_sbc"]["centred"].values == pytest.approx(again["prior_sbc"]["centred"].values)
    gap = other["prior_sbc"]["centred"].values - again["prior_sbc"]["centred"].values
    assert (gap != 0).all() and (np.abs(gap) < 1 / 20).all()


def test_default_quantities_are_what_they_are_called():
    from scipy.fft import dctn

    x = RNG.normal(size=(5, 2, 6, 4))
    q = default_quantities((2, 6, 4))
    assert len(q) == 11
    spectrum = dctn(x, axes=(2, 3), norm="ortho").sum(axis=1)
    for (i, j), name in (((0, 0), "frequency_0_0"), ((0, 1), "frequency_0_1"), ((1, 0), "frequency_1_0")):
        assert q[name](x, None) == pytest.approx(spectrum[:, i, j])
    assert q["patch_top_right"](x, None) == pytest.approx(x[:, :, :3, 2:].mean(axis=(1, 2, 3)))
    assert q["energy"](x, None) == pytest.approx((x**2).sum(axis=(1, 2, 3)))
    # unit length: the image of its own direction would have value 1
    gains = [q["linear_0"](e.reshape(1, 2, 6, 4), None).item() for e in np.eye(48)]
    assert np.sum(np.square(gains)) == pytest.approx(1)
    assert list(default_quantities((2,))) == ["linear_0", "linear_1", "energy"]
    assert len(default_quantities(())) == 2


def test_refusals():
    x, s = _exact()
    for truths, draws, words in (
        (x, s[:-1], r"expected \(L, \*event_shape\) and"),
        (x[:, :2], s, "S draws for each of L true images"),
        (x, s[:, :1], "got 1 draw per replication"),
        (x[:1], s[:1], "got 1 replication"),
    ):
        with pytest.raises(ValueError, match=words):
            sbc_ranks(truths, draws)
    broken = s.copy()
    broken[[7, 9], 2, 1] = np.nan
    with pytest.raises(ValueError, match=r"draws of replication 7 hold.*2 of 40"):
        sbc_ranks(x, broken)
    with pytest.raises(ValueError, match=r"unknown quantity 'enrgy'\. Did you mean 'energy'"):
        sbc_ranks(x, s, ["enrgy"])
    with pytest.raises(ValueError, match="quantities is 'energy'"):
        sbc_ranks(x, s, "energy")
    with pytest.raises(ValueError, match="quantity 'a' is a int"):
        sbc_ranks(x, s, {"a": 3})
    with pytest.raises(ValueError, match="quantity 'a' gave shape"):
        sbc_ranks(x, s, {"a": lambda x, y: x})
    with pytest.raises(ValueError, match="quantity 'a' gave NaN"):
        sbc_ranks(x, s, {"a": lambda x, y: x[:, 0] * np.nan})
    with pytest.raises(ValueError, match="data of 3 replications for 40"):
        sbc_ranks(x, s, data=np.zeros(3))
    with pytest.raises(ValueError, match="alpha is 5"):
        sbc_ranks(x, s, alpha=5)

"""Expected coverage and TARP: exact nominal levels, closed forms, refusals."""

import numpy as np
import pytest

from bayes_ir.analysis import expected_coverage, tarp, uniformity_p_value

FIRST = {"first": lambda x, y: x[:, 0]}


def test_central_intervals_are_order_statistics():
    rng = np.random.default_rng(0)
    x, s = rng.normal(size=(300, 1)), rng.normal(size=(300, 19, 1))
    found = expected_coverage(x, s, FIRST, levels=(0.5, 0.9)).sel(quantity="first")
    # k = floor(0.5 * 20 / 2) = 5 and floor(0.1 * 20 / 2) = 1
    assert found["nominal"].values == pytest.approx([0.5, 0.9])
    ordered = np.sort(s[..., 0], axis=1)
    for k, level in ((5, 0.5), (1, 0.9)):
        inside = (ordered[:, k - 1] < x[:, 0]) & (x[:, 0] < ordered[:, -k])
        assert found["coverage"].sel(level=level).item() == pytest.approx(inside.mean())


def test_sets_of_highest_density_have_uniform_weights():
    rng = np.random.default_rng(1)
    x, s = rng.normal(size=(300, 2)), rng.normal(size=(300, 7, 2))
    density = -(x**2).sum(-1), -(s**2).sum(-1)
    found = expected_coverage(x, s, FIRST, log_density=density, levels=(0.4, 0.9))
    found = found.sel(quantity="highest density")
    # ceil(0.4 * 7) = 3 and ceil(0.9 * 7) = 7 of 7 draws
    assert found["nominal"].values == pytest.approx([3 / 8, 7 / 8])
    for k, level in ((3, 0.4), (7, 0.9)):
        threshold = np.sort(density[1], axis=1)[:, -k]
        assert found["coverage"].sel(level=level).item() == pytest.approx((density[0] > threshold).mean())


def test_coverage_of_exact_draws_is_nominal_and_of_narrow_ones_is_not():
    rng = np.random.default_rng(2)
    x, s = rng.normal(size=(4000, 1)), rng.normal(size=(4000, 19, 1))
    found = expected_coverage(x, s, FIRST)
    assert ((found["lower"] <= found["coverage"]) & (found["coverage"] <= found["upper"])).all()
    assert found["p_value"].item() > 0.01
    # at 0.95 nineteen draws attain 1 only
    narrow = expected_coverage(x, 0.8 * s, FIRST)
    assert (narrow["coverage"] < narrow["lower"])[:, :3].all()
    assert narrow["p_holm"].item() < 1e-6


def test_ties_are_broken_at_random():
    rng = np.random.default_rng(3)
    x, s = (rng.integers(0, 2, size=shape).astype(float) for shape in ((4000, 1), (4000, 9, 1)))
    found = expected_coverage(x, s, FIRST, levels=(0.6,))
    assert found["coverage"].item() == pytest.approx(found["nominal"].item(), abs=0.03)


def test_fractions_of_tarp_are_ranks_of_distances():
    rng = np.random.default_rng(4)
    x, s, r = rng.normal(size=(30, 2)), rng.normal(size=(30, 9, 2)), rng.normal(size=(30, 2))
    scale = np.array([1.0, 100.0])
    found = tarp(x * scale, s * scale, r * scale)
    sd = s.std(axis=(0, 1))
    nearer = [
        (np.linalg.norm((s[i] - r[i]) / sd, axis=1) < np.linalg.norm((x[i] - r[i]) / sd)).sum()
        for i in range(30)
    ]
    f = found["f"].values[0]
    assert np.floor(f * 10).tolist() == nearer
    assert found["p_value"].item() == pytest.approx(uniformity_p_value(f).item())
    assert found["coverage"].sel(alpha=1.0).item() == 1 and found["coverage"].sel(alpha=0.0).item() == 0
    assert found["reference"].values.tolist() == ["y-free"]


def test_the_band_holds_whole_curves():
    rng = np.random.default_rng(5)
    inside = []
    for i in range(150):
        found = tarp(rng.normal(size=(20, 2)), rng.normal(size=(20, 5, 2)), seed=i)
        curve = found["coverage"].values[0]
        inside.append(((found["lower"].values <= curve) & (curve <= found["upper"].values)).all())
    # on a grid the band is slightly wider than it need be
    assert 0.9 <= np.mean(inside) <= 1


def test_default_references_are_apart_from_truths_made_with_the_same_seed():
    x = np.random.default_rng(0).normal(size=(500, 4))
    s = np.random.default_rng(1).normal(size=(500, 19, 4))
    assert tarp(x, s, seed=0)["p_value"].item() > 0.01


def test_refusals():
    x, s = np.zeros((4, 2)), np.ones((4, 3, 2))
    for verb in (expected_coverage, tarp):
        with pytest.raises(ValueError, match="S draws for each"):
            verb(x, s[:, :, :1])
        with pytest.raises(ValueError, match="got 1 draw per replication"):
            verb(x, s[:, :1])
        with pytest.raises(ValueError, match="draws of replication 2"):
            verb(x, np.where(np.arange(4)[:, None, None] == 2, np.inf, s))
        with pytest.raises(ValueError, match="got 1 replication"):
            verb(x[:1], s[:1])
    with pytest.raises(ValueError, match=r"y-dependent references have shape \(4, 3\)"):
        tarp(x, s, data_references=np.zeros((4, 3)))
    with pytest.raises(ValueError, match="band is 95"):
        tarp(x, s, band=95)
    with pytest.raises(ValueError, match="levels are"):
        expected_coverage(x, s, levels=(1.0,))
    with pytest.raises(ValueError, match="log_density has shapes"):
        expected_coverage(x, s, log_density=(np.zeros(4), np.zeros((4, 2))))
    with pytest.raises(ValueError, match="data of 1 replications"):
        expected_coverage(x, s, data=[0])

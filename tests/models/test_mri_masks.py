"""Sampling masks: exact acceleration, the centre, the distributions and the Poisson disk's distances."""

import itertools
import math

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch

from bayes_ir.models.operators import mri_masks
from bayes_ir.models.operators.mri_masks import gaussian_1d, gaussian_2d, poisson_disk, uniform_1d
from bayes_ir.models.operators.poisson_darts import poisson_darts

COLUMNS, POINTS = (uniform_1d, gaussian_1d), (gaussian_2d, poisson_disk)
SHAPES = [(64, 64), (48, 71), (33, 50)]


def box(shape, sides):
    """A centred box, written out: as many places below DC as above, one more below for an even side."""
    wanted = np.zeros(shape, dtype=bool)
    rows, columns = (
        range(n // 2 - side // 2, n // 2 - side // 2 + side) for n, side in zip(shape, sides, strict=True)
    )
    for i, j in itertools.product(rows, columns):
        wanted[i, j] = True
    return wanted


@pytest.mark.parametrize("make", COLUMNS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("acceleration", "fraction"), [(4, 0.08), (8, 0.04), (1, 0.32), (3.7, 0.1), (5, 0.2)]
)
def test_columns(make, shape, acceleration, fraction):
    mask = make(shape, acceleration, fraction, seed=4)
    assert mask.dtype == torch.bool and mask.shape == shape and mask.is_contiguous()
    columns = mask[0].numpy()
    assert (mask.numpy() == columns).all() and columns.sum() == round(shape[1] / acceleration)
    centre = box(shape, (shape[0], max(round(fraction * shape[1]), 1)))
    assert (mask.numpy() >= centre).all() and mask[shape[0] // 2, shape[1] // 2]


@pytest.mark.parametrize("make", POINTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("acceleration", "fraction"), [(8, 0.1), (15, 0.08), (15, 0.0), (2.5, 0.04)])
def test_points(make, shape, acceleration, fraction):
    mask = make(shape, acceleration, fraction, seed=4)
    assert mask.dtype == torch.bool and mask.shape == shape and mask.is_contiguous()
    assert mask.sum() == round(shape[0] * shape[1] / acceleration)
    assert (mask.numpy() >= box(shape, [max(round(fraction * n), 1) for n in shape])).all()


@pytest.mark.parametrize("make", COLUMNS + POINTS)
def test_the_seed_makes_the_mask(make):
    masks = [make((32, 32), 4, seed=seed) for seed in (0, 1)]
    assert torch.equal(make((32, 32), 4), masks[0]) and not torch.equal(*masks)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        before = torch.get_rng_state()
        assert torch.equal(make((32, 32), 4, seed=1), masks[1])
        assert torch.equal(torch.get_rng_state(), before)  # the global generator is left alone


@pytest.mark.parametrize("make", COLUMNS + POINTS)
def test_the_default_centre_is_the_published_one(make):
    for acceleration, fraction in ((4, 0.08), (8, 0.04)):
        assert torch.equal(make((100, 100), acceleration), make((100, 100), acceleration, fraction))
    assert make((20, 20), 1).all()


KNOWN = {
    "uniform": [1, 11, 12, 16, 19, 23],
    "gaussian": [7, 9, 11, 12, 13, 16],
    "gaussian_2d": [20, 27, 28, 35, 36, 37, 44, 53],
    "poisson": [2, 5, 23, 26, 36, 49, 55, 60],
}


def test_a_mask_is_known():
    # Neither the order of the draws nor the hash of the seed may change: published masks depend on them.
    assert uniform_1d((2, 24), 4, seed=0)[0].nonzero().flatten().tolist() == KNOWN["uniform"]
    assert gaussian_1d((2, 24), 4, seed=0)[0].nonzero().flatten().tolist() == KNOWN["gaussian"]
    assert gaussian_2d((8, 8), 8, seed=0).flatten().nonzero().flatten().tolist() == KNOWN["gaussian_2d"]
    assert poisson_disk((8, 8), 8, seed=0).flatten().nonzero().flatten().tolist() == KNOWN["poisson"]


def test_uniform_columns_have_equal_chance():
    counts = sum(uniform_1d((1, 20), 4, 0.1, seed=seed)[0].numpy().astype(int) for seed in range(600))
    assert (counts[9:11] == 600).all()
    others = np.delete(counts, [9, 10])  # 3 of 18 each time
    # Sampling without replacement: the counts vary less than independent ones, so this p-value is conservative.
    assert scipy.stats.chisquare(others).pvalue > 1e-4 and others.sum() == 1800


def test_gaussian_columns_have_the_weights():
    # One column besides the centre (DC only): its chance is the weight itself.
    counts = sum(gaussian_1d((1, 16), 8, 0.0, seed=seed)[0].numpy().astype(int) for seed in range(1000))
    weights = np.exp(-0.5 * ((np.arange(16) - 8) / (16 * 15 / 128)) ** 2)
    wanted = np.delete(weights, 8) / np.delete(weights, 8).sum() * 1000
    counts = np.delete(counts, 8)
    ends = [slice(0, 5), *(slice(i, i + 1) for i in range(5, 11)), slice(11, 15)]  # pool the rare ones
    pooled = np.array([[counts[end].sum(), wanted[end].sum()] for end in ends])
    assert scipy.stats.chisquare(*pooled.T).pvalue > 1e-4  # fails once in 10,000 seeds


def test_gaussian_points_have_the_weights():
    counts = sum(
        gaussian_2d((6, 10), 30, 0.0, seed=seed, spread=0.2).numpy().astype(int) for seed in range(1000)
    )
    i, j = np.mgrid[:6, :10]
    weights = np.exp(-(((i - 3) / 6) ** 2 + ((j - 5) / 10) ** 2) / (2 * 0.2**2))
    counts[3, 5] = weights[3, 5] = 0
    wanted = weights / weights.sum() * 1000
    often = wanted > 10
    pooled = np.array([[*counts[often], counts[~often].sum()], [*wanted[often], wanted[~often].sum()]])
    assert scipy.stats.chisquare(*pooled).pvalue > 1e-4


@pytest.mark.parametrize("acceleration", [4, 8, 15])
@pytest.mark.parametrize(
    ("shape", "slope"), [((64, 64), 3.0), ((64, 64), 0.0), ((40, 81), 1.5), ((31, 31), 40.0)]
)
def test_poisson_disk_keeps_its_distance(shape, slope, acceleration):
    mask = poisson_disk(shape, acceleration, seed=7, slope=slope).numpy()
    i, j = np.mgrid[: shape[0], : shape[1]]
    rho = np.hypot((i - shape[0] // 2) / (shape[0] / 2), (j - shape[1] // 2) / (shape[1] / 2))
    profile = 1 + slope * rho
    centre = box(shape, [max(round(0.32 / acceleration * n), 1) for n in shape])
    points = np.argwhere(mask)
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    larger = np.maximum(profile[mask][:, None], profile[mask][None])
    both = centre[mask][:, None] & centre[mask][None]
    ratio = np.where(both, np.inf, distance / larger)
    np.fill_diagonal(ratio, np.inf)
    scale = ratio.min()  # the largest r_0 for which the property holds
    assert scale >= (0.75 if slope < 10 else 0.5) * math.sqrt(0.7 * (profile**-2).sum() / mask.sum())
    # Saturated: every other point is too close to a sample, but for the darts left out.
    others = np.argwhere(~mask)
    gap = np.linalg.norm(others[:, None] - points[None], axis=-1)
    larger = np.maximum(profile[~mask][:, None], profile[mask][None])
    loose = (gap >= scale * larger * (1 + 1e-9)).all(1).mean()
    assert loose < (0.05 if slope else 0.6)
    # A uniform draw of as many points has neighbours.
    if slope:
        drawn = np.random.default_rng(0).permutation(mask.size)[: mask.sum()]
        rows, columns = np.unravel_index(drawn, shape)
        pairs = np.hypot(rows[:, None] - rows, columns[:, None] - columns)
        pairs /= np.maximum(profile[rows, columns][:, None], profile[rows, columns])
        np.fill_diagonal(pairs, np.inf)
        assert pairs.min() < 0.6 * scale


def test_poisson_disk_is_denser_towards_the_centre():
    mask = poisson_disk((96, 96), 8, 0.0, seed=1, slope=3.0).numpy()
    i, j = np.mgrid[:96, :96]
    ring = (np.hypot(i - 48, j - 48) / 8).astype(int)
    density = scipy.ndimage.mean(mask, ring, index=range(6))
    assert (np.diff(density) < 0.02).all() and density[0] > 3 * density[5]


def test_darts_against_a_loop_over_all_pairs():
    rng = np.random.default_rng(2)
    profile = 1.0 + 1.5 * scipy.ndimage.gaussian_filter(rng.random((14, 17)), 2)
    differences = [np.abs(np.diff(profile, axis=axis)).max() for axis in (0, 1)]
    order = rng.permutation(profile.size).tolist()
    darts = poisson_darts(profile, 2 * max(differences), order, core=3, count=40, tolerance=0.05)
    assert len(darts) == 40 and darts[:3] == order[:3]
    spots = [(divmod(point, 17), profile[divmod(point, 17)]) for point in darts]
    ratios = [
        math.dist(p, q) / max(r, s) for k, (p, r) in enumerate(spots) for q, s in spots[max(k + 1, 3) :]
    ]
    scale = min(ratios)
    stuck = []
    for point in order:  # thrown again with the scale found, by brute force
        p, r = divmod(point, 17), profile[divmod(point, 17)]
        if len(stuck) < 3 or all(math.dist(p, q) >= scale * max(r, s) * (1 - 1e-12) for q, s in stuck):
            stuck.append((p, r))
    assert stuck[:30] == spots[:30]  # the same darts, but for the slack between scale and the radius used


@pytest.mark.parametrize("make", COLUMNS + POINTS)
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (((32, 32), 0.5), ValueError, r"expected acceleration >= 1 .*, got 0\.5"),
        (((32, 32), math.nan), ValueError, "expected acceleration >= 1 .*, got nan"),
        (((32, 32), math.inf), ValueError, "expected acceleration >= 1 .*, got inf"),
        (((32, 32), 5000), ValueError, r"acceleration=5000 leaves none of the (32 columns|1024 points)"),
        (
            ((32, 32), 8, 0.5),
            ValueError,
            r"a centre of (16 columns|256 points) \(centre_fraction=0\.5\) exceeds the",
        ),
        (((32, 32), 8, -0.1), ValueError, r"expected 0 <= centre_fraction <= 1, got -0\.1"),
        (((32, 32), 8, 1.5), ValueError, r"expected 0 <= centre_fraction <= 1, got 1\.5"),
        (((32,), 4), ValueError, r"expected shape=\(H, W\), got \(32,\)"),
        (
            ((2, 32, 32), 4),
            ValueError,
            r"expected shape=\(H, W\), got \(2, 32, 32\); coils and channels share",
        ),
        ((32, 4), TypeError, "expected shape to be a tuple"),
        (((32, 0), 4), ValueError, "expected every size in shape >= 1, got 0"),
        (((32, 32), 4, None, 1.5), TypeError, "expected seed to be a whole number, got 1.5"),
    ],
)
def test_refused_in_words(make, arguments, error, words):
    with pytest.raises(error, match=rf"^{make.__name__}: {words}"):
        make(*arguments)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gaussian_1d((8, 8), 2, spread=0.0), r"^gaussian_1d: expected spread > 0, got 0\.0"),
        (lambda: gaussian_2d((8, 8), 2, spread=-1.0), r"^gaussian_2d: expected spread > 0, got -1\.0"),
        (lambda: poisson_disk((8, 8), 2, slope=-1.0), r"^poisson_disk: expected slope >= 0, got -1\.0"),
        (lambda: poisson_disk((8, 8), 2, slope=math.inf), "^poisson_disk: expected slope >= 0, got inf"),
        (lambda: poisson_disk((8, 8), 2, tolerance=0.0), r"^poisson_disk: expected tolerance > 0, got 0\.0"),
    ],
)
def test_settings_refused_in_words(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_everything_public_is_tested():
    assert {make.__name__ for make in COLUMNS + POINTS} == set(mri_masks.__all__)

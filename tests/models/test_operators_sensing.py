"""What the random sensing matrices promise: their law, their seeds, their published figures.

Statistical tolerances are five standard errors: a correct matrix fails one in 1.7 million, and
the seeds are fixed.
"""

import numpy as np
import pytest
import scipy.stats
import torch
from operator_case import close, normal

from bayes_ir.models.operators import (
    CorrelatedSensing,
    GaussianSensing,
    IllConditionedSensing,
    RowOrthogonalSensing,
)

SEEDED = [
    lambda seed: GaussianSensing(8, (4, 4), seed),
    lambda seed: RowOrthogonalSensing(8, (4, 4), seed),
    lambda seed: RowOrthogonalSensing(8, (4, 4), seed, transform="hadamard"),
    lambda seed: IllConditionedSensing(8, (4, 4), 10.0, seed),
    lambda seed: CorrelatedSensing(8, (4, 4), 0.5, seed),
]


@pytest.mark.parametrize("make", SEEDED)
def test_a_seed_is_a_matrix(make):
    matrix = make(7).to_matrix()
    torch.manual_seed(123)
    assert torch.equal(make(7).to_matrix(), matrix)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(123)))
    for other in (0, 8, -7, 2**32 + 7):  # the last one would be 7 again to a 32-bit generator
        assert (make(other).to_matrix() - matrix).abs().max() > 1e-2


@pytest.mark.parametrize("make", SEEDED)
def test_the_global_generator_is_left_alone(make):
    state = torch.get_rng_state()
    make(0).to_matrix()
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_are_not_images_drawn_with_the_same_seed():
    row = GaussianSensing(1, (400,), seed=5, dtype=torch.float64).matrix[0]
    image = torch.randn(400, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    assert abs(torch.corrcoef(torch.stack([row, image]))[0, 1]) < 5 / 400**0.5


def test_gaussian_entries():
    m, n = 50, 400
    entries = GaussianSensing(m, (20, 20), seed=0, dtype=torch.float64).matrix.numpy() * m**0.5
    assert abs(entries.mean()) < 5 / (m * n) ** 0.5
    assert abs(entries.var() - 1) < 5 * (2 / (m * n)) ** 0.5
    assert scipy.stats.kstest(entries.ravel(), "norm").pvalue > 1e-3
    neighbours = [(entries[:, 1:] * entries[:, :-1]).mean(), (entries[1:] * entries[:-1]).mean()]
    assert np.abs(neighbours).max() < 5 / ((m - 1) * (n - 1)) ** 0.5


def test_gaussian_rows_do_not_depend_on_how_many_follow():
    few, many = (GaussianSensing(m, (9,), seed=1, dtype=torch.float64).matrix * m**0.5 for m in (3, 5))
    close(few, many[:3], 1e-15)


def test_the_matrix_is_drawn_in_float64_and_cast():
    for make in (
        lambda dtype: GaussianSensing(5, (7,), seed=1, dtype=dtype).matrix,
        lambda dtype: CorrelatedSensing(5, (7,), 0.3, seed=1, dtype=dtype).matrix,
        lambda dtype: IllConditionedSensing(5, (7,), 9.0, seed=1, dtype=dtype).svd.u,
    ):
        assert torch.equal(make(torch.float64).float(), make(torch.float32))


def test_row_orthogonal_rows_are_distinct_and_nested():
    many = RowOrthogonalSensing(40, (7, 7), seed=2)
    few = RowOrthogonalSensing(10, (7, 7), seed=2)
    assert len(set(many.rows.tolist())) == 40
    assert torch.equal(few.rows, many.rows[:10]) and torch.equal(few.signs, many.signs)
    assert set(many.signs.tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize(("shape", "transform"), [((28, 28), "dct"), ((32, 32), "hadamard")])
def test_signs_spread_the_energy_of_a_smooth_image(shape, transform):
    # Without the signs a constant image has one coefficient, of square N; with them each is
    # near normal with variance 1, and the largest of N squares exceeds 30 with probability 5e-5.
    n = shape[0] * shape[1]
    z = RowOrthogonalSensing(n, shape, seed=0, transform=transform)(torch.ones(shape))
    close(z.square().sum(), n, 1e-5)
    assert z.square().max() < 30


@pytest.mark.parametrize("condition_number", [1.0, 10.0, 1000.0])
def test_condition_number_is_what_was_asked(condition_number):
    operator = IllConditionedSensing(20, (5, 8), condition_number, seed=0, dtype=torch.float64)
    s = np.linalg.svd(operator.to_matrix().numpy(), compute_uv=False)
    assert s[0] / s[-1] == pytest.approx(condition_number, rel=1e-9)
    assert (s**2).sum() == pytest.approx(40, rel=1e-12)
    assert np.ptp(np.log(s[1:] / s[:-1])) < 1e-9  # geometric


def test_condition_number_as_published_is_about_its_square_root():
    s = IllConditionedSensing(400, (1, 28, 28), 1000, seed=0, as_published=True).svd.singular_values
    assert s[0] / s[-1] == pytest.approx(31.35, abs=0.005)
    assert s.square().sum() == pytest.approx(784, rel=1e-12)


def test_singular_vectors_are_uniform():
    # A QR routine alone leaves Q_11 with one sign; by Haar's measure the sign is a fair coin.
    factors = [IllConditionedSensing(3, (4,), 2.0, seed).svd for seed in range(200)]
    for corner in ([f.u[0, 0] > 0 for f in factors], [f.v[0, 0] > 0 for f in factors]):
        assert abs(np.sum(corner) - 100) < 5 * (200 / 4) ** 0.5
    second_moment = torch.stack([f.u.double().square() for f in factors]).mean(0)
    standard_error = (4 / 45 / 200) ** 0.5  # Var(u^2) = 4/45 on the sphere in three dimensions
    assert (second_moment - 1 / 3).abs().max() < 5 * standard_error


def products(lag_rows, lag_columns, **settings):
    """Per seed, M times the mean product of entries so many rows and columns apart."""
    means = []
    for seed in range(30):
        a = CorrelatedSensing(30, (40,), seed=seed, dtype=torch.float64, **settings).matrix * 30**0.5
        means.append((a[lag_rows:, lag_columns:] * a[: 30 - lag_rows, : 40 - lag_columns]).mean().item())
    return np.mean(means), np.std(means, ddof=1) / 30**0.5


@pytest.mark.parametrize("correlation", [0.7, -0.5])
@pytest.mark.parametrize("lags", [(0, 0), (1, 0), (0, 1), (2, 1)])
def test_correlation_of_neighbouring_entries(correlation, lags):
    mean, standard_error = products(*lags, correlation=correlation)
    assert abs(mean - correlation ** sum(lags)) < 5 * standard_error


def test_correlated_frobenius_norms():
    # Exact moments of ||A||_F^2 for M = 40, N = 78, rho = 0.4: tr(P) tr(Q) / M and its spread, with
    # P = Q = R, or K K^T as published.  A single published matrix was measured at 346.
    def norms(as_published):
        operators = (CorrelatedSensing(40, (78,), 0.4, seed, as_published) for seed in range(30))
        return np.array([operator.matrix.double().square().sum() for operator in operators])

    proper, published = norms(False), norms(True)
    assert abs(proper.mean() - 78) < 5 * 2.710 / 30**0.5
    assert abs(published.mean() - 409.49) < 5 * 52.63 / 30**0.5
    assert published.min() < 346 < published.max()


def test_reprs_could_be_typed_back():
    x = normal(16, dtype=torch.float32)
    for operator in (
        GaussianSensing(8, (16,), seed=1),
        RowOrthogonalSensing(8, (16,), seed=1, transform="hadamard"),
        IllConditionedSensing(8, (16,), 10.0, seed=1, as_published=True),
        CorrelatedSensing(8, (16,), 0.5, seed=1, as_published=True),
    ):
        assert torch.equal(eval(repr(operator))(x), operator(x))

"""Expectation propagation against closed forms, finite differences, the normal integral and Gibbs sampling."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from bayes_ir.inference.covariances import ScalarCovariance
from bayes_ir.inference.exact.truncated_gibbs import truncated_gaussian_gibbs
from bayes_ir.inference.expectation_propagation import expectation_propagation, log_evidence
from bayes_ir.inference.predictive import predictive
from bayes_ir.inference.system import measurement_system
from bayes_ir.models import (
    CorrelatedSensing,
    DenseOperator,
    Gaussian,
    GaussianSensing,
    OneBit,
    Quantized,
    RowOrthogonalSensing,
)

NOISE = 0.1
CONVERGED = {"tolerance": 1e-13, "max_sweeps": 2000}


def _rng(seed=0):
    return torch.Generator().manual_seed(seed)


def _normal(*shape, seed=0):
    return torch.randn(*shape, generator=_rng(seed), dtype=torch.float64)


def _one_bit(operator, seed=0, noise=NOISE):
    """A system with one-bit data of a random image, and noised images to evaluate it at."""
    z = operator(_normal(*operator.event_shape, seed=seed))
    y = torch.where(z + noise * _normal(*z.shape, seed=seed + 1) >= 0, 1.0, -1.0).double()
    return measurement_system(operator, OneBit(z, noise), y), _normal(3, *operator.event_shape, seed=seed + 2)


def _law(system, x, beta):
    return predictive(system, ScalarCovariance(torch.tensor(beta**2, dtype=torch.float64)), x, spectral=True)


def _run(system, x, beta, **settings):
    mean, law = system.mean(x), _law(system, x, beta)
    return mean, law, expectation_propagation(law, mean, **(CONVERGED | settings))


@pytest.mark.parametrize("per_site", [False, True])
def test_orthogonal_rows_give_the_diagonal_closed_form(per_site):
    # A A^T = I: the measurements are independent given x_t, and QCS-SGM is exact.
    operator = RowOrthogonalSensing(12, (16,), seed=0, dtype=torch.float64)
    system, x = _one_bit(operator)
    mean, law, result = _run(system, x, 0.7, per_site=per_site)
    slope = system.tilt(mean, (0.7**2 * system.row_energy)).slope
    if per_site:
        torch.testing.assert_close(law.left(result.range_slope), slope, rtol=1e-10, atol=1e-10)
    else:
        # The shared variance is exact only where all sites have one curvature: use identical sites.
        mean = torch.full_like(mean, 0.3)
        system.y.fill_(1.0)
        shared = expectation_propagation(law, mean, **CONVERGED)
        exact = system.tilt(mean, 0.49 * system.row_energy).slope
        torch.testing.assert_close(law.left(shared.range_slope), exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("per_site", [False, True])
def test_tiny_cells_give_the_gaussian_channel(per_site):
    # A cell of width 1e-4 around y tells z + n = y up to 1e-4: r = C^-1 (y - b), the score of DMPS.
    operator = GaussianSensing(12, (20,), seed=1, dtype=torch.float64)
    z = operator(_normal(20, seed=3))
    step = 1e-4
    channel = Quantized(z, NOISE, thresholds=torch.arange(-80_000, 80_001, dtype=torch.float64) * step)
    y = channel.quantise(z + NOISE * _normal(12, seed=4))
    fine = measurement_system(operator, channel, y)
    smooth = measurement_system(operator, Gaussian(z, NOISE), y)
    x = _normal(2, 20, seed=5)
    _, law, ours = _run(fine, x, 0.5, per_site=per_site, tolerance=1e-8)
    flat = _law(smooth, x, 0.5)
    exact = flat.left_adjoint(smooth.residual(x)) / (1 + flat.kappa)
    # The middle of the cell stands for y: an error of at most step / (2 noise) in whitened units.
    assert (law.left(ours.range_slope) - flat.left(exact)).abs().max() < 2 * step / NOISE


@pytest.mark.parametrize("per_site", [False, True])
def test_gaussian_channel_is_exact_in_one_sweep(per_site):
    operator = GaussianSensing(30, (20,), seed=2, dtype=torch.float64)  # more measurements than pixels
    y = operator(_normal(20)) + NOISE * _normal(30, seed=1)
    system = measurement_system(operator, Gaussian(y, NOISE), y)
    x = _normal(4, 20, seed=2)
    _, law, result = _run(system, x, 2.0, per_site=per_site, tolerance=1e-10, damping=0.0)
    exact = law.left_adjoint(system.residual(x)) / (1 + law.kappa)
    torch.testing.assert_close(result.range_slope, exact, rtol=1e-9, atol=1e-9)
    assert result.sweeps.max() <= 2  # one to get there, one to see it


def test_boxes_that_hold_everything_say_nothing():
    operator = GaussianSensing(10, (12,), seed=0, dtype=torch.float64)
    z = torch.zeros(10, dtype=torch.float64)
    system = measurement_system(
        operator, Quantized(z, NOISE, thresholds=torch.tensor([-1e6, 1e6], dtype=torch.float64)), z
    )
    mean, law, result = _run(system, _normal(3, 12), 1.0)
    assert result.range_slope.abs().max() < 1e-12
    assert log_evidence(law, mean, result.sites).abs().max() < 1e-12


@pytest.mark.parametrize("measurements", [2, 4])
def test_evidence_against_the_normal_integral(measurements):
    operator = GaussianSensing(measurements, (6,), seed=measurements, dtype=torch.float64)
    system, x = _one_bit(operator)
    mean, law, result = _run(system, x, 0.6, per_site=True)
    ours = log_evidence(law, mean, result.sites)
    # y_m (z + n)_m > 0: the probability of an orthant of N(D b, D C D), D = diag(y).
    covariance = 0.36 * operator.to_matrix() @ operator.to_matrix().T + NOISE**2 * torch.eye(measurements)
    signs = torch.outer(system.y, system.y)
    for row in range(len(x)):
        law = multivariate_normal(
            -(system.y * mean[row] * NOISE).numpy(), (signs * covariance).numpy(), seed=0
        )
        exact = math.log(law.cdf(np.zeros(measurements)))  # to 1e-5
        # EP is an approximation: within 2 % of the log-probability, the diagonal product being off by far more.
        assert float(ours[row]) == pytest.approx(exact, rel=0.02, abs=0.01)


@pytest.mark.parametrize("per_site", [False, True])
def test_slope_is_the_gradient_of_the_evidence(per_site):
    operator = GaussianSensing(8, (14,), seed=0, dtype=torch.float64)
    system, x = _one_bit(operator)
    mean, law, result = _run(system, x[:1], 0.8, per_site=per_site)
    slope = law.left(result.range_slope)[0]

    def evidence(m):
        sites = expectation_propagation(law, m, per_site=per_site, **CONVERGED).sites
        return log_evidence(law, m, sites)

    h = 1e-5
    for i in range(8):
        step = torch.zeros_like(mean)
        step[0, i] = h
        numeric = (evidence(mean + step) - evidence(mean - step)) / (2 * h)
        assert float(numeric) == pytest.approx(float(slope[i]), abs=1e-8)


@pytest.mark.parametrize("per_site", [False, True])
def test_the_forms_of_the_slope_agree(per_site):
    operator = GaussianSensing(9, (15,), seed=3, dtype=torch.float64)
    system, x = _one_bit(operator)
    mean, law, result = _run(system, x, 1.3, per_site=per_site)
    u = law.left_matrix()
    covariance = u @ torch.diag(law.kappa) @ u.T
    h = result.sites.h - result.sites.tau * mean
    for row in range(len(x)):
        tau = result.sites.tau[row].expand(9)
        sigma = torch.linalg.inv(torch.linalg.inv(covariance) + torch.diag(tau))
        posterior_mean = sigma @ h[row]
        forms = [
            u @ result.range_slope[row],
            h[row] - tau * posterior_mean,
            torch.linalg.solve(covariance, posterior_mean),
            torch.linalg.solve(covariance + torch.diag(1 / tau), h[row] / tau),
        ]
        chi = sigma.diagonal() if per_site else sigma.diagonal().mean().expand(9)
        v = 1 / (1 / chi - tau)
        offset = v * (posterior_mean / chi - h[row])
        forms.append(
            system.tilt((mean[row] + offset)[None], v[None]).slope[0]
        )  # d log Z_m / dm at the cavity
        for form in forms[1:]:
            torch.testing.assert_close(form, forms[0], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("per_site", [False, True])
def test_sign_symmetry(per_site):
    operator = GaussianSensing(10, (15,), seed=4, dtype=torch.float64)
    system, x = _one_bit(operator)
    _, _, result = _run(system, x, 0.9, per_site=per_site)
    system.y.neg_()
    _, _, mirrored = _run(system, -x, 0.9, per_site=per_site)
    torch.testing.assert_close(mirrored.range_slope, -result.range_slope, rtol=1e-10, atol=1e-12)


def test_warm_start_needs_fewer_sweeps_and_ends_at_the_same_point():
    operator = GaussianSensing(40, (78,), seed=0, dtype=torch.float64)
    system, x = _one_bit(operator)
    settings = {"tolerance": 1e-9, "max_sweeps": 200}
    _, law, cold = _run(system, x, 0.5, **settings)
    moved = system.mean(x + 1e-3 * _normal(*x.shape, seed=9))
    warm = expectation_propagation(law, moved, start=cold.sites, **settings)
    afresh = expectation_propagation(law, moved, **settings)
    torch.testing.assert_close(warm.range_slope, afresh.range_slope, rtol=1e-6, atol=1e-7)
    assert (warm.sweeps < afresh.sweeps).all()


def test_a_draw_does_not_depend_on_its_batch():
    operator = GaussianSensing(20, (30,), seed=0, dtype=torch.float64)
    system, x = _one_bit(operator)
    x = torch.cat([x, 50 * x])  # rows that need different numbers of sweeps
    mean, law, together = _run(system, x, 0.5, tolerance=1e-4, max_sweeps=50)
    assert together.sweeps.unique().numel() > 1
    for row in range(len(x)):
        alone = expectation_propagation(law, mean[row : row + 1], tolerance=1e-4, max_sweeps=50)
        assert alone.sweeps == together.sweeps[row]
        torch.testing.assert_close(alone.range_slope[0], together.range_slope[row], rtol=1e-10, atol=1e-12)


def test_non_finite_draws_stay_alone():
    operator = GaussianSensing(10, (12,), seed=0, dtype=torch.float64)
    system, x = _one_bit(operator)
    x[1] = torch.nan
    _, _, result = _run(system, x, 0.5)
    assert result.range_slope[[0, 2]].isfinite().all()
    assert result.range_slope[1].isnan().all()


def test_noise_that_differs_between_measurements():
    operator = GaussianSensing(10, (14,), seed=5, dtype=torch.float64)
    noise = torch.linspace(0.05, 0.5, 10, dtype=torch.float64)
    y = operator(_normal(14)) + noise * _normal(10, seed=1)
    system = measurement_system(operator, Gaussian(y, noise), y)
    x = _normal(2, 14, seed=2)
    _, law, result = _run(system, x, 0.4)
    a = operator.to_matrix()
    exact = torch.linalg.solve(0.16 * a @ a.T + torch.diag(noise**2), (y - x @ a.T).T).T @ a
    torch.testing.assert_close(law.pull(result.range_slope, torch.float64), exact, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("per_site", "bound"), [(True, 0.035), (False, 0.12)])
def test_against_gibbs_sampling(per_site, bound):
    # One case of benchmarks/ep_accuracy.py.  The Monte Carlo error of the reference is below 1 %.
    operator = DenseOperator(_normal(12, 20, seed=7) / math.sqrt(12), dtype=torch.float64)
    system, x = _one_bit(operator, seed=8)
    beta = 0.5
    _, law, result = _run(system, x[:1], beta, per_site=per_site)
    a = operator.to_matrix()
    gibbs = truncated_gaussian_gibbs(
        operator(x[0]),
        beta**2 * a @ a.T + NOISE**2 * torch.eye(12),
        lower=torch.where(system.y > 0, 0.0, -torch.inf),
        upper=torch.where(system.y > 0, torch.inf, 0.0),
        chains=400,
        sweeps=150,
        burn_in=100,
        seed=0,
    )
    exact = gibbs.slope.mean(0) @ a
    error = (law.pull(result.range_slope, torch.float64)[0] - exact).norm() / exact.norm()
    monte_carlo = (gibbs.slope @ a).std(0).norm() / math.sqrt(400) / exact.norm()
    assert monte_carlo < 0.01
    assert error < bound


def test_sites_that_swing_are_damped_until_they_settle():
    """One-bit data, correlated rows, large noise: plain updates of the shared variance swing for ever."""
    operator = CorrelatedSensing(40, (78,), 0.4, seed=0, as_published=True, dtype=torch.float64)
    rng = _rng(1)
    x_0 = torch.rand(78, generator=rng, dtype=torch.float64)
    noise, moved = (torch.randn(n, generator=rng, dtype=torch.float64) for n in (40, 78))
    z = operator(x_0)
    system = measurement_system(
        operator, OneBit(z, NOISE), torch.where(z + NOISE * noise >= 0, 1.0, -1.0).double()
    )
    x = (x_0 + 3 * moved)[None]
    settings = {"tolerance": 1e-6, "max_sweeps": 1000}
    _, _, plain = _run(system, x, 3.0, damping=0.0, **settings)
    _, _, damped = _run(system, x, 3.0, damping=0.2, **settings)
    assert (plain.residual <= 1e-6).all() and (damped.residual <= 1e-6).all()
    torch.testing.assert_close(plain.range_slope, damped.range_slope, rtol=1e-3, atol=1e-5)

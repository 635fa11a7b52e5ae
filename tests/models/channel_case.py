"""The battery every measurement channel has to pass; a test class inherits it and says what it tests."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from channel_protocol import ChannelProtocol, double
from scipy import integrate, stats

# Sampling tests run with fixed seeds; were the seeds drawn anew, one in a million runs would fail.
FALSE_ALARM = 1e-6
BELIEFS = [(-1.3, 0.7), (0.4, 0.05), (0.2, 9.0), (2.5, 0.3)]


class ChannelCase(ChannelProtocol):
    """Give a channel, its values and an independent density; inherit the tests.

    Attributes:
        noise_std: standard deviation in all tests.
    """

    noise_std = 0.3

    def some_values(self) -> torch.Tensor:
        """The first, a middle and the last of ``values``, for tests that take their time."""
        values = self.values()
        return values[[0, len(values) // 2, -1]].unique()

    def density(self, y: float, z: Any) -> Any:
        """``p(y | z)`` at ``noise_std``, a number or an array in z, written with scipy."""
        raise NotImplementedError

    def breakpoints(self, y: float) -> list[float]:
        """Where ``p(y | z)`` changes quickly in z."""
        return [y]

    def grid(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Every value of y against every belief: y (n, 1), mean (b,), variance (b,)."""
        mean, variance = torch.tensor(BELIEFS, dtype=torch.float64).unbind(-1)
        return self.values()[:, None], mean, variance

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_samples_lie_in_the_support_and_have_a_likelihood(self, dtype):
        torch.manual_seed(0)
        z = torch.randn(5, 3, dtype=dtype)
        channel = self.make(z)
        y = channel.sample((7,))
        assert y.shape == (7, 5, 3) and y.dtype == dtype and not y.requires_grad
        assert channel.support.check(y).all()
        log_prob = channel.log_prob(y)
        assert log_prob.shape == (7, 5, 3) and log_prob.dtype == dtype
        pairs = zip(y[0].flatten().tolist(), z.flatten().tolist(), strict=True)
        expected = [math.log(self.density(*pair)) for pair in pairs]
        assert log_prob[0].flatten().tolist() == pytest.approx(expected, rel=2e-5, abs=2e-6)

    def test_noise_may_differ_between_measurements(self):
        noise_std = double(0.1, 0.3, 2.0)
        channel = self.make(double(0.2, 0.2, 0.2), noise_std)
        y = self.values()[:1]
        one_by_one = [self.make(double(0.2), s).log_prob(y) for s in noise_std]
        torch.testing.assert_close(channel.log_prob(y), torch.cat(one_by_one))
        assert len(set(channel.log_prob(y).tolist())) == 3
        assert self.make(torch.tensor(0.0), torch.ones(4, 3)).batch_shape == (4, 3)

    def test_probabilities_sum_to_one(self):
        z = double(-40.0, -1.0, 0.0, 0.3, 7.0)
        y = self.make(z).enumerate_support()
        assert y.shape == (len(self.values()), 5) and torch.equal(y[:, 0], self.values())
        total = self.make(z).log_prob(y).logsumexp(0)
        torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-13)

    def test_mean_and_variance(self):
        z = double(-1.0, 0.0, 0.3)
        channel = self.make(z)
        y = channel.enumerate_support(expand=False)
        p = channel.log_prob(y).exp()
        mean = (p * y).sum(0)
        torch.testing.assert_close(channel.mean, mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(channel.variance, (p * (y - mean) ** 2).sum(0), rtol=1e-10, atol=1e-12)

    def test_sample_frequencies(self):
        torch.manual_seed(1)
        draws = 20_000
        channel = self.make(double(-0.35, 0.1, 0.6))
        y = channel.sample((draws,))
        expected = draws * channel.log_prob(channel.enumerate_support()).exp()
        for column in range(3):
            counts = (y[:, column, None] == self.values()).sum(0).double()
            often = expected[:, column] >= 5
            # cells expected less than five times are pooled
            seen = np.append(counts[often], counts[~often].sum())
            hoped = np.append(expected[often, column], expected[~often, column].sum())
            kept = hoped > 1e-9 * draws
            assert seen[~kept].sum() == 0
            statistic = ((seen - hoped)[kept] ** 2 / hoped[kept]).sum()
            assert stats.chi2.sf(statistic, kept.sum() - 1) > FALSE_ALARM

    def test_tilt_without_uncertainty_is_the_likelihood(self):
        z = double(-60.0, -1.0, 0.0, 0.31, 2.0, 60.0).requires_grad_()
        y = self.values()[:, None]
        log_prob = self.make(z).log_prob(y)
        (gradient,) = torch.autograd.grad(log_prob.sum(0).sum(), z)
        tilt = self.make(z).tilt(y, z, 0.0)
        torch.testing.assert_close(tilt.log_normaliser, log_prob.detach(), rtol=1e-11, atol=1e-300)
        torch.testing.assert_close(tilt.slope.sum(0), gradient, rtol=1e-9, atol=1e-9)
        assert all(term.shape == (len(y), 6) and not term.requires_grad for term in tilt)

    def test_tilted_moments_against_quadrature(self):
        _, mean, variance = self.grid()
        y = self.some_values()[:, None]
        found = torch.stack(self.make(double(0.0)).tilted_moments(y, mean, variance), -1)
        for i, value in enumerate(y[:, 0].tolist()):
            for j, (m, v) in enumerate(BELIEFS):
                expected = self._moments_by_quadrature(value, m, v)
                assert found[i, j].tolist() == pytest.approx(expected, rel=1e-7, abs=1e-9)

    def _moments_by_quadrature(self, y: float, m: float, v: float) -> tuple[float, float, float]:
        def weight(z: Any) -> Any:
            return self.density(y, z) * np.exp(-((z - m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)

        low, high = m - 14 * math.sqrt(v), m + 14 * math.sqrt(v)
        fine = np.linspace(low, high, 2001)
        # quadrature wants numbers of order one: count from the peak and divide by its height
        peak = fine[weight(fine).argmax()]
        height = weight(peak)
        quick = [b + k * self.noise_std for b in self.breakpoints(y) for k in (-3, 0, 3)]
        points = [p for p in (*quick, peak) if low < p < high]
        powers = np.arange(3)
        moments, _ = integrate.quad_vec(
            lambda z: (z - peak) ** powers * weight(z) / height, low, high, epsrel=1e-10, points=points
        )
        mass, mean, square = moments / [1.0, moments[0], moments[0]]
        return math.log(mass * height), peak + mean, square - mean**2

    def test_slope_and_curvature_are_derivatives(self):
        y, mean, variance = self.grid()
        channel, step = self.make(double(0.0)), 1e-4
        here, left, right = (channel.tilt(y, mean + move, variance) for move in (0.0, -step, step))
        # the error of a central difference is step^2 / 6 times a third derivative of at most ten or so
        slope = (right.log_normaliser - left.log_normaliser) / (2 * step)
        curvature = (left.slope - right.slope) / (2 * step)
        torch.testing.assert_close(here.slope, slope, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(here.curvature, curvature, rtol=1e-6, atol=1e-6)

    def test_log_concave_far_in_the_tails(self):
        mean = double(-1e6, -1e4, -300.0, 300.0, 1e4, 1e6)
        y = self.values()[:, None]
        for variance in (0.0, 1.0):
            total = variance + self.noise_std**2
            tilt = self.make(double(0.0)).tilt(y, mean, variance)
            assert all(term.isfinite().all() for term in tilt)
            assert (tilt.log_normaliser <= 1).all()
            assert (tilt.curvature >= 0).all()
            assert (tilt.curvature * total <= 1 + 1e-12).all()
        _, _, tilted_variance = self.make(double(0.0)).tilted_moments(y, mean, 1.0)
        assert (tilted_variance > 0).all()

    def test_float32_is_computed_in_float64(self):
        y, mean, variance = self.grid()
        single = self.make(torch.tensor(0.0)).tilted_moments(y.float(), mean.float(), 2500.0)
        channel = self.make(torch.tensor(0.0)).with_location(double(0.0))
        exact = channel.tilted_moments(y.float(), mean.float().double(), 2500.0)
        assert all(moment.dtype == torch.float32 for moment in single)
        for moment, expected in zip(single, exact, strict=True):
            torch.testing.assert_close(moment, expected.float(), rtol=3e-7, atol=0)
        tilt = self.make(torch.tensor(0.0)).tilt(y.float(), mean.float(), variance.float())
        assert all(term.dtype == torch.float32 for term in tilt)

    def test_gradients_of_log_prob(self):
        z = double(-9.0, -0.4, 0.02, 0.3, 11.0).requires_grad_()
        noise_std = double(0.3, 0.4, 0.2, 1.0, 0.7).requires_grad_()
        y = self.some_values()[:, None]
        assert torch.autograd.gradcheck(lambda z, s: self.make(z, s).log_prob(y), (z, noise_std))

    def test_gradient_of_log_prob_far_in_the_tails(self):
        for dtype in (torch.float32, torch.float64):
            z = torch.tensor([-1e4, -1e2, 1e2, 1e4], dtype=dtype, requires_grad=True)
            y = self.some_values()[:, None]
            (gradient,) = torch.autograd.grad(self.make(z).log_prob(y).sum(), z)
            slope = self.make(z).tilt(y, z, 0.0).slope.sum(0)
            torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=0)
            assert gradient.isfinite().all()

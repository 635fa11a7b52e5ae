"""Poisson counts: the battery of every channel, closed forms, and the normaliser against quadrature."""

import math

import numpy as np
import pytest
import torch
from channel_case import FALSE_ALARM, ChannelCase
from channel_protocol import double
from scipy import stats

from bayes_ir.models.channels import Poisson

PEAK, BACKGROUND, BLACK = 8.0, 1.5, 0.15


def rate(z, peak=PEAK, background=BACKGROUND, black=BLACK):
    counts = peak * (np.asarray(z) - black)
    return np.where(counts > 0, counts + background, background * np.exp(np.minimum(counts, 0) / background))


class PoissonCase(ChannelCase):
    """What the battery calls the noise is the peak here."""

    channel_type = Poisson

    def make(self, z, noise_std=None, **keywords):
        return Poisson(z, PEAK if noise_std is None else noise_std, BACKGROUND, BLACK, **keywords)

    def values(self):
        return double(0.0, 1.0, 2.0, 7.0, 30.0)

    def density(self, y, z):
        return stats.poisson.pmf(y, rate(z))

    def breakpoints(self, y):
        return [BLACK, BLACK + (y - BACKGROUND) / PEAK]

    def test_is_a_pyro_distribution_elementwise_in_z(self):
        channel = self.make(torch.zeros(5, 3))
        assert type(channel) is Poisson and channel.support.is_discrete
        assert channel.batch_shape == (5, 3) and channel.event_shape == ()
        assert all(hasattr(channel, name) for name in channel.arg_constraints)
        assert all(name in repr(channel) for name in ("peak", "background", "black"))

    def test_with_location_broadcasts_and_follows_the_dtype(self):
        peak = double(1.0, 3.0, 20.0)
        channel = self.make(double(-0.4, 0.1, 0.9), peak).expand((6, 3))
        moved = channel.with_location(torch.linspace(-1, 1, 24).reshape(2, 4, 3))
        assert moved.batch_shape == (2, 4, 3) and moved.sample((5,)).shape == (5, 2, 4, 3)
        assert moved.peak.dtype == moved.noise_std.dtype == torch.float32
        assert channel.peak.dtype == channel.noise_std.dtype == torch.float64
        torch.testing.assert_close(
            moved.log_prob(double(2.0)), self.make(moved.location, peak).log_prob(double(2.0))
        )
        with pytest.raises(ValueError, match=r"with_location: the shapes z \(2,\), peak \(3,\)"):
            channel.with_location(torch.zeros(2))

    def test_probabilities_sum_to_one(self):
        y = torch.arange(400, dtype=torch.float64)[:, None]
        total = self.make(double(-40.0, -1.0, 0.2, 0.3, 20.0)).log_prob(y).logsumexp(0)
        torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-12)

    def test_mean_and_variance(self):
        z = double(-1.0, BLACK, 0.3, 5.0)
        channel = self.make(z)
        np.testing.assert_allclose(channel.mean, rate(z), rtol=1e-14)
        assert torch.equal(channel.variance, channel.mean)

    def test_sample_frequencies(self):
        torch.manual_seed(1)
        places, draws = (-0.1, 0.2, 1.7), 20_000
        y = self.make(double(*places)).sample((draws,))
        for column, z in enumerate(places):
            p = stats.poisson.pmf(np.arange(60), rate(z))
            often = np.flatnonzero(draws * p >= 5)
            expected = draws * np.append(p[often], 1 - p[often].sum())
            seen = [(y[:, column] == k).sum().item() for k in often]
            statistic = ((np.append(seen, draws - sum(seen)) - expected) ** 2 / expected).sum()
            assert stats.chi2.sf(statistic, len(often)) > FALSE_ALARM

    def test_tilt_without_uncertainty_is_the_likelihood(self):
        z = double(-60.0, -1.0, 0.0, 0.31, 2.0, 60.0).requires_grad_()
        y = self.values()[:, None]
        log_prob = self.make(z).log_prob(y)
        (gradient,) = torch.autograd.grad(log_prob.sum(), z)
        log_z, slope, curvature = self.make(z).tilt(y, z, 0.0)
        torch.testing.assert_close(log_z, log_prob.detach(), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(slope.sum(0), gradient, rtol=1e-12, atol=1e-12)
        second = torch.autograd.functional.hessian(lambda z: self.make(z).log_prob(y).sum(), z.detach())
        torch.testing.assert_close(curvature.sum(0), -second.diagonal(), rtol=1e-9, atol=1e-9)

    def test_log_concave_far_in_the_tails(self):
        mean, y = double(-1e6, -1e4, -300.0, BLACK, 300.0, 1e4, 1e6), self.values()[:, None]
        for variance in (0.0, 1.0, 1e4):
            tilt = self.make(double(0.0)).tilt(y, mean, variance)
            assert all(term.isfinite().all() for term in tilt)
            assert (tilt.log_normaliser <= 1e-12).all() and (tilt.curvature >= 0).all()
            bound = self.make(double(0.0)).largest_curvature(y)
            assert (tilt.curvature <= bound / (1 + variance * bound) * (1 + 1e-9)).all()

    @pytest.mark.parametrize("bad", [0.0, -0.1, math.inf, math.nan])
    def test_refuses_noise_std(self, bad):
        value = torch.tensor([1.0, bad, 1.0])
        for arguments, said in (
            ((value, 1.0), rf"^Poisson: peak contains {bad:g} \(1 of 3 entries\), .*counts per unit"),
            ((1.0, value), rf"^Poisson: background contains {bad:g} .*forbids every z <= black"),
        ):
            with pytest.raises(ValueError, match=said):
                Poisson(torch.zeros(3), *arguments)

    def test_refuses_z(self):
        with pytest.raises(ValueError, match=r"Poisson: z contains nan \(1 of 2 entries\).*diverging"):
            self.make(torch.tensor([0.0, math.nan]))
        with pytest.raises(ValueError, match=r"Poisson: black contains inf"):
            Poisson(torch.zeros(2), 1.0, 1.0, math.inf)
        with pytest.raises(TypeError, match=r"peak is 'much', expected a number or a tensor"):
            self.make(torch.zeros(3), "much")

    def test_refuses_shapes_that_do_not_broadcast(self):
        with pytest.raises(ValueError, match=r"the shapes z \(5, 3\), peak \(4,\).* do not broadcast"):
            self.make(torch.zeros(5, 3), torch.ones(4))


class TestPoisson(PoissonCase):
    pass


@pytest.mark.parametrize("bad", [-1.0, 0.5])
def test_refuses_what_is_no_count(bad):
    with pytest.raises(ValueError, match=rf"^Poisson.log_prob: y contains {bad:g} .*whole numbers from 0 on"):
        Poisson(torch.zeros(2), 1.0, 1.0).log_prob(torch.tensor([3.0, bad]))


def test_images_from_minus_one_to_one():
    """Black is -1 there: the same counts as for the image in [0, 1] that it stands for."""
    z = double(-1.2, -1.0, -0.3, 1.0)
    here, there = Poisson(z, 15.0, 0.7, black=-1.0), Poisson((z + 1) / 2, 30.0, 0.7)
    torch.testing.assert_close(here.log_prob(double(4.0)), there.log_prob(double(4.0)))
    torch.testing.assert_close(
        here.tilt(double(4.0), z, 0.4)[0], there.tilt(double(4.0), (z + 1) / 2, 0.1)[0]
    )


def test_concave_and_smooth_across_black():
    z = torch.linspace(-1, 1.4, 24_001, dtype=torch.float64).requires_grad_()
    for y in (0.0, 1.0, 2.0, 40.0):
        (slope,) = torch.autograd.grad(Poisson(z, PEAK, BACKGROUND, BLACK).log_prob(double(y)).sum(), z)
        fall = -slope.diff()
        largest = Poisson(z.detach(), PEAK, BACKGROUND, BLACK).largest_curvature(double(y)).item()
        assert (fall >= -1e-10).all() and fall.max() <= 1e-4 * largest * (1 + 1e-6)


def test_closed_forms_far_from_black():
    """Where light is never negative, E[exp(-rate)] and E[rate exp(-rate)] of a Gaussian rate are known."""
    peak, b, m, v = 20.0, 0.3, 4.0, 0.02
    mean, variance = peak * m + b, peak**2 * v
    log_z, slope, curvature = Poisson(double(m), peak, b).tilt(double(0.0), double(m), v)
    assert log_z.item() == pytest.approx(-mean + variance / 2, rel=1e-12)
    assert slope.item() == pytest.approx(-peak, rel=1e-12) and curvature.item() == pytest.approx(0, abs=1e-9)
    log_z, slope, _ = Poisson(double(m), peak, b).tilt(double(1.0), double(m), v)
    assert log_z.item() == pytest.approx(-mean + variance / 2 + math.log(mean - variance), rel=1e-12)
    assert slope.item() == pytest.approx(peak * (1 / (mean - variance) - 1), rel=1e-12)


def test_many_counts_are_a_gaussian_measurement():
    y, peak = 90_000.0, 1000.0
    channel = Poisson(double(0.0), peak, 2.0)
    scale = channel.scale(double(y)).item()
    assert scale == pytest.approx(300 / peak)
    assert channel.scale(double(0.0)).item() == channel.noise_std.item() == pytest.approx(math.sqrt(2) / peak)
    place = (y - 2) / peak
    for variance in (0.0, 1e-3, 10.0):
        tilt = channel.tilt(double(y), double(place + 0.1), variance)
        # the next term of the expansion in 1 / sqrt(y) is a few times 1 / 300
        assert tilt.slope.item() == pytest.approx(-0.1 / (variance + scale**2), rel=0.01)
        assert tilt.curvature.item() == pytest.approx(1 / (variance + scale**2), rel=0.01)


def reference(y, m, v, peak, b):
    """log Z, slope and curvature by composite Gauss-Legendre quadrature in extended precision."""
    y, m, v, peak, b = map(np.longdouble, (y, m, v, peak, b))

    def log_weight(z):
        light, dark = peak * np.maximum(z, 0), peak * np.minimum(z, 0) / b
        return y * (np.log(light + b) + dark) - light - b * np.exp(dark) - (z - m) ** 2 / (2 * v)

    def slope_of(z):
        light, dark = peak * np.maximum(z, 0), peak * np.minimum(z, 0) / b
        return peak * (y / (light + b) - np.exp(dark))

    def halve(low, high, left):
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if left(middle) else (low, middle)
        return (low + high) / 2

    sd = np.sqrt(v)
    far = 40 * sd + v * (abs(slope_of(m)) + abs(slope_of(-10 * abs(m) - 1)))
    top = halve(m - far, m + far, lambda z: slope_of(z) > (z - m) / v)
    height = log_weight(top)
    ends = [halve(top, top + s * 30 * sd, lambda z: height - log_weight(z) < 60) for s in (-1, 1)]
    shares = np.append(np.linspace(0, 1, 41), 10.0 ** -np.arange(2, 9))
    cuts = [top + (end - top) * share for end in ends for share in shares]
    cuts += [s * b / peak * 2.0**k for s in (-1, 1) for k in np.arange(-4, 40, 0.5)] + [0.0]
    cuts = np.unique(np.clip(np.array(cuts, np.longdouble), *ends))
    x, w = np.polynomial.legendre.leggauss(20)
    z = (cuts[:-1, None] + cuts[1:, None]) / 2 + np.diff(cuts)[:, None] / 2 * x
    p = np.exp(log_weight(z) - height) * np.diff(cuts)[:, None] / 2 * w
    mass = p.sum()
    p /= mass
    mean, slope = top + (p * (z - top)).sum(), (p * slope_of(z)).sum()
    curvature = (p * (slope_of(mean) - slope_of(z)) * (z - mean)).sum() / v
    log_z = np.log(mass) + height - 0.5 * np.log(2 * np.pi * v) - math.lgamma(y + 1)
    return float(log_z), float(slope), float(curvature)


PLACES = [
    (0, -5, 50, 0.5), (0, 0, 50, 0.5), (0, 0.3, 1000, 30), (0, 5, 1, 0.01), (1, -5, 50, 0.5), (1, 0, 5000, 0.01),
    (2, 0.1, 20, 3), (7, 5, 10, 0.5), (40, -1, 30, 5), (40, 1.5, 30, 1), (1000, 3, 300, 100),
    (100_000, 5, 20_000, 2), (100_000, -5, 20_000, 2), (99_999, 4.99, 20_000, 300),
]  # fmt: skip
CASES = [(y, m, v, peak, b) for y, m, peak, b in PLACES for v in (1e-8, 1e-4, 0.03, 1.0, 1e4)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_normaliser_against_quadrature(case):
    y, m, v, peak, b = case
    log_z, slope, curvature = reference(*case)
    found = Poisson(double(0.0), peak, b).tilt(double(y), double(m), v)
    assert found.log_normaliser.item() == pytest.approx(log_z, rel=1e-9, abs=1e-12)
    assert found.slope.item() == pytest.approx(slope, rel=1e-9, abs=1e-10 / math.sqrt(v))
    assert found.curvature.item() == pytest.approx(curvature, rel=1e-9, abs=1e-10 / v)


def test_beliefs_of_every_kind_at_once():
    """A batch is cut into groups by where its beliefs lie; each entry is what it is alone."""
    y, m, v = double(0.0, 3.0, 9.0)[:, None, None], double(-3.0, 0.0, 2.0)[:, None], double(1e-6, 0.1, 1e3)
    channel = Poisson(double(0.0), 40.0, 0.8)
    together = channel.tilt(y, m, v)
    for at in np.ndindex(3, 3, 3):
        alone = channel.tilt(y[at[0]], m[at[1]], v[at[2]])
        for one, many in zip(alone, together, strict=True):
            assert one.item() == pytest.approx(many[at].item(), rel=1e-12, abs=1e-12)

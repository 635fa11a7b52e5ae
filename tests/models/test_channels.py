import math

import numpy as np
import pytest
import torch
from channel_case import FALSE_ALARM, ChannelCase
from channel_protocol import double
from scipy import special, stats
from test_poisson import PoissonCase

import bayes_ir.models.channels as channels
from bayes_ir.models.channels import Channel, Gaussian, OneBit, Quantized, TiltedNormaliser


class TestGaussian(ChannelCase):
    channel_type = Gaussian
    discrete = False

    def make(self, z, noise_std=None, **keywords):
        return Gaussian(z, self.noise_std if noise_std is None else noise_std, **keywords)

    def values(self):
        return double(-1.7, -0.2, 0.0, 0.9)

    def density(self, y, z):
        s = self.noise_std
        return np.exp(-((y - z) ** 2) / (2 * s**2)) / math.sqrt(2 * math.pi * s**2)

    def test_probabilities_sum_to_one(self):
        y = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
        total = torch.trapezoid(self.make(double(-1.0, 0.3)).log_prob(y).exp(), y, dim=0)
        torch.testing.assert_close(total, torch.ones_like(total))

    def test_mean_and_variance(self):
        channel = self.make(double(-1.0, 0.3))
        assert channel.mean.tolist() == [-1.0, 0.3]
        assert channel.variance.tolist() == pytest.approx([0.09, 0.09])

    def test_sample_frequencies(self):
        torch.manual_seed(1)
        y = self.make(double(-0.35, 0.6)).sample((20_000,))
        for column, z in enumerate((-0.35, 0.6)):
            assert stats.kstest(y[:, column].numpy(), "norm", (z, self.noise_std)).pvalue > FALSE_ALARM

    def test_rsample_is_differentiable(self):
        torch.manual_seed(3)
        z, s = double(0.5).requires_grad_(), double(0.3).requires_grad_()
        channel = self.make(z, s)
        assert channel.has_rsample
        y = channel.rsample((4,))
        y.sum().backward()
        assert z.grad.item() == 4
        assert s.grad.item() == pytest.approx(float(((y - z) / s).detach().sum()))


class TestOneBit(ChannelCase):
    channel_type = OneBit
    threshold = 0.25

    def make(self, z, noise_std=None, **keywords):
        return OneBit(z, self.noise_std if noise_std is None else noise_std, self.threshold, **keywords)

    def values(self):
        return double(-1.0, 1.0)

    def density(self, y, z):
        return special.ndtr(y * (z - self.threshold) / self.noise_std)

    def breakpoints(self, y):
        return [self.threshold]

    def test_dither(self):
        tau = double(-1.0, 0.0, 1.0)
        channel = OneBit(double(0.4), 0.3, tau)
        assert channel.batch_shape == (3,)
        expected = stats.norm.logcdf((0.4 - tau.numpy()) / 0.3)
        np.testing.assert_allclose(channel.log_prob(double(1.0)), expected, rtol=1e-12)
        moved = channel.with_location(torch.zeros(5, 1))
        assert moved.batch_shape == (5, 3) and moved.threshold.dtype == torch.float32
        tilt = channel.tilt(double(1.0), double(0.4), 0.91)
        np.testing.assert_allclose(tilt.log_normaliser, stats.norm.logcdf(0.4 - tau.numpy()), rtol=1e-12)

    def test_the_threshold_itself_counts_as_above(self):
        nearly_noise_free = OneBit(double(0.25 - 1e-9, 0.25, 0.25 + 1e-9), 1e-300, 0.25)
        assert nearly_noise_free.sample().tolist() == [-1, 1, 1]

    @pytest.mark.parametrize("bad", [0.0, 0.5, 2.0])
    def test_refuses_values_other_than_signs(self, bad):
        said = (
            rf"^OneBit.log_prob: y contains {bad:g} \(1 of 2 entries\), expected only -1 and 1; .*2 \* y - 1"
        )
        with pytest.raises(ValueError, match=said):
            OneBit(torch.zeros(2), 0.1).log_prob(torch.tensor([1.0, bad]))

    def test_refuses_thresholds(self):
        with pytest.raises(
            ValueError, match=r"^OneBit: threshold contains inf \(1 of 2 entries\), expected finite"
        ):
            OneBit(torch.zeros(2), 0.1, torch.tensor([0.0, math.inf]))
        with pytest.raises(ValueError, match=r"threshold \(4,\) do not broadcast"):
            OneBit(torch.zeros(2), 0.1, torch.zeros(4))

    def test_integer_signs_are_measurements_too(self):
        y = torch.tensor([-1, 1])
        channel = OneBit(double(0.3, 0.2), 0.1)
        assert torch.equal(channel.log_prob(y), channel.log_prob(y.double()))


class TestQuantizedUniform(ChannelCase):
    channel_type = Quantized
    step = 0.5

    def make(self, z, noise_std=None, **keywords):
        noise_std = self.noise_std if noise_std is None else noise_std
        return Quantized(z, noise_std, bits=3, step=self.step, **keywords)

    def values(self):
        return self.step * double(-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5)

    def cell(self, y):
        k = round(y / self.step + 3.5)
        edges = [-math.inf, *(self.step * t for t in range(-3, 4)), math.inf]
        return edges[k], edges[k + 1]

    def density(self, y, z):
        lower, upper = ((edge - z) / self.noise_std for edge in self.cell(y))
        # whichever tail is the smaller one
        mirrored = special.ndtr(-lower) - special.ndtr(-upper)
        return np.where(lower + upper > 0, mirrored, special.ndtr(upper) - special.ndtr(lower))

    def breakpoints(self, y):
        return [edge for edge in self.cell(y) if math.isfinite(edge)]


class TestQuantizedByThresholds(TestQuantizedUniform):
    edges = (-1.0, -0.2, 0.05, 0.4)

    def make(self, z, noise_std=None, **keywords):
        noise_std = self.noise_std if noise_std is None else noise_std
        return Quantized(z, noise_std, thresholds=torch.tensor(self.edges, dtype=torch.float64), **keywords)

    def values(self):
        return self.make(double(0.0)).codes

    def cell(self, y):
        edges = (-math.inf, *self.edges, math.inf)
        k = int(np.searchsorted(self.edges, y))
        return edges[k], edges[k + 1]

    def test_codes_are_midpoints(self):
        assert self.values().tolist() == pytest.approx([-1.4, -0.6, -0.075, 0.225, 0.575], rel=1e-14)


CASES = [TestGaussian, TestOneBit, TestQuantizedUniform, TestQuantizedByThresholds, PoissonCase]
# A StackedChannel is made of the others, and tested beside the models that need it (tests/inference/test_structure.py).
EXPORTED = [
    getattr(channels, name)
    for name in channels.__all__
    if name not in ("Channel", "StackedChannel", "TiltedNormaliser")
]


@pytest.mark.parametrize("channel_type", EXPORTED, ids=lambda c: c.__name__)
def test_every_exported_channel_keeps_the_protocol(channel_type):
    assert issubclass(channel_type, Channel)
    assert channel_type in {case.channel_type for case in CASES}
    case = next(case for case in CASES if case.channel_type is channel_type)()
    channel = case.make(double(0.1, 0.2))
    assert {"location", "noise_std", *channel.elementwise} <= set(channel.arg_constraints)
    assert isinstance(channel.tilt(case.values()[0], double(0.0), 1.0), TiltedNormaliser)
    assert channel_type.__doc__ and "Args:" in channel_type.__doc__
    # one formula, in the base: a channel brings its normaliser, and the moments follow
    assert channel_type.tilted_moments is Channel.tilted_moments
    assert channel_type.with_location is Channel.with_location


@pytest.mark.parametrize(
    ("symmetric", "y"),
    [(OneBit(double(0.0), 0.3), 1.0), (Quantized(double(0.0), 0.3, bits=2, step=0.7), 0.35)],
    ids=["one_bit", "quantized"],
)
def test_sign_symmetry(symmetric, y):
    mean = double(-50.0, -1.2, 0.3, 4.0)
    here, there = symmetric.tilt(double(y), mean, 0.4), symmetric.tilt(double(-y), -mean, 0.4)
    torch.testing.assert_close(here.log_normaliser, there.log_normaliser, rtol=1e-15, atol=0)
    torch.testing.assert_close(here.slope, -there.slope, rtol=1e-15, atol=0)
    torch.testing.assert_close(here.curvature, there.curvature, rtol=1e-15, atol=0)


def test_one_bit_is_the_one_bit_quantizer():
    z = torch.linspace(-30, 30, 61, dtype=torch.float64)
    y = double(-1.0, 1.0)[:, None]
    one_bit, quantized = OneBit(z, 0.3), Quantized(z, 0.3, bits=1, step=0.8)
    torch.testing.assert_close(one_bit.log_prob(y), quantized.log_prob(0.4 * y), rtol=1e-12, atol=1e-300)
    pairs = zip(one_bit.tilt(y, z, 0.2), quantized.tilt(0.4 * y, z, 0.2), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-300)


def test_fine_cells_are_gaussian_measurements():
    z, y = double(-0.3, 0.2, 1.4), double(0.1)
    step = 1e-6
    cell = Quantized(z, 0.3, thresholds=double(0.1 - step / 2, 0.1 + step / 2))
    for variance in (0.0, 0.5):
        fine, gaussian = cell.tilt(y, z, variance), Gaussian(z, 0.3).tilt(y, z, variance)
        torch.testing.assert_close(
            fine.log_normaliser - math.log(step), gaussian.log_normaliser, rtol=0, atol=1e-9
        )
        torch.testing.assert_close(fine.slope, gaussian.slope, rtol=1e-9, atol=0)
        torch.testing.assert_close(fine.curvature, gaussian.curvature, rtol=1e-9, atol=0)

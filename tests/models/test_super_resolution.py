"""Downsampling against Pillow, scipy.ndimage, torch's own resampling and numpy."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from operator_case import OperatorCase, close, normal
from PIL import Image

from bayes_ir.models.operators.super_resolution import BicubicDownsampling, BlockAverage, GaussianDownsampling


def basis(operator):
    """Every image with a single one, shape (N, C, H, W)."""
    n = operator.event_shape.numel()
    return np.eye(n).reshape(n, *operator.event_shape)


def as_columns(measurements):
    return measurements.reshape(len(measurements), -1).T


class TestBlockAverage(OperatorCase):
    shape, factor = (2, 4, 6), 2

    def build(self, dtype=torch.float64):
        return BlockAverage(self.shape, self.factor, dtype)

    def truth(self, operator):
        (c, h, w), f = self.shape, self.factor
        blocks = basis(operator).reshape(-1, c, h // f, f, w // f, f)
        return as_columns(blocks.mean(axis=(3, 5)))


class TestBlockAverageByThree(TestBlockAverage):
    shape, factor = (1, 9, 3), 3


class TestBlockAverageByOne(TestBlockAverage):
    shape, factor = (3, 2, 3), 1


class TestBicubic(OperatorCase):
    shape, factor = (2, 8, 6), 2

    def build(self, dtype=torch.float64):
        return BicubicDownsampling(self.shape, self.factor, dtype)

    def truth(self, operator):
        sides = [side // self.factor for side in self.shape[1:]]
        x = torch.as_tensor(basis(operator))
        resized = torch.nn.functional.interpolate(
            x, sides, mode="bicubic", antialias=True, align_corners=False
        )
        return as_columns(resized.numpy())


class TestBicubicByThree(TestBicubic):
    shape, factor = (1, 9, 6), 3


class TestBicubicToOnePixel(TestBicubic):
    shape, factor = (3, 4, 4), 4


class TestGaussian(OperatorCase):
    shape, factor, settings = (2, 6, 4), 2, {}

    def build(self, dtype=torch.float64):
        return GaussianDownsampling(self.shape, self.factor, dtype=dtype, **self.settings)

    def truth(self, operator):
        sigma, truncate = self.settings.get("sigma", self.factor / 2), self.settings.get("truncate", 4.0)
        blurred = scipy.ndimage.gaussian_filter(
            basis(operator), sigma, axes=(2, 3), truncate=truncate, mode="reflect"
        )
        return as_columns(blurred[..., :: self.factor, :: self.factor])


class TestGaussianByThree(TestGaussian):
    shape, factor, settings = (1, 9, 6), 3, {"sigma": 0.8, "truncate": 2.5}


class TestGaussianWiderThanTheImage(TestGaussian):
    shape, factor, settings = (1, 4, 6), 2, {"sigma": 1.2, "truncate": 6.0}


def pillow(x, resize):
    """A Pillow operation on every channel in mode F, float32."""
    return np.stack([np.asarray(resize(Image.fromarray(channel.astype(np.float32)))) for channel in x])


@pytest.mark.parametrize(
    ("shape", "factor"), [((3, 48, 64), 4), ((1, 33, 55), 11), ((2, 256, 256), 8), ((1, 6, 6), 6)]
)
def test_bicubic_agrees_with_pillow_to_its_rounding(shape, factor):
    x = normal(*shape).float()
    sides = (shape[2] // factor, shape[1] // factor)
    wanted = pillow(x.numpy(), lambda image: image.resize(sides, Image.Resampling.BICUBIC))
    double = BicubicDownsampling(shape, factor, torch.float64)(x.double())
    assert np.abs(double.numpy() - wanted).max() < 3e-7  # Pillow stores float32 between its two passes
    close(BicubicDownsampling(shape, factor)(x), wanted, 2e-6)


@pytest.mark.parametrize(("shape", "factor"), [((3, 48, 64), 4), ((1, 35, 21), 7)])
def test_block_average_agrees_with_pillow(shape, factor):
    x = normal(*shape).float()
    wanted = pillow(x.numpy(), lambda image: image.reduce(factor))
    close(BlockAverage(shape, factor, torch.float64)(x.double()), wanted, 1e-6)


@pytest.mark.parametrize("factor", [2, 5, 8])
def test_gaussian_agrees_with_scipy_at_photograph_size(factor):
    shape = (3, 80, 160)
    x = normal(*shape)
    wanted = scipy.ndimage.gaussian_filter(x.numpy(), factor / 2, axes=(1, 2))[:, ::factor, ::factor]
    close(GaussianDownsampling(shape, factor, dtype=torch.float64)(x), wanted, 1e-13)


@pytest.mark.parametrize("make", [BlockAverage, BicubicDownsampling, GaussianDownsampling])
def test_constant_images_stay_constant(make):
    operator = make((2, 12, 16), 4, dtype=torch.float64)
    close(operator(torch.full((2, 12, 16), 0.3, dtype=torch.float64)), np.full((2, 3, 4), 0.3), 1e-14)


def test_where_the_samples_sit():
    ramp = torch.arange(64, dtype=torch.float64).expand(1, 64, 64)
    block, cubic, gaussian = (
        make((1, 64, 64), 4, dtype=torch.float64)(ramp)[0, 8, 4:-4]
        for make in (BlockAverage, BicubicDownsampling, GaussianDownsampling)
    )
    first = 4.0 * torch.arange(4, 12)
    close(block, first + 1.5)
    close(cubic, first + 1.5)
    close(gaussian, first)


def test_singular_values_of_block_averages():
    svd = BlockAverage((3, 15, 10), 5).svd
    close(svd.singular_values, np.full(3 * 3 * 2, 0.2), 1e-6)
    assert BlockAverage((3, 15, 10), 5, torch.float64).condition_number() == pytest.approx(1)


def test_the_repr_tells_the_settings():
    assert repr(BlockAverage((3, 8, 8), 4)) == "BlockAverage(event_shape=(3, 8, 8), factor=4)"
    text = "GaussianDownsampling(event_shape=(3, 8, 8), factor=4, sigma=2.0, truncate=4.0)"
    assert repr(GaussianDownsampling((3, 8, 8), 4)) == text


MAKERS = [BlockAverage, BicubicDownsampling, GaussianDownsampling]
REFUSED = [
    (
        (1, 28, 28),
        3,
        ValueError,
        r"factor=3 does not divide .*\(1, 28, 28\); expected one of 1, 2, 4, 7, 14, 28",
    ),
    ((1, 28, 30), 4, ValueError, "expected one of 1, 2, or crop the image to multiples of 4"),
    ((1, 28, 28), 56, ValueError, "factor=56 does not divide"),
    ((1, 28, 28), 0, ValueError, "expected factor >= 1, got 0"),
    ((1, 28, 28), -2, ValueError, "expected factor >= 1, got -2"),
    ((1, 28, 28), 2.0, TypeError, "factor to be a whole number, got 2.0"),
    ((28, 28), 2, ValueError, r"got \(28, 28\); try \(1, 28, 28\)"),
    (28, 2, TypeError, "expected event_shape to be a tuple"),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("shape", "factor", "error", "words"), REFUSED)
def test_refused_in_words(make, shape, factor, error, words):
    with pytest.raises(error, match=f"^{make.__name__}: .*{words}"):
        make(shape, factor)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"sigma": 0.0}, ValueError, "expected 0 < sigma < infinity, in pixels, got 0.0"),
        ({"sigma": -1}, ValueError, "0 < sigma"),
        ({"sigma": float("nan")}, ValueError, "got nan"),
        ({"sigma": "wide"}, TypeError, "sigma to be a number of pixels, got 'wide'"),
        ({"truncate": 0}, ValueError, "0 < truncate"),
        ({"dtype": torch.int32}, TypeError, "expected a real floating dtype"),
    ],
)
def test_gaussian_settings_refused_in_words(settings, error, words):
    with pytest.raises(error, match=f"^GaussianDownsampling: .*{words}"):
        GaussianDownsampling((1, 8, 8), 2, **settings)

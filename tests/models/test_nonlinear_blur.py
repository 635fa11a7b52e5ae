"""Nonlinear blur against scipy.ndimage.convolve between two curves."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from nonlinear_case import NonlinearCase
from operator_case import JVP_WARNS, close

from bayes_ir.models.operators.blur_kernels import motion_kernel
from bayes_ir.models.operators.nonlinear_blur import NonlinearBlur

MODES = {
    "zero": "constant",
    "reflect": "reflect",
    "mirror": "mirror",
    "replicate": "nearest",
    "circular": "wrap",
}
KERNEL = np.random.default_rng(0).random((3, 5))
KERNEL[0, 1] = KERNEL[2, 4] = 0  # taps that are skipped
KERNEL /= KERNEL.sum()


class TestReflected(NonlinearCase):
    image_range, typed = (-0.2, 1.3), False
    boundary, gamma, data_range = "reflect", 2.2, (0.0, 1.0)

    def build(self, dtype=torch.float64):
        return NonlinearBlur(KERNEL, (2, 6, 7), self.gamma, self.data_range, self.boundary, dtype)

    def truth(self, operator, x):
        low, high = self.data_range
        light = np.maximum((x - low) / (high - low), 0) ** self.gamma
        kernel = operator.kernel.double().numpy()
        seen = np.stack([scipy.ndimage.convolve(c, kernel, mode=MODES[self.boundary]) for c in light])
        return low + (high - low) * np.maximum(seen, 0) ** (1 / self.gamma)


class TestZeroInOtherUnits(TestReflected):
    boundary, gamma, data_range, image_range = "zero", 3.0, (-1.0, 1.0), (-1.1, 1.2)


class TestCircular(TestReflected):
    boundary, gamma = "circular", 0.8


class TestFromSeed(TestReflected):
    def build(self, dtype=torch.float64):
        return NonlinearBlur.from_seed((3, 8, 9), seed=3, kernel_size=5, dtype=dtype)


def test_kernel_is_fixed_at_construction():
    operator = NonlinearBlur.from_seed((1, 12, 12), 5, kernel_size=7, intensity=0.3, dtype=torch.float64)
    close(operator.kernel, motion_kernel(7, 0.3, 5))
    other = NonlinearBlur.from_seed((1, 12, 12), 6, kernel_size=7, dtype=torch.float64)
    x = torch.rand(1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    first = operator(x)
    torch.manual_seed(2)
    assert torch.equal(operator(x), first) and (other(x) - first).abs().max() > 0.01


def test_is_the_mean_of_frames_in_units_of_light():
    """Equation 1 of Nah et al. by hand: three frames of a point that moves to the right."""
    kernel = np.full((1, 3), 1 / 3)
    x = torch.zeros(1, 1, 7, dtype=torch.float64)
    x[..., 3] = 1.0
    z = NonlinearBlur(kernel, (1, 1, 7), gamma=2.2, dtype=torch.float64)(x)
    streak = (1 / 3) ** (1 / 2.2)
    close(z[0, 0], [0, 0, streak, streak, streak, 0, 0])
    assert streak > 0.6  # a linear blur would leave 0.33


def test_keeps_uniform_images_and_is_linear_at_gamma_one():
    grey = torch.full((1, 6, 7), 0.37, dtype=torch.float64)
    close(NonlinearBlur(KERNEL, (1, 6, 7), dtype=torch.float64)(grey), grey)
    x = torch.rand(1, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    linear = NonlinearBlur(KERNEL, (1, 6, 7), gamma=1.0, dtype=torch.float64)(x)
    close(linear[0], scipy.ndimage.convolve(x[0].numpy(), KERNEL, mode="reflect"))


@JVP_WARNS
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-8])
def test_slope_is_bounded_however_dark(scale):
    operator = NonlinearBlur(KERNEL, (1, 4, 5), boundary="zero", dtype=torch.float64)
    x = scale * torch.rand(1, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slopes = torch.func.jacrev(operator)(x).flatten(3).flatten(0, 2)  # (pixels, pixels)
    shares = NonlinearBlur(KERNEL, (1, 4, 5), 1.0, boundary="zero", dtype=torch.float64)
    bound = torch.func.jacrev(shares)(x).flatten(3).flatten(0, 2) ** (1 / 2.2)
    assert (slopes <= bound + 1e-12).all() and (slopes >= 0).all() and slopes.max() > 0.1


@JVP_WARNS
def test_black_stays_black_in_single_precision():
    operator = NonlinearBlur(KERNEL, (1, 20, 20))
    x = torch.zeros(1, 20, 20)
    x[..., :4, :4] = 1.0
    assert (operator(x)[..., 8:, 8:] == 0).all()
    assert torch.func.jacrev(operator)(x).isfinite().all()


@pytest.mark.parametrize("boundary", MODES)
def test_agrees_with_scipy_on_a_larger_image(boundary):
    operator = NonlinearBlur.from_seed((3, 40, 33), 1, kernel_size=15, boundary=boundary, dtype=torch.float64)
    x = torch.rand(3, 40, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kernel = operator.kernel.numpy()
    seen = [scipy.ndimage.convolve(c**2.2, kernel, mode=MODES[boundary]) for c in x.numpy()]
    close(operator(x), np.stack(seen) ** (1 / 2.2), 1e-13)


def make(kernel=KERNEL, shape=(1, 4, 5), **settings):
    return NonlinearBlur(kernel, shape, **settings)


REFUSED = [
    (lambda: make(KERNEL[:2]), ValueError, r"expected a kernel with odd sides, got \(2, 5\)"),
    (lambda: make(-KERNEL), ValueError, "13 taps of the kernel are negative"),
    (lambda: make(2 * KERNEL), ValueError, r"expected a kernel of sum 1, got 2; try k / k.sum\(\)"),
    (lambda: make(0 * KERNEL), ValueError, "every tap of the"),
    (lambda: make(KERNEL + 0j), TypeError, "expected real numbers in kernel"),
    (lambda: make(KERNEL[0]), ValueError, r"got shape \(5,\)"),
    (lambda: make(KERNEL * np.nan), ValueError, "15 of the 15 numbers in kernel are not finite"),
    (lambda: make(shape=(4, 5)), ValueError, r"expected event_shape \(channels, height, width\)"),
    (lambda: make(gamma=0.0), ValueError, "expected gamma > 0, got 0.0"),
    (lambda: make(gamma=None), TypeError, "expected gamma to be a number, got None"),
    (lambda: make(data_range=(1.0, 0.0)), ValueError, "with low < high"),
    (lambda: make(boundary="valid"), ValueError, r"expected boundary in \['zero', .*got 'valid'"),
]


@pytest.mark.parametrize(("build", "error", "words"), REFUSED)
def test_refused_in_words(build, error, words):
    with pytest.raises(error, match=words) as caught:
        build()
    assert str(caught.value).startswith("NonlinearBlur: ")


def test_from_seed_refuses_in_words():
    with pytest.raises(ValueError, match="expected size to be odd and positive, got 8; try 7 or 9"):
        NonlinearBlur.from_seed((1, 8, 8), 0, kernel_size=8)
    with pytest.raises(ValueError, match="expected 0 <= intensity <= 1, got 2"):
        NonlinearBlur.from_seed((1, 8, 8), 0, intensity=2)

"""Separable blurs against scipy.ndimage."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from operator_case import OperatorCase, close, normal

from bayes_ir.models.operators.separable_blur import SeparableBlur, convolution_matrix

MODES = {
    "reflect": "reflect",
    "mirror": "mirror",
    "replicate": "nearest",
    "circular": "wrap",
    "zero": "constant",
}
ROW_KERNEL = np.array([0.05, 0.2, 1.1, -0.1, 0.3])  # asymmetric, and does not sum to one
COLUMN_KERNEL = np.array([0.3, 0.9, 0.1])


def convolved(x, row_kernel, column_kernel, boundary):
    """The blur of the last two axes by scipy."""
    y = scipy.ndimage.convolve1d(x, row_kernel, axis=-2, mode=MODES[boundary])
    return scipy.ndimage.convolve1d(y, column_kernel, axis=-1, mode=MODES[boundary])


class BlurCase(OperatorCase):
    shape, boundary = (2, 5, 4), "reflect"
    row_kernel, column_kernel = ROW_KERNEL, COLUMN_KERNEL

    def build(self, dtype=torch.float64):
        return SeparableBlur(self.shape, self.row_kernel, self.column_kernel, self.boundary, dtype)

    def truth(self, operator):
        n = operator.event_shape.numel()
        images = np.eye(n).reshape(n, *operator.event_shape)
        return convolved(images, self.row_kernel, self.column_kernel, self.boundary).reshape(n, n).T


class TestReflect(BlurCase):
    pass


class TestMirror(BlurCase):
    boundary = "mirror"


class TestReplicate(BlurCase):
    boundary = "replicate"


class TestCircular(BlurCase):
    boundary = "circular"


class TestZero(BlurCase):
    boundary = "zero"


class TestUniform(BlurCase):
    """Three of six: waves of three pixels vanish, so there are null singular values, and ties, in three channels."""

    shape, boundary = (3, 6, 3), "circular"
    row_kernel = column_kernel = np.full(3, 1 / 3)

    def build(self, dtype=torch.float64):
        return SeparableBlur.uniform(self.shape, 3, self.boundary, dtype)

    def test_rank(self, operator):
        assert operator.svd.rank == self.build(torch.float32).svd.rank == 3 * 4 * 1


class TestUniformReflected(TestUniform):
    shape, boundary = (3, 3, 5), "reflect"

    def test_rank(self, operator):
        assert operator.svd.rank == self.build(torch.float32).svd.rank == 3 * 2 * 5


class TestGaussian(OperatorCase):
    def build(self, dtype=torch.float64):
        return SeparableBlur.gaussian((2, 5, 4), std=0.6, dtype=dtype)

    def truth(self, operator):
        images = np.eye(40).reshape(40, 2, 5, 4)
        return scipy.ndimage.gaussian_filter(images, 0.6, axes=(2, 3)).reshape(40, 40).T


class TestAnisotropic(OperatorCase):
    def build(self, dtype=torch.float64):
        return SeparableBlur.anisotropic((2, 5, 4), (0.7, 0.4), (3, 5), "replicate", dtype)

    def truth(self, operator):
        images = np.eye(40).reshape(40, 2, 5, 4)
        radii = (1, 2)
        blurred = scipy.ndimage.gaussian_filter(images, (0.7, 0.4), axes=(2, 3), radius=radii, mode="nearest")
        return blurred.reshape(40, 40).T


@pytest.mark.parametrize("boundary", MODES)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("taps", [1, 3, 5, 15])
def test_every_boundary_is_that_of_scipy_for_kernels_of_any_length(boundary, size, taps):
    kernel = normal(taps, seed=taps)
    wanted = scipy.ndimage.convolve1d(np.eye(size), kernel.numpy(), axis=0, mode=MODES[boundary])
    close(convolution_matrix(kernel, size, boundary), wanted, 1e-13)


@pytest.mark.parametrize("boundary", MODES)
def test_it_is_the_convolution_with_the_outer_product(boundary):
    shape = (3, 32, 20)
    row_kernel, column_kernel = normal(9, seed=1), normal(13, seed=2)
    x = normal(*shape)
    kernel = np.multiply.outer(row_kernel.numpy(), column_kernel.numpy())[None]
    wanted = scipy.ndimage.convolve(x.numpy(), kernel, mode=MODES[boundary])
    operator = SeparableBlur(shape, row_kernel, column_kernel, boundary, torch.float64)
    close(operator(x), wanted, 1e-12)
    close(operator.to(dtype=torch.float32)(x.float()), wanted, 2e-5)
    svd = operator.svd  # three channels, each with its singular values
    close(svd.left(svd.singular_values * svd.right_adjoint(x)), wanted, 1e-11)


def test_an_asymmetric_kernel_is_turned_round_as_in_a_convolution():
    impulse = torch.zeros(1, 5, 5)
    impulse[0, 2, 2] = 1
    response = SeparableBlur((1, 5, 5), [1, 2, 3], [0, 1, 0])(impulse)
    close(response[0, :, 2], [0, 1, 2, 3, 0])
    close(SeparableBlur((1, 5, 5), [0, 1, 0], [1, 2, 3])(impulse)[0, 2], [0, 1, 2, 3, 0])


def test_defaults():
    operator = SeparableBlur((1, 8, 9), [0, 2, 0], [1])
    assert operator.boundary == "reflect" and operator.dtype == torch.float32
    x = normal(1, 8, 9).float()
    close(operator(x), 2 * x)  # not normalised
    text = "event_shape=(1, 8, 9), row_kernel=<3 taps>, column_kernel=<1 taps>, boundary='reflect'"
    assert repr(operator) == f"SeparableBlur({text})"
    assert repr(SeparableBlur.gaussian((1, 8, 9), 1.5)).count("<13 taps>") == 2  # scipy's: 6 pixels, 4 std


def test_the_constructors_against_the_filters_of_scipy():
    shape = (3, 40, 30)
    x = normal(*shape)
    for size in (1, 5, 9):
        wanted = scipy.ndimage.uniform_filter(x.numpy(), (1, size, size))
        close(SeparableBlur.uniform(shape, size, dtype=torch.float64)(x), wanted, 1e-12)
    for boundary, mode in MODES.items():
        wanted = scipy.ndimage.gaussian_filter(x.numpy(), (0, 2.3, 2.3), mode=mode)
        close(SeparableBlur.gaussian(shape, 2.3, boundary=boundary, dtype=torch.float64)(x), wanted, 1e-13)
        wanted = scipy.ndimage.gaussian_filter(x.numpy(), (0, 20, 1), mode=mode, radius=(0, 4, 4))
        operator = SeparableBlur.anisotropic(shape, (20, 1), (9, 9), boundary, torch.float64)
        close(operator(x), wanted, 1e-13)


def test_kernels_of_few_digits_decompose_as_such():
    third = torch.ones(3) / 3  # float32
    assert SeparableBlur((1, 6, 6), third, third, "circular", torch.float64).svd.rank == 16
    assert SeparableBlur((1, 6, 6), [0.1, 0.2, 0.7], [1], dtype=torch.float64).row_kernel[0] == 0.1


HAT = [0.25, 0.5, 0.25]
REFUSED = [
    (
        lambda: SeparableBlur((1, 8, 8), [0.5, 0.5], HAT),
        ValueError,
        "row_kernel of odd length, .* got 2 taps",
    ),
    (
        lambda: SeparableBlur((1, 8, 8), HAT, [1, 2, 2, 1]),
        ValueError,
        "column_kernel of odd length, .* got 4 taps",
    ),
    (
        lambda: SeparableBlur((1, 8, 8), HAT, [HAT]),
        ValueError,
        r"column_kernel to be a list .* shape \(1, 3\)",
    ),
    (lambda: SeparableBlur((1, 8, 8), HAT, []), ValueError, r"column_kernel to be a list .* shape \(0,\)"),
    (lambda: SeparableBlur((1, 8, 8), HAT, 1.0), ValueError, r"column_kernel to be a list .* shape \(\)"),
    (lambda: SeparableBlur((1, 8, 8), HAT, [0, 0, 0]), ValueError, "all 3 taps of column_kernel are zero"),
    (
        lambda: SeparableBlur((1, 8, 8), HAT, [1, 1j, 1]),
        TypeError,
        "real numbers in column_kernel, got torch.complex",
    ),
    (
        lambda: SeparableBlur((1, 8, 8), "box", HAT),
        TypeError,
        "row_kernel to be an array of numbers, got 'box'",
    ),
    (
        lambda: SeparableBlur((1, 8, 8), HAT, [1, float("inf"), 1]),
        ValueError,
        "1 of the 3 numbers in column_kernel",
    ),
    (
        lambda: SeparableBlur((1, 8, 8), HAT, HAT, "wrap"),
        ValueError,
        r"boundary in \['reflect', .*\], got 'wrap'",
    ),
    (lambda: SeparableBlur((8, 8), HAT, HAT), ValueError, r"got \(8, 8\); try \(1, 8, 8\)"),
    (lambda: SeparableBlur.uniform((1, 8, 8), 4), ValueError, "an odd size, got 4; try 3 or 5"),
    (lambda: SeparableBlur.uniform((1, 8, 8), 0), ValueError, "expected size >= 1, got 0"),
    (lambda: SeparableBlur.uniform((1, 8, 8), 3.0), TypeError, "size to be a whole number, got 3.0"),
    (
        lambda: SeparableBlur.gaussian((1, 8, 8), 0),
        ValueError,
        "expected 0 < std < infinity, in pixels, got 0",
    ),
    (lambda: SeparableBlur.gaussian((1, 8, 8), -1.0), ValueError, "0 < std < infinity"),
    (lambda: SeparableBlur.gaussian((1, 8, 8), True), TypeError, "std to be a number of pixels, got True"),
    (lambda: SeparableBlur.gaussian((1, 8, 8), 1.0, 6), ValueError, "an odd size, got 6; try 5 or 7"),
    (lambda: SeparableBlur.anisotropic((1, 8, 8), 3.0), ValueError, "stds to be a pair .* got 3.0"),
    (lambda: SeparableBlur.anisotropic((1, 8, 8), (1, 2), (3, 3, 3)), ValueError, "sizes to be a pair"),
    (lambda: SeparableBlur.anisotropic((1, 8, 8), (1, 0)), ValueError, "0 < std < infinity"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=rf"^SeparableBlur(\.\w+)?: .*{words}"):
        make()

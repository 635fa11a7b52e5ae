"""Spatially varying blur against scipy.ndimage.convolve, one kernel at a time."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from operator_case import JVP_WARNS, OperatorCase, close, normal

from bayes_ir.models.operators.spatially_varying_blur import SpatiallyVaryingBlur

MODES = {
    "zero": "constant",
    "reflect": "reflect",
    "mirror": "mirror",
    "replicate": "nearest",
    "circular": "wrap",
}


def drawn(count, taps, sides, seed=0):
    """Kernels without any symmetry and weights, some of them negative, that add up to one."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(count, *sides))
    weights[-1] += 1 - weights.sum(0)
    return rng.normal(size=(count, *taps)) / taps[0], weights


class TestReflected(OperatorCase):
    shape, taps, boundary = (2, 6, 5), (3, 5), "reflect"

    def build(self, dtype=torch.float64):
        return SpatiallyVaryingBlur(*drawn(3, self.taps, self.shape[1:]), self.shape, self.boundary, dtype)

    def parts(self, operator):
        return drawn(3, self.taps, self.shape[1:])

    def truth(self, operator):
        channels, *sides = operator.event_shape
        kernels, weights = self.parts(operator)
        n = sides[0] * sides[1]
        matrix = np.zeros((n, n))
        for column in range(n):
            impulse = np.zeros(n)
            impulse[column] = 1
            for kernel, weight in zip(kernels, weights, strict=True):
                blurred = scipy.ndimage.convolve(
                    impulse.reshape(sides), kernel, mode=MODES[operator.boundary]
                )
                matrix[:, column] += (weight * blurred).ravel()
        return np.kron(np.eye(channels), matrix)

    @JVP_WARNS
    def test_adjoint_is_differentiable_forwards(self, operator):
        z, v = self.measurement(operator, 2), self.measurement(operator, 2, seed=9)
        close(torch.func.jvp(operator.adjoint, (z,), (v,))[1], operator.adjoint(v))


class TestZero(TestReflected):
    shape, boundary = (1, 6, 5), "zero"


class TestCircular(TestReflected):
    shape, boundary = (1, 4, 5), "circular"


class TestKernelLargerThanTheImage(TestReflected):
    shape, taps = (1, 3, 2), (7, 9)


class TestOneTap(TestReflected):
    shape, taps = (1, 3, 4), (1, 1)


class TestFromSeed(TestReflected):
    def build(self, dtype=torch.float64):
        return SpatiallyVaryingBlur.from_seed(
            (1, 8, 6), seed=4, regions=(2, 3), kernel_size=5, stds=(0.4, 1.5), dtype=dtype
        )

    def parts(self, operator):
        return operator.kernels.numpy(), operator.weights.numpy()


@pytest.mark.parametrize("boundary", MODES)
def test_agrees_with_scipy_on_a_larger_image(boundary):
    operator = SpatiallyVaryingBlur.from_seed(
        (3, 41, 50), 1, kernel_size=11, boundary=boundary, dtype=torch.float64
    )
    x = normal(3, 41, 50)
    wanted = sum(
        weight * np.stack([scipy.ndimage.convolve(c, kernel, mode=MODES[boundary]) for c in x.numpy()])
        for kernel, weight in zip(operator.kernels.numpy(), operator.weights.numpy(), strict=True)
    )
    close(operator(x), wanted, 1e-13)


def test_weights_and_kernels_from_a_seed():
    operator = SpatiallyVaryingBlur.from_seed((1, 30, 40), 2, regions=(3, 4), dtype=torch.float64)
    assert operator.kernels.shape == (12, 9, 9) and operator.weights.shape == (12, 30, 40)
    close(operator.weights.sum(0), torch.ones(30, 40))
    assert (operator.weights >= 0).all() and (operator.kernels >= 0).all()
    close(operator.kernels.sum((1, 2)), torch.ones(12))
    close(operator(torch.ones(1, 30, 40, dtype=torch.float64)), torch.ones(1, 30, 40))
    # Weights change by at most one step of the bilinear hats between neighbours: no seams.
    assert operator.weights.diff(dim=-1).abs().max() <= 4 / 40 + 1e-12
    assert operator.weights.diff(dim=-2).abs().max() <= 3 / 30 + 1e-12
    other = SpatiallyVaryingBlur.from_seed((1, 30, 40), 3, regions=(3, 4), dtype=torch.float64)
    assert (other.kernels - operator.kernels).abs().max() > 0.01


def test_blur_grows_away_from_the_point():
    i = np.arange(9) - 4
    for seed in range(5):
        operator = SpatiallyVaryingBlur.from_seed((1, 64, 64), seed, regions=(5, 5), stds=(0.5, 2.0))
        kernels = operator.kernels.double().numpy()
        spread = (kernels * (i[:, None] ** 2 + i**2)).sum((1, 2)).reshape(5, 5)
        assert 0.9 * (0.5**2 + 0.5**2) < spread.min() and spread.max() < 0.5**2 + 2.0**2
        least = np.unravel_index(spread.argmin(), (5, 5))
        assert 1 <= least[0] <= 3 and 1 <= least[1] <= 3  # the middle half of the image
        assert spread[0, 0] + spread[0, -1] + spread[-1, 0] + spread[-1, -1] > 8 * spread.min()


def test_one_region_is_one_kernel():
    operator = SpatiallyVaryingBlur.from_seed((1, 9, 9), 0, regions=(1, 1), dtype=torch.float64)
    x = normal(1, 9, 9)
    close(operator(x)[0], scipy.ndimage.convolve(x[0].numpy(), operator.kernels[0].numpy(), mode="reflect"))


def test_large_images_need_no_matrix():
    operator = SpatiallyVaryingBlur.from_seed((1, 96, 96), 0)
    assert not operator.has_svd and not operator.structured
    x = normal(1, 96, 96, dtype=torch.float32)
    z = operator.solve(operator(x), scale=1.0, shift=0.1)
    close(operator(operator.adjoint(z)) + 0.1 * z, operator(x), 1e-4)
    row = torch.zeros(1, 96, 96)
    row[0, 40, 50] = 1
    close(operator.gram_diagonal()[0, 40, 50], operator.adjoint(row).square().sum(), 1e-5)


K, W = drawn(2, (3, 3), (4, 5))
SHAPE = (1, 4, 5)


def seeded(event_shape=(1, 8, 8), seed=0, **settings):
    return SpatiallyVaryingBlur.from_seed(event_shape, seed, **settings)


REFUSED = [
    (lambda: SpatiallyVaryingBlur(K[0], W, SHAPE), ValueError, r"\(K, rows, columns\), got \(3, 3\)"),
    (lambda: SpatiallyVaryingBlur(K[:, :2], W, SHAPE), ValueError, "odd sides, got 2 x 3"),
    (lambda: SpatiallyVaryingBlur(K + 0j, W, SHAPE), TypeError, "expected real numbers in kernels"),
    (
        lambda: SpatiallyVaryingBlur(K * np.nan, W, SHAPE),
        ValueError,
        "18 of the 18 numbers in kernels are not",
    ),
    (
        lambda: SpatiallyVaryingBlur(K, W[:1], SHAPE),
        ValueError,
        r"expected weights of shape \(2, 4, 5\).*\(1, 4, 5\)",
    ),
    (lambda: SpatiallyVaryingBlur(K, W, (1, 5, 4)), ValueError, r"expected weights of shape \(2, 5, 4\)"),
    (
        lambda: SpatiallyVaryingBlur(K, 0.9 * W, SHAPE),
        ValueError,
        r"sums off by up to 0.1; try weights / weights.sum",
    ),
    (lambda: SpatiallyVaryingBlur(K, W + 0j, SHAPE), TypeError, "expected real numbers in weights"),
    (
        lambda: SpatiallyVaryingBlur(K, W, (4, 5)),
        ValueError,
        r"event_shape \(channels, height, width\), got \(4, 5\)",
    ),
    (
        lambda: SpatiallyVaryingBlur(K, W, SHAPE, "valid"),
        ValueError,
        r"expected boundary in \['zero'.*got 'valid'",
    ),
    (
        lambda: seeded(kernel_size=4),
        ValueError,
        "expected kernel_size to be odd and positive, got 4; try 3 or 5",
    ),
    (lambda: seeded(regions=(9, 1)), ValueError, r"at most one per pixel of 8 x 8, got \(9, 1\)"),
    (lambda: seeded(regions=(3,)), ValueError, r"expected regions=\(rows, columns\)"),
    (lambda: seeded(stds=(0.0, 1.0)), ValueError, "expected std > 0, got 0.0"),
    (lambda: seeded(stds=(2.0, 1.0)), ValueError, r"in ascending order, got \(2.0, 1.0\)"),
    (lambda: seeded(seed="a"), TypeError, "expected seed to be a whole number, got 'a'"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=words) as caught:
        make()
    assert str(caught.value).startswith("SpatiallyVaryingBlur: ")

"""Blur kernels against scipy, their symmetries, and the files they come from."""

import math

import numpy as np
import pytest
import scipy.signal
import scipy.stats
import torch
from PIL import Image

from bayes_ir.models.operators.blur_kernels import (
    gaussian_kernel,
    kernel_from_image,
    motion_kernel,
    uniform_kernel,
)


def moments(kernel):
    """Mean and covariance of the light, in pixels from the centre: (down, right)."""
    k = kernel.numpy()
    axes = np.indices(k.shape) - np.array(k.shape)[:, None, None] // 2
    mean = np.einsum("aij,ij->a", axes, k)
    return mean, np.einsum("aij,bij,ij->ab", axes, axes, k) - np.outer(mean, mean)


@pytest.mark.parametrize(
    "kernel",
    [
        gaussian_kernel(7, 1.5),
        gaussian_kernel(9, (3.0, 0.5), 30.0),
        uniform_kernel(5),
        motion_kernel(15, 0.5, 3),
        motion_kernel(1, 1.0, 0),
    ],
)
def test_kernels_are_odd_and_sum_to_one(kernel):
    assert kernel.dtype == torch.float64 and all(side % 2 == 1 for side in kernel.shape)
    assert (kernel >= 0).all()
    assert abs(kernel.sum() - 1) < 1e-14


@pytest.mark.parametrize(("size", "std"), [(1, 1.0), (5, 0.3), (9, 2.0), (61, 3.0), (7, np.float32(2))])
def test_gaussian_against_scipy(size, std):
    window = scipy.signal.windows.gaussian(size, std)
    wanted = np.outer(window, window) / window.sum() ** 2
    np.testing.assert_allclose(gaussian_kernel(size, std), wanted, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, -135.0])
def test_rotated_gaussian_against_scipy(angle):
    # As seen on a screen: x to the right, y upwards; the pair is (vertical, horizontal).
    turn = np.radians(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    covariance = rotation @ np.diag([4.0**2, 1.5**2]) @ rotation.T
    row, column = np.indices((21, 21)) - 10
    density = scipy.stats.multivariate_normal(cov=covariance).pdf(np.stack([column, -row], axis=-1))
    kernel = gaussian_kernel(21, (1.5, 4.0), angle)
    np.testing.assert_allclose(kernel, density / density.sum(), rtol=1e-10)


def test_a_gaussian_turned_by_45_degrees_rises_to_the_right():
    kernel = gaussian_kernel(11, (0.5, 3.0), angle=45.0)
    assert kernel[2, 8] > 100 * kernel[8, 8]  # row 2 is above row 8


def test_uniform():
    np.testing.assert_array_equal(uniform_kernel(3), np.full((3, 3), 1 / 9))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_motion_is_centred_and_touches_the_border(seed, intensity):
    kernel = motion_kernel(21, intensity, seed)
    mean, _ = moments(kernel)
    np.testing.assert_allclose(mean, 0, atol=1e-12)
    border = torch.cat([kernel[0], kernel[-1], kernel[:, 0], kernel[:, -1]])
    assert border.max() > 0
    lit = torch.nn.functional.max_pool2d((kernel > 0).double()[None], 3, 1, 1)
    component, grown = torch.zeros_like(lit), torch.zeros_like(lit)
    component[0, *divmod(int(kernel.argmax()), 21)] = 1
    while not torch.equal(component, grown):  # the light is one connected track
        grown, component = component, torch.nn.functional.max_pool2d(component, 3, 1, 1) * (kernel > 0)
    assert torch.equal(component[0] > 0, kernel > 0)


def test_motion_without_shake_is_a_straight_line_of_even_light():
    for seed in range(5):
        _, covariance = moments(motion_kernel(41, 0.0, seed))
        thin, long = np.linalg.eigvalsh(covariance)
        assert thin < 0.35  # bilinear weights add at most 1/4 pixel^2 in a direction
        direction = np.linalg.eigh(covariance)[1][:, 1]
        length = 2 * 20 / np.abs(direction).max()
        assert abs(long / (length**2 / 12) - 1) < 0.03  # variance of a uniform distribution


def test_motion_depends_on_the_seed_and_its_shape_not_on_the_size():
    first, again, other = motion_kernel(31, 0.5, 7), motion_kernel(31, 0.5, 7), motion_kernel(31, 0.5, 8)
    assert torch.equal(first, again) and not torch.allclose(first, other)
    _, small = moments(motion_kernel(31, 0.5, 7))
    _, large = moments(motion_kernel(91, 0.5, 7))
    np.testing.assert_allclose(large / 45**2, small / 15**2, atol=2e-3)


def test_shake_bends_the_path():
    # A straight line has a thin direction; averaged over 8 seeds.
    flatness = []
    for intensity in (0.0, 0.5, 1.0):
        spectra = [np.linalg.eigvalsh(moments(motion_kernel(41, intensity, s))[1]) for s in range(8)]
        flatness.append(np.mean([thin / long for thin, long in spectra]))
    assert flatness[0] < 0.01 and flatness[1] > 5 * flatness[0] and flatness[2] > flatness[1]


RNG = np.random.default_rng(0)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "F", "1"])
def test_kernel_from_an_image(tmp_path, mode):
    pixels = RNG.integers(0, 256, (5, 7)).astype(np.uint8)
    if mode == "I;16":
        pixels = (pixels.astype(np.uint16) + 1) * 251
        image = Image.fromarray(pixels)
    elif mode == "F":
        pixels = (pixels / 7).astype(np.float32)
        image = Image.fromarray(pixels)
    elif mode == "1":
        pixels = (pixels > 100) * np.uint8(255)
        image = Image.fromarray(pixels).convert("1")
    else:
        image = Image.fromarray(pixels).convert(mode)
    file = tmp_path / ("kernel.tiff" if mode == "F" else "kernel.png")
    image.save(file)
    kernel = kernel_from_image(str(file))
    assert kernel.dtype == torch.float64
    np.testing.assert_allclose(kernel, pixels / pixels.astype(float).sum(), rtol=1e-12)


@pytest.fixture
def file(tmp_path):
    def make(name, pixels=None, content=b""):
        path = tmp_path / name
        if pixels is None:
            path.write_bytes(content)
        else:
            Image.fromarray(np.asarray(pixels)).save(path)
        return path

    return make


def test_files_refused_in_words(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"kernel_from_image: there is no file '.*none\.png'"):
        kernel_from_image(tmp_path / "none.png")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        kernel_from_image(tmp_path)
    with pytest.raises(TypeError, match="kernel_from_image: expected the path of an image file, got 3"):
        kernel_from_image(3)
    with pytest.raises(ValueError, match=r"notes\.txt' is not an image that Pillow can read"):
        kernel_from_image(file("notes.txt", content=b"not an image"))
    whole = file("whole.png", RNG.integers(0, 256, (63, 63)).astype(np.uint8)).read_bytes()
    with pytest.raises(ValueError, match=r"cut\.png' is not an image that Pillow can read"):
        kernel_from_image(file("cut.png", content=whole[: len(whole) // 2]))
    with pytest.raises(ValueError, match="expected odd sides, got 4 rows and 5 columns"):
        kernel_from_image(file("even.png", np.ones((4, 5), np.uint8)))
    with pytest.raises(ValueError, match=r"every pixel of '.*black\.png' is black"):
        kernel_from_image(file("black.png", np.zeros((5, 5), np.uint8)))
    with pytest.raises(ValueError, match=r"expected weights >= 0 in '.*', got -1\.0 to 0\.0"):
        kernel_from_image(file("negative.tiff", np.array([[-1.0, 0, 0]], np.float32)))
    with pytest.raises(ValueError, match="expected weights >= 0"):
        kernel_from_image(file("nan.tiff", np.array([[np.nan, 0, 0]], np.float32)))


REFUSED = [
    (
        lambda: gaussian_kernel(4, 1.0),
        ValueError,
        "gaussian_kernel: expected size to be odd .* got 4; try 3 or 5",
    ),
    (lambda: gaussian_kernel(0, 1.0), ValueError, "got 0; try 1 or 3"),
    (lambda: gaussian_kernel(3.0, 1.0), TypeError, "expected size to be a whole number of pixels, got 3.0"),
    (
        lambda: gaussian_kernel(3, 0.0),
        ValueError,
        r"expected std > 0 pixels, got 0\.0; .* uniform_kernel\(1\)",
    ),
    (lambda: gaussian_kernel(3, (1.0, -1.0)), ValueError, r"expected std > 0 pixels, got \(1\.0, -1\.0\)"),
    (lambda: gaussian_kernel(3, (1.0, 2.0, 3.0)), ValueError, "a number or a pair"),
    (lambda: gaussian_kernel(3, math.inf), ValueError, "expected std to be finite, got inf"),
    (lambda: gaussian_kernel(3, "wide"), TypeError, "expected std to be a number, got 'wide'"),
    (lambda: gaussian_kernel(3, 1.0, math.nan), ValueError, "expected angle to be finite, got nan"),
    (lambda: uniform_kernel(2), ValueError, "uniform_kernel: expected size to be odd"),
    (lambda: uniform_kernel(-3), ValueError, "got -3; try 1 or 3"),
    (lambda: uniform_kernel(True), TypeError, "whole number of pixels, got True"),
    (lambda: motion_kernel(8), ValueError, "motion_kernel: expected size to be odd"),
    (lambda: motion_kernel(9, 1.5), ValueError, "expected 0 <= intensity <= 1, got 1.5"),
    (lambda: motion_kernel(9, math.nan), ValueError, "expected intensity to be finite"),
    (lambda: motion_kernel(9, None), TypeError, "expected intensity to be a number, got None"),
    (lambda: motion_kernel(9, 0.5, 1.5), TypeError, "motion_kernel: expected seed to be a whole number"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()

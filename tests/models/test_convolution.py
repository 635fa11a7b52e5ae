"""Blur with every boundary against scipy.ndimage and scipy.signal."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch
from operator_case import OperatorCase, close, normal

from bayes_ir.models.operators.blur_kernels import motion_kernel
from bayes_ir.models.operators.circular_blur import CircularBlur
from bayes_ir.models.operators.convolution import Blur

RNG = np.random.default_rng(0)
MODES = {
    "zero": "constant",
    "reflect": "reflect",
    "mirror": "mirror",
    "replicate": "nearest",
    "circular": "wrap",
}


def sharp(*shape):
    """An asymmetric kernel with well separated singular values near one: the iterative methods take few steps."""
    kernel = RNG.random(shape)
    kernel /= 2 * kernel.sum()
    kernel[shape[0] // 2, shape[1] // 2] += 1
    return kernel


KERNEL = sharp(3, 5)


def convolved(image, kernel, boundary):
    if boundary == "valid":
        return scipy.signal.convolve2d(image, kernel, mode="valid")
    return scipy.ndimage.convolve(image, kernel, mode=MODES[boundary])


def matrix_of(kernel, event_shape, boundary):
    channels, height, width = event_shape
    basis = np.eye(height * width).reshape(-1, height, width)
    columns = [convolved(image, kernel, boundary).ravel() for image in basis]
    return np.kron(np.eye(channels), np.stack(columns, axis=1))


class BlurCase(OperatorCase):
    kernel, event_shape, boundary = KERNEL, (2, 5, 6), "reflect"

    def build(self, dtype=torch.float64):
        return Blur(self.kernel, self.event_shape, boundary=self.boundary, dtype=dtype)

    def truth(self, operator):
        return matrix_of(self.kernel, self.event_shape, self.boundary)


class TestZero(BlurCase):
    boundary = "zero"


class TestReflect(BlurCase):
    pass


class TestMirror(BlurCase):
    boundary = "mirror"


class TestReplicate(BlurCase):
    boundary = "replicate"


class TestCircular(BlurCase):
    boundary = "circular"


class TestValid(BlurCase):
    boundary, event_shape = "valid", (2, 6, 7)


class TestValidLeavesOnePixel(BlurCase):
    boundary, event_shape = "valid", (1, 3, 5)


class TestOnePixelKernel(BlurCase):
    kernel, event_shape, boundary = np.array([[2.0]]), (1, 3, 4), "replicate"


# The kernel reaches beyond the image on both sides: it is continued more than once.
class TestReflectTwice(BlurCase):
    kernel, event_shape = sharp(7, 11), (1, 3, 4)


class TestReplicateFar(BlurCase):
    kernel, event_shape, boundary = sharp(7, 11), (1, 4, 3), "replicate"


class TestZeroFar(BlurCase):
    kernel, event_shape, boundary = sharp(7, 11), (1, 4, 3), "zero"


class TestMirrorOneRow(BlurCase):
    kernel, event_shape, boundary = sharp(3, 9), (1, 1, 5), "mirror"


@pytest.mark.parametrize("boundary", [*MODES, "valid"])
@pytest.mark.parametrize(("side", "size"), [(3, 9), (21, 64), (21, 30)])
def test_agrees_with_scipy_on_larger_images(boundary, side, size):
    kernel = motion_kernel(side, 0.7, seed=2).numpy()
    shape = (2, size, size - 3)
    operator = Blur(kernel, shape, boundary=boundary, dtype=torch.float64)
    x = normal(*shape)
    close(operator(x), np.stack([convolved(channel, kernel, boundary) for channel in x.numpy()]), 1e-13)
    z = normal(*operator.measurement_shape, seed=3)
    close((operator(x) * z).sum(), (x * operator.adjoint(z)).sum(), 1e-12)


@pytest.mark.parametrize("boundary", [*MODES, "valid"])
def test_gram_diagonal_needs_no_matrix(boundary, monkeypatch):
    # Row norms by a method of their own: the variance of A n for the white noise of every single pixel.
    kernel = RNG.normal(size=(9, 5))
    operator = Blur(kernel, (1, 20, 23), boundary=boundary, dtype=torch.float64)
    wanted = np.square(matrix_of(kernel, (1, 20, 23), boundary)).sum(1).reshape(operator.measurement_shape)
    monkeypatch.setattr(Blur, "to_matrix", None)
    close(operator.gram_diagonal(), wanted, 1e-12)


def test_gram_diagonal_of_a_large_image():
    kernel = RNG.normal(size=(15, 15))
    inside = Blur(kernel, (3, 512, 512), dtype=torch.float64).gram_diagonal()[:, 7:-7, 7:-7]
    close(inside, np.full(inside.shape, np.square(kernel).sum()))


def test_a_large_blur_is_solved_by_conjugate_gradients():
    operator = Blur(motion_kernel(9, 0.7, seed=2), (3, 48, 48), boundary="replicate", dtype=torch.float64)
    assert not operator.structured and not operator.has_svd
    z = normal(2, 3, 48, 48)
    u = operator.solve(z, 0.7, 0.05)
    close(0.7 * operator(operator.adjoint(u)) + 0.05 * u, z, 1e-9)


def test_conjugate_gradients_agree_with_the_circular_decomposition():
    kernel, z = motion_kernel(9, 0.7, seed=2), normal(3, 48, 48)
    by_steps = Blur(kernel, (3, 48, 48), boundary="circular", dtype=torch.float64)
    by_waves = CircularBlur(kernel, (3, 48, 48), dtype=torch.float64)
    close(by_steps.solve(z, 0.7, 0.05), by_waves.solve(z, 0.7, 0.05), 1e-10)
    assert abs(by_steps.norm() / by_waves.norm() - 1) < 1e-2


def test_the_kernel_may_carry_a_gradient():
    kernel, x = torch.as_tensor(KERNEL).clone().requires_grad_(), normal(1, 5, 6)
    for boundary in [*MODES, "valid"]:
        assert torch.autograd.gradcheck(
            lambda k, b=boundary: Blur(k, (1, 5, 6), boundary=b, dtype=torch.float64)(x), kernel
        )


def test_repr_shows_the_boundary():
    text = repr(Blur(KERNEL, (2, 5, 6), boundary="zero"))
    assert text == "Blur(kernel=<3 x 5>, event_shape=(2, 5, 6), boundary='zero')"


REFUSED = [
    (lambda: Blur(np.ones((2, 3)), (1, 8, 8)), ValueError, r"kernel with odd sides, got \(2, 3\)"),
    (lambda: Blur(np.ones((3, 3, 3)), (1, 8, 8)), ValueError, r"matrix, got shape \(3, 3, 3\)"),
    (lambda: Blur(np.zeros((3, 3)), (1, 8, 8)), ValueError, "so nothing is measured"),
    (
        lambda: Blur(np.full((3, 3), np.inf), (1, 8, 8)),
        ValueError,
        "9 of the 9 numbers in kernel are not finite",
    ),
    (
        lambda: Blur(np.ones((3, 3)) * 1j, (1, 8, 8)),
        TypeError,
        "real numbers in kernel, got torch.complex128",
    ),
    (lambda: Blur(np.ones((3, 3)), (1, 8, 8), "wrap"), ValueError, r"boundary in \['zero', .*got 'wrap'"),
    (lambda: Blur(np.ones((3, 3)), (1, 8, 8), None), ValueError, "got None"),
    (lambda: Blur(np.ones((9, 3)), (1, 8, 8), "valid"), ValueError, r"\(9, 3\) does not fit .* \(8, 8\)"),
    (lambda: Blur(np.ones((3, 3)), (8, 8)), ValueError, r"got \(8, 8\); try \(1, 8, 8\)"),
    (
        lambda: Blur(np.ones((3, 3)), (1, 8, -8)),
        ValueError,
        "expected every size in event_shape >= 1, got -8",
    ),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=f"Blur: .*{words}"):
        make()

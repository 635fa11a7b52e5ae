"""Circular blur against scipy.ndimage.convolve(mode="wrap") and numpy's FFT."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from operator_case import OperatorCase, close, normal

from bayes_ir.models.operators.blur_kernels import gaussian_kernel, motion_kernel, uniform_kernel
from bayes_ir.models.operators.circular_blur import CircularBlur

RNG = np.random.default_rng(0)


def sharp(*shape):
    """An asymmetric kernel with well separated singular values near one: the iterative methods take few steps."""
    kernel = RNG.random(shape)
    kernel /= 2 * kernel.sum()
    kernel[shape[0] // 2, shape[1] // 2] += 1
    return kernel


ASYMMETRIC = sharp(3, 5)


def wrapped(kernel, event_shape):
    """The matrix of scipy's convolution with every channel."""
    channels, height, width = event_shape
    basis = np.eye(height * width).reshape(-1, height, width)
    columns = [scipy.ndimage.convolve(image, kernel, mode="wrap").ravel() for image in basis]
    return np.kron(np.eye(channels), np.stack(columns, axis=1))


class CircularCase(OperatorCase):
    kernel, event_shape = ASYMMETRIC, (2, 5, 6)

    def build(self, dtype=torch.float64):
        return CircularBlur(self.kernel, self.event_shape, dtype=dtype)

    def truth(self, operator):
        return wrapped(np.asarray(self.kernel), self.event_shape)

    def test_singular_values_stand_beside_their_coefficients(self, operator, matrix):
        # The coefficients of A V e_k, which are s_k on U e_k and nothing else, channel by channel.
        svd, r = operator.svd, operator.svd.rank
        seen = svd.left_adjoint(operator(svd.right(torch.eye(r, dtype=torch.float64))))
        close(seen, torch.diag(svd.singular_values))

    def test_singular_values_are_the_transfer(self, operator):
        _, height, width = self.event_shape
        transfer = np.abs(np.fft.fft2(self.truth(operator)[: height * width, 0].reshape(height, width)))
        wanted = np.sort(np.repeat(transfer.ravel(), self.event_shape[0]))[::-1]
        close(operator.svd.singular_values, wanted[: operator.svd.rank].copy())
        assert (wanted[operator.svd.rank :] < 1e-14 * wanted[0]).all()


class TestAsymmetric(CircularCase):
    pass


class TestEvenSides(CircularCase):
    kernel, event_shape = sharp(5, 3), (1, 6, 4)


class TestOddSides(CircularCase):
    kernel, event_shape = sharp(3, 3), (3, 5, 3)


class TestNarrow(CircularCase):
    kernel, event_shape = sharp(1, 3), (1, 1, 8)


class TestOneColumn(CircularCase):
    kernel, event_shape = sharp(3, 3), (2, 4, 1)


class TestNullFrequencies(CircularCase):
    """A box of 3 pixels has no cycle of 3: the waves of H / 3 and W / 3 are lost."""

    kernel, event_shape = uniform_kernel(3), (2, 6, 9)

    def test_null_frequencies_are_left_out(self, operator):
        # Rows 2 and 4 of 6, columns 3 and 6 of 9 vanish: 4 * 7 of the 6 * 9 frequencies are left.
        assert operator.svd.rank == 2 * 4 * 7


class TestDerivative(CircularCase):
    """Negative transfer, zero mean, an odd kernel: phases of a quarter turn and of a half turn."""

    kernel, event_shape = np.array([[1.0, 0.0, -1.0]]), (1, 4, 6)


class TestNegative(CircularCase):
    kernel, event_shape = -np.asarray(gaussian_kernel(3, 0.6)), (1, 4, 5)


class TestLargerThanTheImage(CircularCase):
    kernel, event_shape = sharp(9, 13), (1, 4, 5)


def test_known_singular_values_of_a_gradient():
    s = CircularBlur(np.array([[1.0, 0.0, -1.0]]), (1, 1, 8)).svd.singular_values
    wanted = np.sort(2 * np.abs(np.sin(2 * np.pi * np.arange(8) / 8)))[::-1][:6]
    close(s, wanted.copy(), 1e-6)


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 45, 70), (1, 31, 33)])
def test_agrees_with_scipy_on_larger_images(shape):
    kernel = motion_kernel(21, 0.7, seed=2)
    operator = CircularBlur(kernel, shape, dtype=torch.float64)
    x = normal(*shape)
    wanted = [scipy.ndimage.convolve(channel, kernel.numpy(), mode="wrap") for channel in x.numpy()]
    close(operator(x), np.stack(wanted), 1e-13)
    svd = operator.svd
    close(svd.left(svd.singular_values * svd.right_adjoint(x)), operator(x), 1e-12)


def test_solves_the_shifted_system():
    operator = CircularBlur(motion_kernel(9, 0.7, seed=2), (2, 16, 16), dtype=torch.float64)
    z = normal(3, 2, 16, 16)
    matrix = wrapped(operator.kernel.numpy(), (2, 16, 16))
    wanted = np.linalg.solve(0.7 * matrix @ matrix.T + 0.01 * np.eye(512), z.numpy().reshape(3, -1).T).T
    close(operator.solve(z, 0.7, 0.01).reshape(3, -1), wanted, 1e-10)


def test_a_coarser_copy_leaves_out_what_it_cannot_tell_from_zero():
    fine = CircularBlur(gaussian_kernel(31, 3.0), (2, 32, 32), dtype=torch.float64)
    rank = fine.svd.rank
    coarse = fine.to(dtype=torch.float32)
    fresh = CircularBlur(gaussian_kernel(31, 3.0), (2, 32, 32))
    assert coarse.svd.rank == fresh.svd.rank < rank
    assert coarse.svd.rank % 2 == 0
    eye = torch.eye(coarse.svd.rank)
    for there, back in [
        (coarse.svd.left, coarse.svd.left_adjoint),
        (coarse.svd.right, coarse.svd.right_adjoint),
    ]:
        close(back(there(eye)), eye, 1e-5)
    assert fine.svd.rank == rank


def test_a_kernel_in_single_precision_is_not_known_better_in_double():
    kernel = gaussian_kernel(31, 3.0).float()
    assert CircularBlur(kernel, (1, 32, 32), dtype=torch.float64).svd.singular_values.min() > 1e-6


def test_the_kernel_may_carry_a_gradient():
    kernel = torch.as_tensor(ASYMMETRIC).clone().requires_grad_()
    x = normal(1, 5, 6)
    assert torch.autograd.gradcheck(lambda k: CircularBlur(k, (1, 5, 6), dtype=torch.float64)(x), kernel)
    assert not CircularBlur(kernel, (1, 5, 6)).svd.singular_values.requires_grad


def test_repr_shows_the_size_of_the_kernel():
    text = repr(CircularBlur(ASYMMETRIC, (2, 5, 6)))
    assert text == "CircularBlur(kernel=<3 x 5>, event_shape=(2, 5, 6))"


REFUSED = [
    (lambda: CircularBlur(np.ones((4, 3)), (1, 8, 8)), ValueError, r"with odd sides, got \(4, 3\).*zeros"),
    (lambda: CircularBlur(np.ones(3), (1, 8, 8)), ValueError, r"kernel to be a matrix, got shape \(3,\)"),
    (lambda: CircularBlur(np.zeros((3, 3)), (1, 8, 8)), ValueError, "every tap .* is zero"),
    (lambda: CircularBlur(np.full((1, 1), np.nan), (1, 8, 8)), ValueError, "1 of the 1 numbers in kernel"),
    (lambda: CircularBlur(np.ones((3, 3)) * 1j, (1, 8, 8)), TypeError, "real numbers in kernel"),
    (lambda: CircularBlur("box", (1, 8, 8)), TypeError, "array of numbers, got 'box'"),
    (lambda: CircularBlur(np.ones((0, 3)), (1, 8, 8)), ValueError, r"got shape \(0, 3\)"),
    (lambda: CircularBlur(np.ones((3, 3)), (8, 8)), ValueError, r"try \(1, 8, 8\)"),
    (lambda: CircularBlur(np.ones((3, 3)), (1, 0, 8)), ValueError, "expected every size in event_shape >= 1"),
    (lambda: CircularBlur(np.ones((3, 3)), 8), TypeError, "expected event_shape to be a tuple"),
    (lambda: CircularBlur(np.ones((3, 3)), (1, 8, 8), torch.int64), TypeError, "real floating dtype"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=f"CircularBlur: .*{words}"):
        make()

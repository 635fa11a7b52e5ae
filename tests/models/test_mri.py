"""Single-coil MRI against Fourier matrices made with numpy, and complex images as two channels."""

import math

import numpy as np
import pytest
import torch
from operator_case import JVP_WARNS, OperatorCase, close, normal

from bayes_ir.models.operators.complex_images import to_image, to_kspace
from bayes_ir.models.operators.mri import ConjugatePairsSVD, SingleCoilMRI, as_channels, as_complex
from bayes_ir.models.operators.mri_masks import gaussian_2d, uniform_1d
from bayes_ir.models.operators.svd import DenseSVD, OrthonormalRowsSVD


def fourier(height, width):
    """The centred orthonormal transform as a matrix, from its formula: one number at a time."""

    def one(n):
        k = np.arange(n) - n // 2
        return np.exp(-2j * np.pi * np.outer(k, k) / n) / np.sqrt(n)

    return np.kron(one(height), one(width))


def real_form(matrix):
    """A complex matrix as a real one on stacked real and imaginary parts."""
    return np.block([[matrix.real, -matrix.imag], [matrix.imag, matrix.real]])


def random_mask(shape, share=0.5, seed=0):
    return np.random.default_rng(seed).random(shape) < share


class ComplexCase(OperatorCase):
    mask = random_mask((4, 6))

    def build(self, dtype=torch.float64):
        return SingleCoilMRI(torch.as_tensor(self.mask), dtype=dtype)

    def truth(self, operator):
        return real_form(fourier(*self.mask.shape)[self.mask.ravel()])

    def test_structure(self, operator):
        assert operator.structured and type(operator.svd) is OrthonormalRowsSVD
        close(operator.gram_diagonal(), np.ones(operator.measurement_shape))


class TestEven(ComplexCase):
    pass


class TestOdd(ComplexCase):
    mask = random_mask((5, 3), seed=1)


class TestColumns(ComplexCase):
    mask = uniform_1d((4, 8), 2, seed=1).numpy()


class TestOnePoint(ComplexCase):
    mask = np.arange(6).reshape(2, 3) == 3


class RealCase(ComplexCase):
    def build(self, dtype=torch.float64):
        return SingleCoilMRI(torch.as_tensor(self.mask), (1, *self.mask.shape), dtype=dtype)

    def truth(self, operator):
        matrix = fourier(*self.mask.shape)[self.mask.ravel()]
        return np.concatenate([matrix.real, matrix.imag])

    def test_structure(self, operator, matrix):
        svd = operator.svd
        assert operator.structured and type(svd) is ConjugatePairsSVD
        dense = DenseSVD.of_matrix(
            torch.as_tensor(matrix), operator.event_shape, operator.measurement_shape, 2e-16
        )
        assert dense.rank == svd.rank
        close(svd.singular_values, dense.singular_values)
        for distinct in (1.0, math.sqrt(0.5)):  # the two singular subspaces, on both sides
            ours, theirs = (s.singular_values.sub(distinct).abs() < 1e-9 for s in (svd, dense))
            basis = torch.eye(svd.rank, dtype=torch.float64)[ours]
            for apply, factor in ((svd.left, dense.u), (svd.right, dense.v)):
                columns = apply(basis).flatten(1)
                close(columns.mT @ columns, factor[:, theirs] @ factor[:, theirs].mT)


class TestRealEven(RealCase):
    pass


class TestRealOdd(RealCase):
    mask = random_mask((5, 3), seed=1)


class TestRealOddAndEven(RealCase):
    mask = random_mask((3, 6), 0.7, seed=2)


class TestRealEverything(RealCase):
    mask = np.ones((4, 5), dtype=bool)


class TestRealOnlyDC(RealCase):
    mask = np.arange(6).reshape(2, 3) == 4


class TestRealHalfOfThePlane(RealCase):
    mask = np.arange(5)[:, None] + np.zeros(6) > 2  # no point has its partner: partial Fourier


@pytest.mark.parametrize("shape", [(6, 8), (5, 8), (7, 3), (1, 4), (1, 1)])
def test_kspace_is_numpys(shape):
    x = normal(2, 2, *shape).numpy()
    image = x[:, 0] + 1j * x[:, 1]
    axes = (-2, -1)
    wanted = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes=axes), norm="ortho"), axes=axes)
    close(to_kspace(torch.as_tensor(image)), wanted, 1e-13)
    close(to_image(torch.as_tensor(wanted)), image, 1e-13)
    close(to_kspace(torch.as_tensor(image.real)), 0.5 * (wanted + np.conj(mirror(wanted))), 1e-13)
    np.testing.assert_allclose(wanted.reshape(2, -1), image.reshape(2, -1) @ fourier(*shape).T, atol=1e-12)


def mirror(kspace):
    height, width = kspace.shape[-2:]
    rows, columns = (2 * (n // 2) - np.arange(n) for n in (height, width))
    return kspace[..., rows % height, :][..., columns % width]


def test_a_constant_image_is_its_dc_point():
    z = SingleCoilMRI(torch.ones(4, 6, dtype=torch.bool))(torch.ones(2, 4, 6))
    wanted = torch.zeros(4, 6)
    wanted[2, 3] = math.sqrt(24)
    close(z, wanted.flatten().expand(2, -1), 1e-6)


def test_select_reads_the_measurement_from_kspace():
    mask = torch.as_tensor(random_mask((4, 6)))
    x = normal(3, 2, 4, 6)
    operator = SingleCoilMRI(mask, dtype=torch.float64)
    close(operator.select(to_kspace(as_complex(x))), operator(x))
    real = SingleCoilMRI(mask, (1, 4, 6), dtype=torch.float64)
    close(real.select(to_kspace(x[:, 0]).to(torch.complex64)), real(x[:, :1]), 1e-6)


def test_zero_filling_agrees_with_numpy_at_full_size():
    mask = gaussian_2d((256, 192), 8, seed=0)
    operator = SingleCoilMRI(mask, dtype=torch.float64)
    x = normal(2, 256, 192)
    kspace = (
        np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x[0].numpy() + 1j * x[1].numpy()))) / 256 / np.sqrt(0.75)
    )
    close(torch.complex(*operator(x)), kspace[mask.numpy()], 1e-10)
    wanted = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace * mask.numpy()))) * 256 * np.sqrt(0.75)
    close(as_complex(operator.pinv(operator(x))), wanted, 1e-10)
    assert operator.norm() == operator.condition_number() == 1
    real = SingleCoilMRI(mask, (1, 256, 192), dtype=torch.float64)
    z = real(x[:1])
    close(real(real.pinv(z)), z, 1e-10)  # by structure: the dense matrix would have 6e8 entries
    assert real.condition_number() == pytest.approx(math.sqrt(2))


def test_averaging_a_pair_halves_the_variance_of_white_noise():
    # k and -k both sampled: the pseudo-inverse averages them; dropping one of them would not.
    operator = SingleCoilMRI(torch.ones(8, 8, dtype=torch.bool), (1, 8, 8), dtype=torch.float64)
    variance = operator.pinv(normal(4000, 2, 64)).var(0).mean()
    assert abs(variance - 1.0 * 64 / 64) < 0.02  # V diag(1/s^2) V^T = I: s = 1 for all 64 directions
    half = SingleCoilMRI(torch.arange(8)[:, None].expand(8, 8) >= 4, (1, 8, 8), dtype=torch.float64)
    inverse = half.svd.singular_values.pow(-2).sum() / 64
    assert abs(half.pinv(normal(4000, *half.measurement_shape)).var(0).mean() - inverse) < 0.03


def test_channels_and_complex_are_inverse():
    x = normal(3, 2, 4, 5)
    image = as_complex(x)
    assert image.shape == (3, 4, 5) and image.dtype == torch.complex128
    np.testing.assert_array_equal(image.numpy(), x.numpy()[:, 0] + 1j * x.numpy()[:, 1])
    assert torch.equal(as_channels(image), x)
    assert as_complex(x.float()).dtype == torch.complex64 and as_channels(image.conj()).dtype == torch.float64
    assert torch.equal(as_channels(image.conj())[:, 1], -x[:, 1])
    other = as_complex(normal(3, 2, 4, 5, seed=9))
    close((as_channels(image) * as_channels(other)).sum(), np.vdot(image.numpy(), other.numpy()).real)
    assert as_complex(normal(0, 2, 4, 5)).shape == (0, 4, 5)


@JVP_WARNS
def test_channels_differentiate():
    x, v = normal(2, 2, 3, 4), normal(2, 2, 3, 4, seed=3)
    tangent = torch.func.jvp(lambda x: as_channels(as_complex(x) ** 2), (x,), (v,))[1]
    close(tangent, as_channels(2 * as_complex(x) * as_complex(v)))
    close(
        torch.func.vmap(lambda x: as_channels(to_kspace(as_complex(x))))(x),
        as_channels(to_kspace(as_complex(x))),
    )


MASK = torch.ones(4, 6, dtype=torch.bool)
REFUSED = [
    (
        lambda: SingleCoilMRI(MASK.float()),
        TypeError,
        r"^SingleCoilMRI: expected a bool mask, got torch\.float32",
    ),
    (
        lambda: SingleCoilMRI(MASK[0]),
        ValueError,
        r"of shape \(H, W\), got \(6,\); a mask of columns .* mask\.expand",
    ),
    (lambda: SingleCoilMRI(MASK[None]), ValueError, r"of shape \(H, W\), got \(1, 4, 6\)"),
    (lambda: SingleCoilMRI(~MASK), ValueError, "none of the 24 points of k-space is sampled"),
    (lambda: SingleCoilMRI(MASK, (3, 4, 6)), ValueError, r"event_shape=\(2, 4, 6\), .* got \(3, 4, 6\)"),
    (lambda: SingleCoilMRI(MASK, (2, 6, 4)), ValueError, r"a mask of shape \(4, 6\), got \(2, 6, 4\)"),
    (lambda: SingleCoilMRI(MASK, (4, 6)), ValueError, r"or \(1, 4, 6\), a real image"),
    (lambda: SingleCoilMRI(MASK, 24), TypeError, "expected event_shape to be a tuple"),
    (lambda: SingleCoilMRI(MASK, dtype=torch.complex64), TypeError, "expected a real floating dtype"),
    (
        lambda: SingleCoilMRI(MASK)(torch.zeros(1, 4, 6)),
        ValueError,
        r"expected x of shape \(\*batch, 2, 4, 6\)",
    ),
    (lambda: SingleCoilMRI(MASK)(torch.zeros(2, 4, 6) + 0j), TypeError, r"expected x in torch\.float32"),
    (
        lambda: SingleCoilMRI(MASK).select(torch.zeros(4, 6)),
        TypeError,
        r"select: expected k-space as a complex",
    ),
    (lambda: SingleCoilMRI(MASK).select([[0j]]), TypeError, "as a complex tensor, got list"),
    (
        lambda: SingleCoilMRI(MASK).select(torch.zeros(6, 4) + 0j),
        ValueError,
        r"\(\*batch, 4, 6\), got \(6, 4\)",
    ),
    (
        lambda: as_channels(torch.zeros(4, 6)),
        TypeError,
        r"^as_channels: expected a complex tensor, got torch\.float",
    ),
    (lambda: as_channels(np.zeros(4) + 0j), TypeError, "expected a complex tensor, got ndarray"),
    (lambda: as_channels(torch.zeros(4) + 0j), ValueError, r"of shape \(\*batch, H, W\), got \(4,\)"),
    (
        lambda: as_complex(torch.zeros(2, 4, 6) + 0j),
        TypeError,
        r"^as_complex: expected a real floating tensor",
    ),
    (lambda: as_complex(torch.zeros(2, 4, 6, dtype=torch.int16)), TypeError, r"got torch\.int16"),
    (lambda: as_complex("x"), TypeError, "got str"),
    (lambda: as_complex(torch.zeros(4, 6, 2)), ValueError, r"got \(4, 6, 2\); .*torch\.view_as_complex"),
    (lambda: as_complex(torch.zeros(4, 6)), ValueError, r"two channels, real and imaginary"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_numpy_masks_are_welcome():
    operator = SingleCoilMRI(MASK.numpy(), [1, 4, 6])
    assert operator.event_shape == (1, 4, 6) and operator.measurement_shape == (2, 24)
    assert repr(operator) == "SingleCoilMRI(mask=<24 of 24 sampled>, event_shape=(1, 4, 6))"

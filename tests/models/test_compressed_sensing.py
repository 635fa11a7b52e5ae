"""Subsampled transforms against scipy.linalg.hadamard, scipy.fft and numpy."""

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch
from operator_case import OperatorCase, close, normal

from bayes_ir.models.operators.compressed_sensing import SubsampledDCT, WalshHadamardSensing
from bayes_ir.models.operators.subsampled_dft import SubsampledDFT


def per_channel(matrix, channels):
    return np.kron(np.eye(channels), matrix)


class TestWalshHadamard(OperatorCase):
    event_shape, ratio, as_published = (3, 4, 8), 0.3, False

    def build(self, dtype=torch.float64):
        return WalshHadamardSensing(
            self.event_shape, self.ratio, 3, as_published=self.as_published, dtype=dtype
        )

    def truth(self, operator):
        channels, height, width = self.event_shape
        n = height * width
        scrambled = np.eye(n)[operator.pixels.numpy()]
        return per_channel(
            (scipy.linalg.hadamard(n) / np.sqrt(n) @ scrambled)[operator.rows.numpy()], channels
        )

    def test_counts_and_keeps(self, operator):
        channels, height, width = self.event_shape
        n = height * width
        assert operator.structured
        assert operator.measurement_shape == (channels, int(self.ratio * n))
        (scrambled, plain) = (
            (operator.rows, operator.pixels) if self.as_published else (operator.pixels, operator.rows)
        )
        assert torch.equal(plain, torch.arange(len(plain)))
        assert not torch.equal(scrambled, torch.arange(len(scrambled)))
        assert len(scrambled.unique()) == len(scrambled)


class TestWalshHadamardAsPublished(TestWalshHadamard):
    as_published = True


class TestWalshHadamardOneChannel(TestWalshHadamard):
    event_shape, ratio = (1, 8, 4), 1


class TestDCT(OperatorCase):
    event_shape, ratio, low_frequencies = (2, 5, 6), 0.4, 0

    def build(self, dtype=torch.float64):
        return SubsampledDCT(self.event_shape, self.ratio, 3, self.low_frequencies, dtype=dtype)

    def truth(self, operator):
        channels, height, width = self.event_shape
        basis = np.eye(height * width).reshape(-1, height, width)
        transform = scipy.fft.dctn(basis, axes=(1, 2), norm="ortho").reshape(height * width, -1).T
        return per_channel(transform[operator.rows.numpy()], channels)

    def test_keeps_the_low_frequencies(self, operator):
        low, width = self.low_frequencies, self.event_shape[2]
        kept = {divmod(int(row), width) for row in operator.rows[: low**2]}
        assert kept == {(i, j) for i in range(low) for j in range(low)}
        assert len(operator.rows.unique()) == len(operator.rows) == int(self.ratio * 30)


class TestDCTLowFrequencies(TestDCT):
    event_shape, low_frequencies = (1, 6, 5), 3


class TestDCTWhole(TestDCT):
    event_shape, ratio = (1, 6, 5), 1.0


class TestDFT(OperatorCase):
    event_shape, ratio, low_frequencies = (2, 5, 6), 0.5, 0

    def build(self, dtype=torch.float64):
        return SubsampledDFT(self.event_shape, self.ratio, 5, self.low_frequencies, dtype=dtype)

    def truth(self, operator):
        channels, height, width = self.event_shape
        basis = np.eye(height * width).reshape(-1, height, width)
        transform = np.fft.fft2(basis, norm="ortho")
        rows, p = [transform[:, k1, k2] for k1, k2 in operator.frequencies.tolist()], operator.pairs
        parts = [np.sqrt(2) * f.real for f in rows[:p]] + [np.sqrt(2) * f.imag for f in rows[:p]]
        return per_channel(np.stack(parts + [f.real for f in rows[p:]]), channels)

    def test_frequencies(self, operator):
        _, height, width = self.event_shape
        k = operator.frequencies
        total = (height * width + (2 if height % 2 == 0 else 1) * (2 if width % 2 == 0 else 1)) // 2
        assert len(k) == int(self.ratio * total)
        assert operator.measurement_shape[1] == len(k) + operator.pairs
        own = ((2 * k) % torch.tensor([height, width]) == 0).all(-1)
        assert torch.equal(own, torch.arange(len(k)) >= operator.pairs)
        seen = {(a % height, b % width) for a, b in k.tolist()} | {
            (-a % height, -b % width) for a, b in k.tolist()
        }
        assert len(seen) == len(k) + operator.pairs  # no frequency is measured twice
        assert (2 * k[:, 0] > -height).all() and (2 * k[:, 0] <= height).all()
        low = {(a, b) for a, b in k.tolist() if max(abs(a), b) < self.low_frequencies}
        half = 2 * self.low_frequencies - 1
        assert not low or len(low) == (half**2 + 1) // 2


class TestDFTOddSides(TestDFT):
    event_shape = (1, 5, 7)


class TestDFTEvenSides(TestDFT):
    event_shape = (1, 4, 6)


class TestDFTWhole(TestDFT):
    event_shape, ratio = (2, 6, 4), 1.0


class TestDFTWholeOdd(TestDFT):
    event_shape, ratio = (1, 7, 3), 1.0


class TestDFTOneRow(TestDFT):
    event_shape, ratio = (2, 1, 9), 0.7


class TestDFTLowFrequencies(TestDFT):
    event_shape, low_frequencies = (1, 8, 7), 3


@pytest.mark.parametrize("make", [WalshHadamardSensing, SubsampledDCT, SubsampledDFT])
def test_rows_are_orthonormal_and_the_choice_is_nested(make):
    small, large, other = make((3, 32, 64), 0.1), make((3, 32, 64), 0.2), make((3, 32, 64), 0.1, seed=1)
    z = normal(2, *small.measurement_shape, dtype=torch.float32)
    close(small(small.adjoint(z)), z, 1e-5)
    x = normal(3, 32, 64, dtype=torch.float32)
    if make is SubsampledDFT:
        kept, more = ({tuple(k) for k in a.frequencies.tolist()} for a in (small, large))
        assert kept < more
    else:
        close(large(x)[:, : small.measurement_shape[1]], small(x), 1e-5)
    assert not torch.allclose(small(x), other(x)[:, : small.measurement_shape[1]])
    assert small.measurement_shape[1] == pytest.approx(0.1 * 32 * 64, rel=0.03)


def test_a_third_is_a_third():
    # 1/3 is rounded down in binary, and a third of nine would be two.
    assert SubsampledDCT((1, 3, 3), 1 / 3).measurement_shape == (1, 3)
    assert SubsampledDCT((1, 7, 7), 1 - 1e-9).measurement_shape == (1, 48)


def test_the_mean_is_always_measured_by_the_permuted_hadamard_transform():
    x = torch.full((1, 16, 16), 0.5)
    z = WalshHadamardSensing((1, 16, 16))(x)[0]
    close(z, torch.cat([torch.tensor([8.0]), torch.zeros(63)]), 1e-5)


@pytest.mark.parametrize("make", [SubsampledDCT, SubsampledDFT])
def test_low_frequencies_hold_a_smooth_image(make):
    row, column = np.indices((32, 32)) / 32
    x = torch.as_tensor(np.cos(np.pi * (row - 0.4)) + np.cos(2 * np.pi * column), dtype=torch.float64)[None]
    errors = []
    for low in (0, 4):
        operator = make((1, 32, 32), 0.25, low_frequencies=low, dtype=torch.float64)
        errors.append(float((operator.pinv(operator(x)) - x).norm() / x.norm()))
    assert errors[1] < 0.15 and errors[1] < 0.3 * errors[0]


def test_repr_shows_the_settings():
    assert repr(WalshHadamardSensing((1, 4, 4), 0.5)) == (
        "WalshHadamardSensing(event_shape=(1, 4, 4), ratio=0.5, seed=0)"
    )
    assert "as_published=True" in repr(WalshHadamardSensing((1, 4, 4), as_published=True))
    for make in (SubsampledDCT, SubsampledDFT):
        assert repr(make((1, 4, 5), 0.5, 2, 1)).endswith("seed=2, low_frequencies=1)")
        assert repr(make((1, 4, 5), 0.5, 2)).endswith("seed=2)")


ANY_SIZE = (SubsampledDCT, SubsampledDFT)
REFUSED = [
    (
        lambda: WalshHadamardSensing((1, 28, 28)),
        ValueError,
        r"28 x 28 = 784 \(the next is 1024\).*SubsampledDCT",
    ),
    (lambda: WalshHadamardSensing((1, 8)), ValueError, r"got \(1, 8\); try \(1, 1, 8\)"),
    (lambda: WalshHadamardSensing((1, 8, 8), 4), ValueError, "expected 0 < ratio <= 1.*take ratio=1/4"),
    (lambda: WalshHadamardSensing((1, 8, 8), 0.25, "a"), TypeError, "expected seed to be a whole number"),
    (lambda: WalshHadamardSensing((1, 8, 8), 0.01), ValueError, "keeps none of 64 coefficients.*1/64"),
    *(
        case
        for make in ANY_SIZE
        for case in [
            (lambda make=make: make((1, 8, 8), 0.0), ValueError, "expected 0 < ratio <= 1.*got 0.0"),
            (lambda make=make: make((1, 8, 8), -0.5), ValueError, r"ratio <= 1.*got -0\.5"),
            (lambda make=make: make((1, 8, 8), float("nan")), ValueError, "expected ratio to be finite"),
            (
                lambda make=make: make((1, 8, 8), "25 %"),
                TypeError,
                "expected ratio to be a number, got '25 %'",
            ),
            (lambda make=make: make((1, 8, 8), 0.01), ValueError, "ratio=0.01 keeps none"),
            (lambda make=make: make((1, 8, 8), 0.25, None), TypeError, "expected seed to be a whole number"),
            (lambda make=make: make((1, 8, 8), 0.1, 0, 5), ValueError, "take fewer low_frequencies"),
            (lambda make=make: make((1, 8, 8), 0.1, 0, -1), ValueError, "low_frequencies >= 0, got -1"),
            (lambda make=make: make((1, 8, 8), 0.1, 0, 1.5), TypeError, "low_frequencies to be a whole"),
            (lambda make=make: make((8, 8)), ValueError, r"got \(8, 8\); try"),
            (lambda make=make: make((1, 8, 8), dtype=torch.complex64), TypeError, "real floating dtype"),
        ]
    ),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=rf"^(WalshHadamardSensing|SubsampledDCT|SubsampledDFT): .*{words}"):
        make()

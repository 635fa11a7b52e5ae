"""Phase retrieval against numpy.fft."""

import numpy as np
import pytest
import torch
from nonlinear_case import NonlinearCase
from operator_case import close, normal

from bayes_ir.models.operators.phase_retrieval import PhaseRetrieval


class TestPhaseRetrieval(NonlinearCase):
    shape, oversampling = (2, 8, 16), 2.0

    def build(self, dtype=torch.float64):
        return PhaseRetrieval(self.shape, self.oversampling, dtype)

    def truth(self, operator, x):
        height, width = x.shape[1:]
        rows, columns = (int(self.oversampling / 8 * side) for side in (height, width))
        padded = np.zeros((len(x), height + 2 * rows, width + 2 * columns))
        padded[:, rows : rows + height, columns : columns + width] = x
        return np.abs(np.fft.fftshift(np.fft.fft2(padded, norm="ortho"), axes=(1, 2)))


class TestOddSides(TestPhaseRetrieval):
    shape, oversampling = (1, 9, 7), 4.5


class TestUnpadded(TestPhaseRetrieval):
    shape, oversampling = (3, 5, 6), 0.0


@pytest.mark.parametrize(
    ("sides", "oversampling", "padded"),
    [
        ((256, 256), 2.0, (384, 384)),
        ((28, 28), 2.0, (42, 42)),
        ((80, 64), 0.7, (94, 74)),
        ((8, 8), 4, (16, 16)),
    ],
)
def test_padding_is_that_of_dps(sides, oversampling, padded):
    operator = PhaseRetrieval((3, *sides), oversampling)
    assert operator.measurement_shape == (3, *padded)
    assert operator.padding == tuple((p - s) // 2 for p, s in zip(padded, sides, strict=True))


def test_keeps_the_norm_and_puts_the_mean_in_the_middle():
    operator, x = PhaseRetrieval((1, 8, 8), dtype=torch.float64), normal(5, 1, 8, 8)
    z = operator(x)
    close(z.square().sum((1, 2, 3)), x.square().sum((1, 2, 3)))
    close(z[:, 0, 6, 6], x.sum((1, 2, 3)).abs() / 12)


def test_does_not_see_sign_point_reflection_and_shift():
    operator = PhaseRetrieval((1, 8, 8), dtype=torch.float64)
    x = torch.nn.functional.pad(normal(1, 5, 6), (1, 1, 2, 1))
    z = operator(x)
    for same in (-x, x.flip(-1, -2), x.roll((-2, 1), (-2, -1))):
        close(operator(same), z)
    assert (operator(x.flip(-1)) - z).abs().max() > 0.1


def test_magnitudes_of_a_real_image_are_symmetric():
    z = PhaseRetrieval((1, 8, 8), dtype=torch.float64)(normal(1, 8, 8))
    close(z[..., 1:, 1:], z[..., 1:, 1:].flip(-1, -2))


def test_subgradient_at_zero_magnitude_is_zero():
    operator = PhaseRetrieval((1, 4, 4), oversampling=0.0, dtype=torch.float64)
    x = torch.zeros(1, 4, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(operator(x).sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x))
    checker = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64).expand(1, 4, 4).clone()
    assert (operator(checker) == 0).sum() == 15  # exactly: sums of +-1
    checker.requires_grad_()
    (gradient,) = torch.autograd.grad(operator(checker).sum(), checker)
    close(gradient, checker.detach() / 4)  # of the one magnitude that is not zero


def test_second_derivatives():
    operator = PhaseRetrieval((1, 3, 4), oversampling=4.0, dtype=torch.float64)
    x = normal(1, 3, 4).requires_grad_()
    assert torch.autograd.gradgradcheck(operator, (x,))


REFUSED = [
    (
        lambda: PhaseRetrieval((8, 8)),
        ValueError,
        r"expected event_shape \(channels, height, width\), got \(8, 8\)",
    ),
    (lambda: PhaseRetrieval(8), TypeError, "expected event_shape to be a tuple"),
    (lambda: PhaseRetrieval((1, 0, 8)), ValueError, "expected every size in event_shape >= 1, got 0"),
    (lambda: PhaseRetrieval((1, 8, 8), -1.0), ValueError, "expected oversampling >= 0, got -1.0"),
    (
        lambda: PhaseRetrieval((1, 8, 8), float("nan")),
        ValueError,
        "expected oversampling to be finite, got nan",
    ),
    (
        lambda: PhaseRetrieval((1, 8, 8), float("inf")),
        ValueError,
        "expected oversampling to be finite, got inf",
    ),
    (lambda: PhaseRetrieval((1, 8, 8), "2"), TypeError, "expected oversampling to be a number, got '2'"),
    (lambda: PhaseRetrieval((1, 8, 8), True), TypeError, "expected oversampling to be a number, got True"),
    (
        lambda: PhaseRetrieval((1, 16, 3), 2.0),
        ValueError,
        r"oversampling=2.0 pads \(4, 0\) pixels around images of 16 x 3; try oversampling >= 2.66667",
    ),
    (lambda: PhaseRetrieval((1, 8, 8), dtype=torch.complex64), TypeError, "expected a real floating dtype"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=words) as caught:
        make()
    assert str(caught.value).startswith("PhaseRetrieval: ")

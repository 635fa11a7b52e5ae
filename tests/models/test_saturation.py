"""Saturation and gamma against numpy and scikit-image."""

import numpy as np
import pytest
import torch
from nonlinear_case import NonlinearCase
from operator_case import close
from skimage.exposure import adjust_gamma

from bayes_ir.models.operators.saturation import Gamma, Saturation


class TestSaturation(NonlinearCase):
    has_pinv, image_range = True, (-0.5, 1.5)

    def build(self, dtype=torch.float64):
        return Saturation((2, 3, 4), gain=2.0, data_range=(0.0, 1.0), dtype=dtype)

    def truth(self, operator, x):
        return np.clip(0.5 + 2 * (x - 0.5), 0, 1)


class TestHighDynamicRange(NonlinearCase):
    """The task of DAPS: pixels in [-1, 1], clip(2 x, -1, 1)."""

    has_pinv, image_range = True, (-1.2, 1.2)

    def build(self, dtype=torch.float64):
        return Saturation((1, 3, 4), data_range=(-1, 1), dtype=dtype)

    def truth(self, operator, x):
        return np.clip(2 * x, -1, 1)


class TestLowGain(NonlinearCase):
    has_pinv, image_range = True, (-600.0, 700.0)

    def build(self, dtype=torch.float64):
        return Saturation((7,), gain=0.5, data_range=(0, 255), dtype=dtype)

    def truth(self, operator, x):
        return np.minimum(np.maximum(63.75 + x / 2, 0), 255)


class TestGamma(NonlinearCase):
    has_pinv, image_range = True, (-0.3, 1.4)

    def build(self, dtype=torch.float64):
        return Gamma((3, 4, 5), gamma=2.2, dtype=dtype)

    def truth(self, operator, x):
        return adjust_gamma(np.maximum(x, 0), 2.2)  # of floats: x ** gamma


class TestGammaBrightens(NonlinearCase):
    has_pinv, image_range = True, (-1.5, 1.2)

    def build(self, dtype=torch.float64):
        return Gamma((2, 3, 4), 0.45, data_range=(-1.0, 1.0), dtype=dtype)

    def truth(self, operator, x):
        return 2 * adjust_gamma(np.maximum((x + 1) / 2, 0), 0.45) - 1


def gradient(operator, x):
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(operator(x).sum(), x)[0]


def test_gradient_of_saturation_is_the_gain_up_to_the_edge():
    operator = Saturation((5,), gain=2.0, data_range=(-1, 1), dtype=torch.float64)
    close(gradient(operator, [-0.6, -0.5, 0.1, 0.5, 0.6]), [0.0, 2.0, 2.0, 2.0, 0.0])


def test_gradient_of_gamma_is_zero_at_and_below_black():
    for gamma in (0.5, 1.0, 2.0):
        operator = Gamma((4,), gamma, dtype=torch.float64)
        wanted = [0.0, 0.0, gamma * 0.25 ** (gamma - 1), gamma * 1.5 ** (gamma - 1)]
        close(gradient(operator, [-1.0, 0.0, 0.25, 1.5]), wanted)


def test_one_map_in_other_units():
    x = torch.linspace(-0.2, 1.2, 9, dtype=torch.float64)
    for make in (Saturation, Gamma):
        unit = make((9,), dtype=torch.float64)
        signed = make((9,), data_range=(-1.0, 1.0), dtype=torch.float64)
        close(signed(2 * x - 1), 2 * unit(x) - 1)


def test_pseudo_inverse_restores_what_was_not_clipped():
    x = torch.linspace(0.25, 0.75, 9, dtype=torch.float64)
    operator = Saturation((9,), dtype=torch.float64)
    close(operator.pinv(operator(x)), x)
    close(Gamma((9,), 3.0, dtype=torch.float64).pinv(x**3), x)
    close(operator.pinv(operator(x + 1)), torch.full((9,), 0.75))  # the edge of the clipping


REFUSED = [
    (lambda: Saturation((3,), gain=0.0), ValueError, "expected gain > 0, got 0.0"),
    (lambda: Saturation((3,), gain=-2), ValueError, "expected gain > 0, got -2"),
    (lambda: Saturation((3,), gain="2"), TypeError, "expected gain to be a number, got '2'"),
    (lambda: Saturation((3,), gain=float("nan")), ValueError, "expected gain to be finite, got nan"),
    (lambda: Saturation((3,), data_range=(1, 1)), ValueError, r"with low < high, got \(1, 1\)"),
    (
        lambda: Saturation((3,), data_range=(0, float("inf"))),
        ValueError,
        "each end of data_range to be finite",
    ),
    (lambda: Saturation((3,), data_range=255), TypeError, r"to be a pair such as \(0.0, 1.0\), got 255"),
    (
        lambda: Saturation((3,), data_range=(0, "1")),
        TypeError,
        "each end of data_range to be a number, got '1'",
    ),
    (lambda: Saturation(()), TypeError, "expected event_shape to be a tuple"),
    (lambda: Gamma((3,), 0), ValueError, "expected gamma > 0, got 0"),
    (lambda: Gamma((3,), float("inf")), ValueError, "expected gamma to be finite, got inf"),
    (lambda: Gamma((3,), True), TypeError, "expected gamma to be a number, got True"),
    (lambda: Gamma((3,), data_range=(1.0, -1.0)), ValueError, r"with low < high, got \(1.0, -1.0\)"),
    (lambda: Gamma((3,), dtype=torch.int32), TypeError, "expected a real floating dtype"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=words) as caught:
        make()
    assert str(caught.value).split(":")[0] in {"Saturation", "Gamma"}

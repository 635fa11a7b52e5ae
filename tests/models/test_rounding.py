"""Rounding against a search for the nearest level, and Pillow."""

import numpy as np
import pytest
import torch
from nonlinear_case import NonlinearCase
from operator_case import close
from PIL import Image

from bayes_ir.models.operators.rounding import Rounding


class TestRounding(NonlinearCase):
    has_pinv, image_range = True, (-0.2, 1.2)
    shape, bits, data_range = (2, 3, 4), 3, (0.0, 1.0)

    def build(self, dtype=torch.float64):
        return Rounding(self.shape, self.bits, self.data_range, dtype)

    def truth(self, operator, x):
        levels = np.linspace(*self.data_range, 2**self.bits)
        return levels[np.abs(x[..., None] - levels).argmin(-1)]

    def differentiated(self, operator, x):
        return x.clamp(*self.data_range)


class TestOneBit(TestRounding):
    image_range = (-1.5, 1.3)
    shape, bits, data_range = (7,), 1, (-1.0, 1.0)


class TestByte(TestRounding):
    image_range = (-20.0, 270.0)
    shape, bits, data_range = (1, 4, 4), 8, (0.0, 255.0)


class TestSixteenBits(TestRounding):
    shape, bits, data_range = (1, 3, 4), 16, (0.0, 1.0)


def test_a_byte_per_pixel_is_what_an_image_file_stores(tmp_path):
    x = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    Image.fromarray(np.rint(255 * x[0].numpy()).astype(np.uint8)).save(tmp_path / "x.png")
    close(Rounding((1, 16, 16), dtype=torch.float64)(x)[0], np.asarray(Image.open(tmp_path / "x.png")) / 255)


def test_error_is_at_most_half_a_step_and_levels_are_kept_exactly():
    for bits in (1, 2, 5, 8, 16):
        operator = Rounding((1001,), bits, (-1.0, 1.0))
        x = torch.linspace(-1, 1, 1001)
        z = operator(x)
        assert (z - x).abs().max() <= operator.step / 2 + 1e-6
        assert operator.levels == 2**bits and len(z.unique()) <= operator.levels
        assert torch.equal(operator(z), z)


def test_ties_go_to_the_even_level():
    operator = Rounding((3,), bits=2, data_range=(0.0, 3.0), dtype=torch.float64)
    assert operator(torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64)).tolist() == [0.0, 2.0, 2.0]


def test_gradient_is_straight_through_inside_the_range():
    x = torch.tensor([-0.1, 0.0, 0.4, 1.0, 1.1], requires_grad=True)
    (gradient,) = torch.autograd.grad(Rounding((5,), 4)(x).sum(), x)
    close(gradient, [0.0, 1.0, 1.0, 1.0, 0.0])


REFUSED = [
    (lambda: Rounding((3,), 0), ValueError, "expected bits >= 1, got 0"),
    (lambda: Rounding((3,), 17), ValueError, r"expected bits in 1..16, got 17"),
    (lambda: Rounding((3,), 8.0), TypeError, "expected bits to be a whole number, got 8.0"),
    (lambda: Rounding((3,), True), TypeError, "expected bits to be a whole number, got True"),
    (lambda: Rounding((3,), data_range=(1, 0)), ValueError, r"with low < high, got \(1, 0\)"),
    (
        lambda: Rounding((3,), data_range=(0, 1, 2)),
        TypeError,
        r"a pair such as \(0.0, 1.0\), got \(0, 1, 2\)",
    ),
    (lambda: Rounding((3,), data_range="01"), TypeError, "to be a pair such as"),
    (lambda: Rounding((3,), data_range=(0, float("nan"))), ValueError, "data_range to be finite, got nan"),
    (lambda: Rounding(3), TypeError, "expected event_shape to be a tuple"),
    (lambda: Rounding((0, 3)), ValueError, "expected every size in event_shape >= 1, got 0"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=words) as caught:
        make()
    assert str(caught.value).startswith("Rounding: ")

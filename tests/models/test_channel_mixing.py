"""Mixtures of channels against numpy and scikit-image."""

import numpy as np
import pytest
import skimage.color
import torch
from operator_case import OperatorCase, close, normal

from bayes_ir.models.operators.channel_mixing import ChannelMixing, Colorization

MATRIX = np.random.default_rng(0).normal(size=(2, 3))


class MixingCase(OperatorCase):
    matrix_of_channels, shape = MATRIX, (3, 3, 4)

    def build(self, dtype=torch.float64):
        return ChannelMixing(self.shape, self.matrix_of_channels, dtype)

    def truth(self, operator):
        n = operator.event_shape.numel()
        images = np.eye(n).reshape(n, *operator.event_shape)
        return np.einsum("kc,nchw->nkhw", np.asarray(self.matrix_of_channels), images).reshape(n, -1).T


class TestMixing(MixingCase):
    pass


class TestTallMixing(MixingCase):
    matrix_of_channels, shape = MATRIX.T, (2, 3, 4)


class TestRankDeficientMixing(MixingCase):
    """The third channel sees the sum of the others."""

    matrix_of_channels = np.array([[1, 0, 2], [0, 1, 1], [1, 1, 3]])

    def test_rank(self, operator):
        assert operator.svd.rank == self.build(torch.float32).svd.rank == 2 * 12


class TestColorization(MixingCase):
    matrix_of_channels = np.full((1, 3), 1 / 3)

    def build(self, dtype=torch.float64):
        return Colorization(self.shape, dtype=dtype)


class TestLuma(MixingCase):
    matrix_of_channels = np.array([[0.299, 0.587, 0.114]])

    def build(self, dtype=torch.float64):
        return Colorization(self.shape, self.matrix_of_channels[0], dtype)


class TestTwoChannels(TestColorization):
    shape, matrix_of_channels = (2, 3, 4), np.full((1, 2), 1 / 2)


def test_grey_is_that_of_scikit_image():
    x = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grey = Colorization((3, 20, 30), (0.2125, 0.7154, 0.0721), torch.float64)(x)
    close(grey[0], skimage.color.rgb2gray(x.numpy(), channel_axis=0), 1e-14)


def test_a_change_of_colour_space_is_that_of_scikit_image():
    x = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    operator = ChannelMixing((3, 20, 30), skimage.color.colorconv.yuv_from_rgb, torch.float64)
    wanted = skimage.color.rgb2yuv(x.numpy(), channel_axis=0)
    close(operator(x), wanted, 1e-14)
    close(operator.pinv(operator(x)), skimage.color.yuv2rgb(wanted, channel_axis=0), 1e-12)


def test_colorization_has_one_singular_value():
    operator = Colorization((3, 4, 5), (1.0, 2.0, 2.0))  # weights are not normalised
    close(operator.svd.singular_values, np.full(20, 3.0), 1e-12)
    grey = normal(1, 4, 5).float()
    close(operator.pinv(grey), torch.tensor([1.0, 2.0, 2.0])[:, None, None] * grey / 9, 1e-6)


def test_no_identity_is_stored():
    operator = Colorization((3, 64, 64))
    stored = [v for o in (operator, operator.svd) for v in vars(o).values() if isinstance(v, torch.Tensor)]
    assert operator.rows is None and operator.columns is None
    assert max(v.numel() for v in stored) == 64 * 64


def test_the_repr_tells_the_settings():
    assert repr(ChannelMixing((3, 4, 5), MATRIX)) == "ChannelMixing(event_shape=(3, 4, 5), matrix=<2 x 3>)"
    text = "Colorization(event_shape=(3, 4, 5), weights=(0.299, 0.587, 0.114))"
    assert repr(Colorization((3, 4, 5), (0.299, 0.587, 0.114))) == text


REFUSED = [
    (
        lambda: ChannelMixing((1, 8, 8), MATRIX),
        ValueError,
        r"takes 3 channels, but .* expected a matrix \(2, 1\)",
    ),
    (
        lambda: ChannelMixing((3, 8, 8), MATRIX.T),
        ValueError,
        r"takes 2 channels, but event_shape=\(3, 8, 8\) has 3",
    ),
    (lambda: ChannelMixing((3, 8, 8), MATRIX[0]), ValueError, r"matrix to be a matrix, got shape \(3,\)"),
    (
        lambda: ChannelMixing((3, 8, 8), MATRIX * 1j),
        TypeError,
        "real numbers in matrix, got torch.complex128",
    ),
    (
        lambda: ChannelMixing((3, 8, 8), MATRIX * np.nan),
        ValueError,
        "6 of the 6 numbers in matrix are not finite",
    ),
    (lambda: ChannelMixing((3, 8, 8), None), TypeError, "matrix to be an array of numbers, got None"),
    (lambda: ChannelMixing((8, 8), MATRIX), ValueError, r"got \(8, 8\); try \(1, 8, 8\)"),
    (lambda: Colorization((3, 8, 8), (0.5, 0.5)), ValueError, r"for each of the 3 channels .* got 2"),
    (lambda: Colorization((3, 8, 8), (0, 0, 0)), ValueError, "all 3 weights are zero"),
    (lambda: Colorization((3, 8, 8), 1.0), ValueError, r"weights to be a list of numbers, got shape \(\)"),
    (lambda: Colorization((3, 8, 8), "luma"), TypeError, "weights to be an array of numbers, got 'luma'"),
    (lambda: Colorization((8, 8, 3, 1)), ValueError, r"got \(8, 8, 3, 1\)"),
    (lambda: Colorization((3, 8, 8), dtype=torch.uint8), TypeError, "expected a real floating dtype"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=rf"^(ChannelMixing|Colorization): .*{words}"):
        make()

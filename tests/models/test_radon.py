"""The Radon transform and filtered back-projection against scikit-image."""

import warnings

import numpy as np
import pytest
import torch
from operator_case import JVP_WARNS, OperatorCase, close, normal
from skimage.data import shepp_logan_phantom
from skimage.metrics import peak_signal_noise_ratio
from skimage.transform import downscale_local_mean, iradon, radon

from bayes_ir.models.operators import filtered_back_projection as fbp_module
from bayes_ir.models.operators import radon as radon_module
from bayes_ir.models.operators.filtered_back_projection import FILTERS
from bayes_ir.models.operators.radon import Radon

UNEVEN = [0.0, 17.3, 45.0, 90.0, 91.0, 135.0, 179.5]


def sinogram(image, operator):
    """One channel through scikit-image, (angles, detectors)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Radon transform: image must be zero outside")
        lines = radon(np.asarray(image), np.array(operator.angles), circle=operator.circle)
    first = len(lines) // 2 - operator.detectors // 2  # the axis is in the middle of both
    return lines[first : first + operator.detectors].T


class RadonCase(OperatorCase):
    """The matrix column by column: what scikit-image makes of an image with one bright pixel."""

    def truth(self, operator):
        channels, height, width = operator.event_shape
        pixels = np.eye(height * width).reshape(-1, height, width)
        one = np.stack([sinogram(pixel, operator).ravel() for pixel in pixels], axis=1)
        return np.kron(np.eye(channels), one)


class TestRadonEven(RadonCase):
    def build(self, dtype=torch.float64):
        return Radon((1, 8, 8), 9, dtype=dtype)


class TestRadonCircle(RadonCase):
    def build(self, dtype=torch.float64):
        return Radon((1, 9, 9), 6, circle=True, dtype=dtype)


class TestRadonOblong(RadonCase):
    def build(self, dtype=torch.float64):
        return Radon((2, 5, 4), 5, dtype=dtype)


class TestRadonFewDetectors(RadonCase):
    def build(self, dtype=torch.float64):
        return Radon((1, 7, 8), torch.tensor(UNEVEN), detectors=5, dtype=dtype)


@pytest.mark.parametrize("circle", [False, True])
@pytest.mark.parametrize("side", [63, 64])
def test_agrees_with_scikit_image_and_its_adjoint_is_matched(side, circle):
    operator = Radon((1, side, side), 20, circle=circle, dtype=torch.float64)
    x, z = normal(1, side, side), normal(*operator.measurement_shape, seed=1)
    close(operator(x)[0], sinogram(x[0], operator), 1e-10)
    ahead, back = (operator(x) * z).sum(), (x * operator.adjoint(z)).sum()
    assert abs(ahead - back) < 1e-13 * operator(x).norm() * z.norm()
    single = operator.to(dtype=torch.float32)
    close(single(x.float()).double(), operator(x), 2e-4)


def test_every_channel_and_image_has_its_own_sinogram():
    operator = Radon((3, 10, 12), UNEVEN, detectors=11, dtype=torch.float64)
    x = normal(2, 3, 10, 12)
    wanted = np.stack([[sinogram(channel, operator) for channel in image] for image in x])
    close(operator(x), wanted, 1e-10)


def test_measures_line_integrals():
    # A round Gaussian of standard deviation 4 pixels has the same profile 4 sqrt(2 pi) exp(-s^2 / 32) from everywhere.
    operator = Radon((1, 40, 40), 12, dtype=torch.float64)
    r = torch.arange(40, dtype=torch.float64) - 20
    s = torch.arange(operator.detectors, dtype=torch.float64) - operator.detectors // 2
    blob = torch.exp(-(r[:, None] ** 2 + r**2) / 32)[None]
    profile = 4 * (2 * torch.pi) ** 0.5 * torch.exp(-(s**2) / 32)
    assert (operator(blob) - profile).abs().max() < 0.02 * profile.max()


def test_copies_and_pieces_are_the_same_map(monkeypatch):
    operator = Radon((2, 12, 12), 7, dtype=torch.float64)
    x, z = normal(3, 2, 12, 12), normal(3, *operator.measurement_shape)
    single = Radon((2, 12, 12), 7)
    assert torch.equal(operator.to(dtype=torch.float32)(x.float()), single(x.float()))
    assert torch.equal(single.to(dtype=torch.float64)(x), operator(x))  # the angles are not rounded
    wanted = operator(x), operator.adjoint(z), operator.fbp(z), operator.gram_diagonal()
    for module in (radon_module, fbp_module):
        monkeypatch.setattr(module, "_CHUNK", 1)
    for got, whole in zip(
        (operator(x), operator.adjoint(z), operator.fbp(z), operator.gram_diagonal()), wanted, strict=True
    ):
        close(got, whole, 1e-12)
    half = operator.to(dtype=torch.float16)
    close(half(x.half()).double(), operator(x), 2e-2)
    assert half.fbp(half(x.half())).dtype == torch.float16


def test_large_images_need_no_matrix():
    operator = Radon((1, 64, 64), 16, dtype=torch.float64)
    assert not operator.structured and not operator.has_svd
    x = normal(1, 64, 64)
    z = operator(x)
    solved = operator.solve(z, scale=0.01, shift=1.0)
    close(0.01 * operator(operator.adjoint(solved)) + solved, z, 1e-10)
    rows = torch.zeros(3, *operator.measurement_shape, dtype=torch.float64)
    rows[[0, 1, 2], 0, [0, 5, 11], [45, 20, 60]] = 1
    close(
        operator.gram_diagonal()[0, [0, 5, 11], [45, 20, 60]], operator.adjoint(rows).square().sum((1, 2, 3))
    )


class TestFilteredBackProjection:
    @pytest.mark.parametrize("filter", [*FILTERS, None])
    @pytest.mark.parametrize("circle", [False, True])
    @pytest.mark.parametrize("side", [4, 7, 16, 33])
    def test_agrees_with_scikit_image(self, side, circle, filter):
        for angles in (9, UNEVEN):
            operator = Radon((1, side, side), angles, circle=circle, dtype=torch.float64)
            z = normal(*operator.measurement_shape)
            theta = np.array(operator.angles)
            wanted = iradon(z[0].T.numpy(), theta, output_size=side, filter_name=filter, circle=circle)
            close(operator.fbp(z, filter)[0], wanted, 1e-12)
            close(operator.to(dtype=torch.float32).fbp(z.float(), filter)[0].double(), wanted, 1e-4)

    @pytest.mark.parametrize(("angles", "decibel"), [(120, 26.5), (30, 24.6)])
    def test_reconstructs_the_phantom(self, angles, decibel):
        phantom = torch.as_tensor(downscale_local_mean(shepp_logan_phantom(), (5, 5)))[None]  # 80 x 80
        operator = Radon((1, 80, 80), angles, circle=True, dtype=torch.float64)
        restored = operator.fbp(operator(phantom))
        psnr = peak_signal_noise_ratio(phantom.numpy(), restored.numpy(), data_range=1.0)
        theirs = iradon(sinogram(phantom[0], operator).T, np.array(operator.angles))
        close(restored[0], theirs, 1e-10)
        assert psnr > decibel
        mean = phantom.mean()
        assert abs(restored.mean() - mean) < 0.01 * mean

    def test_is_batched_and_linear(self):
        operator = Radon((2, 6, 9), 8, detectors=9, dtype=torch.float64)
        z = normal(3, 2, *operator.measurement_shape)
        restored = operator.fbp(z, "hann")
        assert restored.shape == (3, 2, 2, 6, 9) and operator.fbp(z[:0]).shape == (0, 2, 2, 6, 9)
        close(operator.fbp(z[1, 1], "hann"), restored[1, 1])
        close(operator.fbp(2 * z[0] - z[1], "hann"), 2 * restored[0] - restored[1])
        close(torch.func.vmap(operator.fbp)(z), operator.fbp(z))

    @JVP_WARNS
    @pytest.mark.parametrize("circle", [False, True])
    def test_is_differentiable(self, circle):
        operator = Radon((1, 8, 8), 6, circle=circle, dtype=torch.float64)
        z, v = normal(2, *operator.measurement_shape), normal(2, *operator.measurement_shape, seed=1)
        close(torch.func.jvp(operator.fbp, (z,), (v,))[1], operator.fbp(v))
        z.requires_grad_()
        (gradient,) = torch.autograd.grad(0.5 * operator.fbp(z).square().sum(), z)
        close((gradient * v).sum(), (operator.fbp(z) * operator.fbp(v)).sum())

    def test_moves(self):
        operator = Radon((1, 8, 8), 6).to(device="meta")
        assert operator.fbp(torch.zeros(operator.measurement_shape, device="meta")).device.type == "meta"

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_agrees_on_the_gpu(self):
        operator = Radon((1, 16, 16), 12, dtype=torch.float64)
        z = normal(*operator.measurement_shape)
        close(operator.to(device="cuda").fbp(z.cuda()).cpu(), operator.fbp(z))


REFUSED = [
    (
        lambda: Radon((1, 8, 8), [0.0, 180.0]),
        ValueError,
        r"angles in \[0, 180\) degrees, got 180; .*angles % 180",
    ),
    (lambda: Radon((1, 8, 8), torch.tensor([-10.0])), ValueError, r"in \[0, 180\) degrees, got -10"),
    (
        lambda: Radon((1, 8, 8), [0.0, float("nan")]),
        ValueError,
        "1 of the 2 numbers in angles are not finite",
    ),
    (lambda: Radon((1, 8, 8), []), ValueError, r"expected angles to be a list of numbers, got shape \(0,\)"),
    (lambda: Radon((1, 8, 8), torch.zeros(2, 3)), ValueError, r"a list of numbers, got shape \(2, 3\)"),
    (lambda: Radon((1, 8, 8), 0), ValueError, "expected angles >= 1, got 0"),
    (lambda: Radon((1, 8, 8), 30.0), TypeError, "expected angles to be a whole number, got 30.0"),
    (lambda: Radon((1, 8, 9), 6, circle=True), ValueError, "a square image, got 8 x 9; try circle=False"),
    (lambda: Radon((1, 8, 8), 6, detectors=0), ValueError, "expected detectors >= 1, got 0"),
    (
        lambda: Radon((1, 8, 8), 6, detectors=2.5),
        TypeError,
        "expected detectors to be a whole number, got 2.5",
    ),
    (
        lambda: Radon((1, 8, 8), 6, detectors=13),
        ValueError,
        "detectors <= 12, which see all of 8 x 8 pixels, got 13",
    ),
    (
        lambda: Radon((1, 8, 8), 6, 9, circle=True),
        ValueError,
        "detectors <= 8, which see the circle in 8 x 8",
    ),
    (lambda: Radon((64,), 6), ValueError, r"\(64,\)"),
    (lambda: Radon((1, 8, 0), 6), ValueError, "every size in event_shape >= 1, got 0"),
    (lambda: Radon((1, 8, 8), 6, dtype=torch.complex64), TypeError, "expected a real floating dtype"),
    (
        lambda: Radon((1, 8, 8), 6).fbp(torch.zeros(1, 6, 12), "hanning"),
        ValueError,
        r"fbp: expected filter in \['ramp', 'shepp-logan', 'cosine', 'hamming', 'hann'\] or None, got 'hanning'",
    ),
    (
        lambda: Radon((1, 8, 8), 6).fbp(torch.zeros(1, 12, 6)),
        ValueError,
        r"fbp: expected z of shape \(\*batch, 1, 6",
    ),
    (lambda: Radon((1, 8, 8), 6).fbp(torch.zeros(1, 6, 12).double()), TypeError, "fbp: z is torch.float64"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=words) as caught:
        make()
    assert str(caught.value).startswith("Radon")


def test_repr_shows_the_settings():
    text = repr(Radon((1, 8, 8), 6, circle=True))
    assert text == "Radon(event_shape=(1, 8, 8), angles=6, detectors=8, circle=True)"
    assert "angles=<7 angles>, detectors=12, circle=False" in repr(Radon((1, 8, 8), np.array(UNEVEN)))
    assert Radon((1, 8, 8), 6).angles == Radon((1, 8, 8), [0, 30, 60, 90, 120, 150]).angles

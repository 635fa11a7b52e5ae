"""JPEG against scipy's cosine transform block by block, and against Pillow's own files."""

import io
import math

import numpy as np
import pytest
import scipy.fft
import torch
from nonlinear_case import NonlinearCase
from operator_case import close
from PIL import Image
from skimage import data

from bayes_ir.models.operators.jpeg import JPEG


def saved(levels, quality, subsampling=0):
    """What Pillow reads back of 8-bit levels (H, W) or (H, W, 3), and the tables of its file."""
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    image = Image.open(file)
    return np.asarray(image).astype(float), [np.reshape(t, (8, 8)) for t in image.quantization.values()]


def rounded(x):
    """Halves away from zero, those that rounding errors have made a little smaller too."""
    return np.sign(x) * np.floor(np.abs(x) + 0.5 + 1e-9)


RGB = np.array([[299, 587, 114], [-299, -587, 886], [701, -587, -114]]) / np.array([[1000], [1772], [1402]])


class TestGrey(NonlinearCase):
    has_pinv, tolerance = True, 1e-10
    shape, quality, data_range, subsampling, round_pixels = (1, 16, 24), 40, (-1.0, 1.0), "4:4:4", False

    def build(self, dtype=torch.float64):
        return JPEG(
            self.shape, self.quality, self.data_range, self.subsampling, self.round_pixels, dtype=dtype
        )

    def differentiated(self, operator, x):
        return x

    def limited(self, levels):
        return rounded(np.clip(levels, 0, 255)) if self.round_pixels else levels

    def coded(self, plane, table):
        """A plane of levels after quantisation, one block at a time."""
        height, width = plane.shape
        filled = np.pad(plane, ((0, -height % 8), (0, -width % 8)), mode="edge")
        for i in range(0, filled.shape[0], 8):
            for j in range(0, filled.shape[1], 8):
                c = scipy.fft.dctn(filled[i : i + 8, j : j + 8] - 128, norm="ortho")
                c = rounded(8 * c) / 8 if self.round_pixels else c
                filled[i : i + 8, j : j + 8] = scipy.fft.idctn(table * rounded(c / table), norm="ortho") + 128
        return self.limited(filled[:height, :width])

    def truth(self, operator, x):
        low, high = self.data_range
        levels = self.limited(255 * (x - low) / (high - low))
        blank = np.zeros((8, 8, 3), np.uint8)
        tables = saved(blank, self.quality)[1]
        if len(x) == 1:
            decoded = self.coded(levels[0], tables[0])[None]
        else:
            planes = np.tensordot(RGB, levels, 1) + np.array([0, 128, 128])[:, None, None]
            planes = np.stack([self.limited(planes[0]), *(255 - self.limited(255 - planes[1:]))])
            planes = np.stack([self.coded(p, tables[min(i, 1)]) for i, p in enumerate(self.thinned(planes))])
            planes[1:] -= 128
            decoded = self.limited(np.tensordot(np.linalg.inv(RGB), planes, 1))
        return low + (high - low) * decoded / 255

    def thinned(self, planes):
        return planes


class TestColour(TestGrey):
    shape, quality, data_range = (3, 8, 16), 75, (0.0, 1.0)
    image_range = (-0.2, 1.2)


class TestIncompleteBlocks(TestGrey):
    has_pinv = False  # what is decoded outside the image is lost
    shape, quality = (3, 11, 13), 10

    def test_compressing_twice_is_not_compressing_once(self, operator):
        z = operator(self.image(operator))
        assert (operator(operator.pinv(z)) - z).abs().max() > 1e-3


class TestSubsampled(TestGrey):
    shape, quality, subsampling = (3, 16, 32), 60, "4:2:0"

    def truth(self, operator, x):
        """Cb and Cr: coded at half the resolution, so block by block of a plane of its own."""
        low, high = self.data_range
        planes = np.tensordot(RGB, 255 * (x - low) / (high - low), 1) + np.array([0, 128, 128])[:, None, None]
        tables = saved(np.zeros((8, 8, 3), np.uint8), self.quality)[1]
        luma, *colours = planes
        small = [
            self.coded((c[::2, ::2] + c[1::2, ::2] + c[::2, 1::2] + c[1::2, 1::2]) / 4, tables[1])
            for c in colours
        ]
        planes = np.stack([self.coded(luma, tables[0]), *(np.kron(c - 128, np.ones((2, 2))) for c in small)])
        return low + (high - low) * np.tensordot(np.linalg.inv(RGB), planes, 1) / 255

    def differentiated(self, operator, x):
        """The mean of the colour differences over 2 x 2 pixels."""
        forth, back = torch.as_tensor(RGB), torch.linalg.inv(torch.as_tensor(RGB))
        planes = torch.einsum("ij,...jhw->...ihw", forth, x)
        colours = torch.nn.functional.avg_pool2d(planes[..., 1:, :, :], 2)
        colours = torch.nn.functional.interpolate(colours, scale_factor=2, mode="nearest")
        return torch.einsum("ij,...jhw->...ihw", back, torch.cat([planes[..., :1, :, :], colours], -3))


class TestRoundedGrey(TestGrey):
    has_pinv = False
    round_pixels, image_range = True, (-1.3, 1.3)

    def differentiated(self, operator, x):
        pytest.skip("levels are clipped at three places; the gradient has a test of its own")

    def image(self, operator, *batch, seed=1):
        """Nothing near a level, where float32 and float64 would round differently."""
        x = super().image(operator, *batch, seed=seed)
        return ((127.5 * (x + 1)).round() + 0.2) / 127.5 - 1


class TestRoundedColour(TestRoundedGrey):
    shape, quality, data_range = (3, 11, 16), 90, (-1.0, 1.0)
    single = 0.1  # single values that float32 rounds the other way


@pytest.mark.parametrize("quality", [*range(1, 101)])
def test_tables_are_those_in_pillows_files(quality):
    luma, chroma = saved(np.zeros((8, 8, 3), np.uint8), quality)[1]
    operator = JPEG((3, 8, 8), quality)
    assert (operator.tables[0].numpy() == luma).all() and (operator.tables[1].numpy() == chroma).all()


def against_pillow(levels, quality, subsampling="4:4:4", round_pixels=True):
    """Absolute differences to Pillow, in levels."""
    x = torch.as_tensor(np.atleast_3d(levels) / 255).movedim(-1, 0)
    z = JPEG(x.shape, quality, (0, 1), subsampling, round_pixels, dtype=torch.float64)(x)
    ours = np.clip(np.rint(255 * z.movedim(0, -1).numpy()), 0, 255).reshape(levels.shape)
    return np.abs(ours - saved(levels, quality, {"4:4:4": 0, "4:2:0": 2}[subsampling])[0])


COLOUR, GREY = data.astronaut()[101:222, 150:303], data.camera()[200:328, 200:360]
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("quality", [10, 50, 75, 90, 95, 100])
@pytest.mark.parametrize(
    ("levels", "mean", "large"), [(COLOUR, 0.14, 0.005), (GREY, 0.1, 0.005), (NOISE, 0.35, 0.045)]
)
def test_agrees_with_pillow(levels, quality, mean, large):
    """Measured: mean difference up to 0.130, 0.097 and 0.318 levels; more than 2 in 0.38, 0.44 and 4.0 percent."""
    difference = against_pillow(levels, quality)
    assert difference.mean() < mean and np.mean(difference > 2) < large


@pytest.mark.parametrize("quality", [10, 50, 75, 90, 95, 100])
def test_agrees_with_pillow_without_rounded_pixels(quality):
    """Measured: mean difference up to 0.84 levels (colour), 0.24 (grey)."""
    assert against_pillow(COLOUR, quality, round_pixels=False).mean() < 0.9
    assert against_pillow(GREY, quality, round_pixels=False).mean() < 0.3


@pytest.mark.parametrize("quality", [10, 50, 75, 95])
def test_subsampled_agrees_with_pillow_up_to_its_interpolation(quality):
    """Measured: mean difference up to 0.72 levels."""
    assert against_pillow(COLOUR, quality, "4:2:0").mean() < 0.8


@pytest.mark.parametrize("quality", [30, 75])
def test_every_disagreement_with_pillow_is_one_step_of_a_coefficient(quality):
    levels = GREY[:128, :160]
    operator = JPEG((1, 128, 160), quality, (0, 255), round_pixels=True, dtype=torch.float64)
    (ours,) = operator.encode(torch.as_tensor(levels[None].astype(float)))
    decoded = torch.as_tensor(saved(levels, quality)[0] - 128).unflatten(0, (-1, 8)).unflatten(2, (-1, 8))
    theirs = scipy.fft.dctn(decoded.transpose(1, 2).numpy(), axes=(-2, -1), norm="ortho")
    # Their 8-bit pixels move a coefficient by less than half a step, so these are the coefficients in the file.
    theirs = np.rint(theirs / operator.tables[0].numpy())
    steps = np.abs(ours.numpy() - theirs)
    assert steps.max() <= 1 and steps.mean() < 2e-3


def test_halves_of_flat_blocks_are_rounded_like_pillow():
    """A flat block v has the one coefficient 8 (v - 128); at quality 50 its step is 16: every odd v is a half."""
    levels = np.repeat(np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16), 8, 0), 8, 1)
    assert against_pillow(levels, 50).max() == 0


def test_encode_gives_whole_numbers_that_decode_keeps():
    for subsampling, blocks in (("4:4:4", (2, 3, 8, 8)), ("4:2:0", (1, 2, 8, 8))):
        operator = JPEG((3, 16, 20), 50, (-1.0, 1.0), subsampling)
        x = 2 * torch.rand(5, 3, 16, 20, generator=torch.Generator().manual_seed(0)) - 1
        coefficients = operator.encode(x)
        assert [tuple(c.shape) for c in coefficients] == [(5, 2, 3, 8, 8), (5, *blocks), (5, *blocks)]
        assert all(torch.equal(c, c.round()) for c in coefficients)
        close(operator.decode(coefficients), operator(x), 1e-6)
    operator = JPEG((3, 32, 16), 20, subsampling="4:2:0")
    coefficients = operator.encode(torch.rand(3, 32, 16, generator=torch.Generator().manual_seed(1)))
    again = operator.encode(operator.decode(coefficients))
    assert all(torch.equal(a, c) for a, c in zip(again, coefficients, strict=True))


def test_error_grows_as_quality_falls():
    x = torch.as_tensor(COLOUR / 255).movedim(-1, 0).float()
    errors = [float((JPEG(x.shape, q)(x) - x).square().mean()) for q in (100, 90, 75, 50, 25, 10, 5, 1)]
    assert errors == sorted(errors) and errors[0] < 1e-5 < errors[-1]


def test_straight_through_gradient_is_zero_where_pixels_are_clipped():
    operator = JPEG((1, 8, 8), 100, round_pixels=True, dtype=torch.float64)
    x = torch.full((1, 8, 8), 0.5, dtype=torch.float64)
    x[0, 0, 0], x[0, 0, 1] = -0.2, 1.2
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(operator(x)[0, 4:].sum(), x)
    wanted = torch.zeros(1, 8, 8)
    wanted[0, 4:] = 1
    close(gradient, wanted)
    (gradient,) = torch.autograd.grad((operator(x) * torch.arange(1.0, 65).reshape(8, 8)).sum(), x)
    assert gradient[0, 0, 0] == gradient[0, 0, 1] == 0


def test_flat_colours_survive_within_a_step():
    x = torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(3, 16, 16)
    assert (JPEG((3, 16, 16), 90)(x) - x).abs().max() < 2.5 / 255


@pytest.mark.parametrize("sides", [(1, 1), (7, 9), (17, 16), (23, 31)])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_any_sides(sides, subsampling):
    levels = data.astronaut()[150 : 150 + sides[0], 200 : 200 + sides[1]]
    bound = 1.0 if subsampling == "4:4:4" else 4.0
    assert against_pillow(levels, 92, subsampling).mean() < bound
    blocks = JPEG((3, *sides), 92, subsampling=subsampling).encode(torch.zeros(3, *sides))
    assert blocks[0].shape == (math.ceil(sides[0] / 8), math.ceil(sides[1] / 8), 8, 8)


COEFFICIENTS = torch.zeros(1, 1, 8, 8)
REFUSED = [
    (lambda: JPEG((1, 8, 8), 0), ValueError, "expected quality >= 1, got 0"),
    (lambda: JPEG((1, 8, 8), -5), ValueError, "expected quality >= 1, got -5"),
    (lambda: JPEG((1, 8, 8), 101), ValueError, "expected quality in 1..100, got 101"),
    (lambda: JPEG((1, 8, 8), 75.0), TypeError, "expected quality to be a whole number, got 75.0"),
    (lambda: JPEG((1, 8, 8), True), TypeError, "expected quality to be a whole number, got True"),
    (lambda: JPEG((2, 8, 8)), ValueError, "expected 1 or 3 channels, grey or RGB, got 2"),
    (lambda: JPEG((8, 8)), ValueError, r"expected event_shape \(channels, height, width\)"),
    (lambda: JPEG((3, 8, 8), subsampling="4:2:2"), ValueError, "'4:4:4' or '4:2:0', got '4:2:2'"),
    (lambda: JPEG((1, 8, 8), subsampling="4:2:0"), ValueError, "a grey image has no colours to subsample"),
    (lambda: JPEG((3, 8, 8), data_range=(255, 0)), ValueError, "with low < high"),
    (lambda: JPEG((3, 8, 8), data_range=255), TypeError, "expected data_range to be a pair"),
    (lambda: JPEG((3, 8, 8)).decode((COEFFICIENTS,)), ValueError, "decode: expected 3 components, .*got 1"),
    (
        lambda: JPEG((1, 8, 16)).decode((COEFFICIENTS,)),
        ValueError,
        r"decode: expected component 0 of shape \(\*batch, 1, 2, 8, 8\), got \(1, 1, 8, 8\)",
    ),
    (lambda: JPEG((1, 8, 8)).encode(torch.zeros(1, 8, 9)), ValueError, r"encode: expected x of shape"),
    (lambda: JPEG((1, 8, 8)).encode(torch.zeros(1, 8, 8).double()), TypeError, "encode: x is torch.float64"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=words) as caught:
        make()
    assert str(caught.value).startswith("JPEG")

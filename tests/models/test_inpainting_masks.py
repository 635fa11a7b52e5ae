"""Masks for inpainting, and the operators they make."""

import numpy as np
import pytest
import torch
from operator_case import OperatorCase
from PIL import Image, ImageDraw

from bayes_ir.models.operators import Mask
from bayes_ir.models.operators.inpainting_masks import bayer_mask, box_mask, mask_from_image, random_mask

RGB = (3, 6, 8)


class MaskCase(OperatorCase):
    def seen(self):
        """The mask as numpy makes it, (C, H, W)."""
        raise NotImplementedError

    def truth(self, operator):
        return np.eye(self.seen().size)[self.seen().ravel()]


class TestBox(MaskCase):
    def build(self, dtype=torch.float64):
        return Mask(box_mask((2, 4, 5), (2, 3), position=(1, 0)), dtype=dtype)

    def seen(self):
        row, column = np.mgrid[:4, :5]
        return np.stack([~((row >= 1) & (row < 3) & (column < 3))] * 2)


class TestBayer(MaskCase):
    def build(self, dtype=torch.float64):
        return Mask(bayer_mask((3, 3, 4), "GRBG"), dtype=dtype)

    def seen(self):
        tiled = np.tile([["G", "R"], ["B", "G"]], (2, 2))[:3]
        return np.stack([tiled == colour for colour in "RGB"])


def boxes(mask):
    """Corners of the missing box of a channel."""
    rows, columns = np.nonzero(~mask.numpy())
    return rows.min(), columns.min(), rows.max() + 1, columns.max() + 1


def test_a_box_sits_where_it_is_asked_to():
    for mask, wanted in [
        (box_mask(RGB, 2), (2, 3, 4, 5)),
        (box_mask(RGB, (3, 2)), (1, 3, 4, 5)),
        (box_mask(RGB, (6, 2), position=(0, 6)), (0, 6, 6, 8)),
        (box_mask((1, 64, 64), 32), (16, 16, 48, 48)),
    ]:
        assert mask.dtype == torch.bool and (mask == mask[:1]).all()
        assert boxes(mask[0]) == wanted
        top, left, bottom, right = wanted
        assert (~mask[0]).sum() == (bottom - top) * (right - left)


def test_a_drawn_box_goes_everywhere_and_follows_its_seed():
    places = [boxes(box_mask(RGB, (5, 6), seed=seed)[0])[:2] for seed in range(100)]
    # 2 x 3 places with equal chance: that one is missing in 100 draws has a chance of 6 (5/6)^100 = 7e-8.
    assert set(places) == {(top, left) for top in range(2) for left in range(3)}
    assert torch.equal(box_mask(RGB, 3, seed=4), box_mask(RGB, 3, seed=np.int64(4)))


@pytest.mark.parametrize(("observed", "count"), [(0.5, 24), (0.08, 4), (1 / 48, 1), (1, 48), (0.999, 48)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_random_pixels_are_exactly_as_many_as_asked(observed, count, per_channel):
    mask = random_mask(RGB, observed, seed=3, per_channel=per_channel)
    assert mask.shape == RGB and mask.dtype == torch.bool
    assert mask.sum((1, 2)).tolist() == [count] * 3
    shared = bool((mask == mask[:1]).all())
    assert shared == (not per_channel or count == 48) or count == 1
    assert torch.equal(mask, random_mask(RGB, observed, seed=3, per_channel=per_channel))
    Mask(mask)(torch.zeros(RGB))


def test_random_pixels_are_nested_and_change_with_the_seed():
    few, many = random_mask((1, 32, 32), 0.1), random_mask((1, 32, 32), 0.6)
    assert (few <= many).all() and not torch.equal(many, random_mask((1, 32, 32), 0.6, seed=1))
    # Every pixel alike: of 400 masks that observe half, 200 +- 10 see a pixel; 6 sigma, 64 pixels, chance 1e-7.
    counts = sum(random_mask((1, 8, 8), 0.5, seed=seed).int() for seed in range(400))
    assert (counts - 200).abs().max() < 60


def drawing(mode="L"):
    """A black stroke on white, (6, 8) pixels."""
    image = Image.new("L", (8, 6), 255)
    ImageDraw.Draw(image).line([(1, 1), (6, 4)], fill=0, width=2)
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "ending"), [("L", "png"), ("1", "png"), ("RGB", "png"), ("P", "gif"), ("RGBA", "png")]
)
def test_a_mask_is_read_from_a_drawing(tmp_path, mode, ending):
    path = tmp_path / f"stroke.{ending}"
    drawing(mode).save(path)
    white = torch.as_tensor(np.asarray(drawing()) > 0)
    assert 0 < (~white).sum() < 24
    mask = mask_from_image(path, RGB)
    assert mask.shape == RGB and mask.dtype == torch.bool and (mask == white).all()
    assert torch.equal(mask_from_image(str(path), RGB, observed="black"), ~mask)
    assert Mask(mask).measurement_shape == (3 * int(white.sum()),)


def test_white_begins_in_the_middle(tmp_path):
    Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(tmp_path / "8.png")
    Image.fromarray(np.array([[0, 32767, 32768, 65535]], np.uint16)).save(tmp_path / "16.png")
    for name in ("8.png", "16.png"):
        assert mask_from_image(tmp_path / name, (1, 1, 4)).tolist() == [[[False, False, True, True]]]


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_every_pixel_of_a_camera_sees_one_colour(pattern):
    mask = bayer_mask((3, 5, 7), pattern)
    assert (mask.sum(0) == 1).all()
    corner = "".join("RGB"[int(mask[:, row, column].int().argmax())] for row in (0, 1) for column in (0, 1))
    assert corner == pattern
    assert torch.equal(mask[:, 2:, 2:], mask[:, :-2, :-2])
    green = Mask(mask).adjoint(torch.ones(35))[1]
    assert abs(int(green.sum()) - 17.5) < 1


@pytest.fixture
def files(tmp_path):
    drawing().save(tmp_path / "stroke.png")
    Image.new("L", (8, 6), 0).save(tmp_path / "black.png")
    Image.new("RGBA", (8, 6), (255, 255, 255, 10)).save(tmp_path / "clear.png")
    Image.new("F", (8, 6), 0.7).save(tmp_path / "float.tiff")
    (tmp_path / "text.png").write_text("no image")
    noise = np.random.default_rng(0).integers(0, 256, (60, 80), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "short.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    return tmp_path


REFUSED = [
    (
        lambda _: box_mask(RGB, 7),
        ValueError,
        "box_mask: the box of 7 x 7 is larger than the image of 6 x 8 pixels",
    ),
    (lambda _: box_mask(RGB, (2, 9)), ValueError, "box of 2 x 9 is larger than the image of 6 x 8"),
    (lambda _: box_mask(RGB, (6, 8)), ValueError, "covers the whole image, and nothing would be observed"),
    (lambda _: box_mask(RGB, 0), ValueError, "expected size >= 1, got 0"),
    (lambda _: box_mask(RGB, 2.5), TypeError, "expected size to be a whole number, got 2.5"),
    (
        lambda _: box_mask(RGB, (1, 2, 3)),
        TypeError,
        r"one number or a pair \(height, width\), got \(1, 2, 3\)",
    ),
    (lambda _: box_mask(RGB, 2, position=(5, 0)), ValueError, r"at \(5, 0\) sticks out .* up to \(4, 6\)"),
    (lambda _: box_mask(RGB, 2, position=(0, -1)), ValueError, "expected position >= 0, .*, got -1"),
    (lambda _: box_mask(RGB, 2, position=(0, 0.5)), TypeError, "position in whole pixels, got 0.5"),
    (lambda _: box_mask(RGB, 2, position=3), TypeError, r"position to be a pair \(top, left\), got 3"),
    (lambda _: box_mask(RGB, 2, position=(0, 0), seed=1), ValueError, "a position or a seed, got both"),
    (lambda _: box_mask(RGB, 2, seed="a"), TypeError, "expected seed to be a whole number, got 'a'"),
    (lambda _: box_mask((64,), 2), ValueError, r"\(64,\)"),
    (lambda _: random_mask(RGB, 0), ValueError, r"random_mask: expected observed, .*, in \(0, 1\], got 0"),
    (lambda _: random_mask(RGB, 1.01), ValueError, r"in \(0, 1\], got 1.01"),
    (lambda _: random_mask(RGB, float("nan")), ValueError, r"in \(0, 1\], got nan"),
    (
        lambda _: random_mask(RGB, 0.01),
        ValueError,
        "observed=0.01 of 48 pixels rounds to none; .* at least 0.021",
    ),
    (lambda _: random_mask(RGB, 0.5, seed=0.5), TypeError, "expected seed to be a whole number, got 0.5"),
    (
        lambda _: bayer_mask((1, 6, 8)),
        ValueError,
        r"bayer_mask: expected three channels .*, got 1 in event_shape=",
    ),
    (
        lambda _: bayer_mask(RGB, "RGBG"),
        ValueError,
        r"pattern in \['RGGB', 'BGGR', 'GRBG', 'GBRG'\], got 'RGBG'",
    ),
    (lambda _: bayer_mask(RGB, "rggb"), ValueError, "got 'rggb'"),
    (
        lambda d: mask_from_image(d / "no.png", RGB),
        FileNotFoundError,
        "mask_from_image: there is no file .*no.png",
    ),
    (
        lambda d: mask_from_image(d / "stroke.png", (3, 8, 6)),
        ValueError,
        "is 6 x 8 pixels and the images are 8 x 6",
    ),
    (
        lambda d: mask_from_image(d / "stroke.png", RGB, "grey"),
        ValueError,
        "to be 'white' or 'black', got 'grey'",
    ),
    (
        lambda d: mask_from_image(d / "black.png", RGB),
        ValueError,
        "has no white pixel, .* try observed='black'",
    ),
    (
        lambda d: mask_from_image(d / "clear.png", RGB),
        ValueError,
        "has transparent pixels, .* flatten it first",
    ),
    (
        lambda d: mask_from_image(d / "float.tiff", RGB),
        ValueError,
        r"mode F\) have no white; save it with 8 bits",
    ),
    (lambda d: mask_from_image(d / "text.png", RGB), ValueError, "is no image that Pillow can read"),
    (lambda d: mask_from_image(d / "short.png", (1, 60, 80)), ValueError, "cannot be read as an image"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(files, make, error, words):
    with pytest.raises(error, match=words) as caught:
        make(files)
    assert str(caught.value).split(":")[0] in {"box_mask", "random_mask", "mask_from_image", "bayer_mask"}

"""The restoration tasks of the literature, on a shipped digit in [0, 1] under Gaussian noise of 0.05.

The sizes are those of the usual 256 x 256 tasks in proportion to 28 x 28 pixels.
"""

from __future__ import annotations

from bayes_ir.inference import DPS, AnnealedLangevin, Kernel
from bayes_ir.models import (
    JPEG,
    BlockAverage,
    CircularBlur,
    Gaussian,
    Mask,
    Operator,
    PhaseRetrieval,
    RowOrthogonalSensing,
    SeparableBlur,
    box_mask,
    load_prior,
    motion_kernel,
    random_mask,
)
from bayes_ir.problems.base import InverseProblem, observed
from bayes_ir.problems.digits import test_digits

__all__ = [
    "compressed_sensing",
    "deblur_gaussian",
    "deblur_motion",
    "inpaint_box",
    "inpaint_random",
    "jpeg",
    "phase_retrieval",
    "super_resolution",
]

SHAPE = (1, 28, 28)
NOISE = 0.05


def _digit(
    name: str, operator: Operator, image: int, seed: int, kernel: Kernel | None = None
) -> InverseProblem:
    return observed(
        name,
        load_prior("mnist"),
        operator,
        lambda z: Gaussian(z, NOISE),
        test_digits()[0][image],
        seed,
        kernel or AnnealedLangevin(levels=300, steps_per_level=1),
    )


def inpaint_box(image: int = 7, seed: int = 0) -> InverseProblem:
    """Missing box of 12 x 12 pixels at a random place."""
    return _digit("inpaint-box", Mask(box_mask(SHAPE, 12, seed=seed)), image, seed)


def inpaint_random(image: int = 7, seed: int = 0) -> InverseProblem:
    """A random 20 % of the pixels."""
    return _digit("inpaint-random", Mask(random_mask(SHAPE, observed=0.2, seed=seed)), image, seed)


def super_resolution(image: int = 7, seed: int = 0) -> InverseProblem:
    """Averages of blocks of 4 x 4 pixels: 49 numbers."""
    return _digit("super-resolution", BlockAverage(SHAPE, factor=4), image, seed)


def deblur_gaussian(image: int = 7, seed: int = 0) -> InverseProblem:
    """Gaussian blur of standard deviation 2 pixels."""
    return _digit("deblur-gaussian", SeparableBlur.gaussian(SHAPE, std=2.0), image, seed)


def deblur_motion(image: int = 7, seed: int = 0) -> InverseProblem:
    """Motion blur with a random kernel of 11 x 11 pixels, circular boundary."""
    return _digit("deblur-motion", CircularBlur(motion_kernel(11, seed=seed), SHAPE), image, seed)


def compressed_sensing(image: int = 7, seed: int = 0) -> InverseProblem:
    """A random 25 % of the cosine coefficients of the sign-flipped image."""
    return _digit("compressed-sensing", RowOrthogonalSensing(196, SHAPE, seed=seed), image, seed)


def phase_retrieval(image: int = 7, seed: int = 0) -> InverseProblem:
    """Magnitudes of the Fourier transform of the image padded to 1.5 times its side; DPS."""
    return _digit("phase-retrieval", PhaseRetrieval(SHAPE, oversampling=2.0), image, seed, DPS())


def jpeg(image: int = 7, seed: int = 0) -> InverseProblem:
    """JPEG at quality 5; DPS with the straight-through gradient."""
    return _digit("jpeg", JPEG(SHAPE, quality=5), image, seed, DPS())

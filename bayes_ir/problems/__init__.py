"""Problems that ship: a model, data with a known truth, and kernel settings that suit it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bayes_ir.problems.base import InverseProblem, observed
from bayes_ir.problems.compressive import (
    exact_gaussian,
    linear_digit,
    one_bit_correlated_digit,
    one_bit_digit,
)
from bayes_ir.problems.digits import test_digits
from bayes_ir.problems.restoration import (
    compressed_sensing,
    deblur_gaussian,
    deblur_motion,
    inpaint_box,
    inpaint_random,
    jpeg,
    phase_retrieval,
    super_resolution,
)
from bayes_ir.words import look_up

__all__ = ["PROBLEMS", "InverseProblem", "build_problem", "observed", "test_digits"]

PROBLEMS: dict[str, Callable[..., InverseProblem]] = {
    "one-bit-digit": one_bit_digit,
    "one-bit-correlated-digit": one_bit_correlated_digit,
    "linear-digit": linear_digit,
    "exact-gaussian": exact_gaussian,
    "inpaint-box": inpaint_box,
    "inpaint-random": inpaint_random,
    "super-resolution": super_resolution,
    "deblur-gaussian": deblur_gaussian,
    "deblur-motion": deblur_motion,
    "compressed-sensing": compressed_sensing,
    "phase-retrieval": phase_retrieval,
    "jpeg": jpeg,
}


def build_problem(name: str, image: int | None = None, seed: int = 0) -> InverseProblem:
    """Build a shipped problem by name.

    Args:
        name: one of ``PROBLEMS``.
        image: number of the digit (0 to 19), or of the simulated truth.
        seed: seed of the operator and of the noise.

    Raises:
        ValueError: for an unknown name (with a suggestion) or an image that does not exist.
    """
    build = look_up("problem", name, PROBLEMS)
    settings: dict[str, Any] = {"seed": seed} if image is None else {"seed": seed, "image": image}
    on_digits = build is not exact_gaussian
    if image is not None and (image < 0 or (on_digits and image >= len(test_digits()[0]))):
        raise ValueError(
            f"problem {name}: image {image} does not exist; the shipped digits are numbered 0 to 19."
        )
    about = " ".join((inspect.getdoc(build) or "").split("\n\n")[0].split())
    return replace(build(**settings), about=about)

"""A problem of the user's own: an image file, measured by an operator given by name."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayes_ir.inference import DPS, AnnealedLangevin, Kernel
from bayes_ir.models import Gaussian, Operator, load_prior, operators
from bayes_ir.problems.base import InverseProblem, observed
from bayes_ir.words import look_up

__all__ = ["build_operator", "operator_builders", "own_problem", "parse_settings", "read_image"]

_MASKS = ("bayer_mask", "box_mask", "mask_from_image", "random_mask")
_KERNELS = ("gaussian_kernel", "kernel_from_image", "motion_kernel", "uniform_kernel")


def own_problem(
    image: Path, operator: str, settings: Mapping[str, Any], noise_std: float, prior: str, seed: int
) -> InverseProblem:
    """Measure an image file under Gaussian noise.

    Args:
        image: file of the truth, with the size and channels of the prior's images.
        operator: name of an operator, of a mask or of a blur kernel; see ``operator_builders``.
        settings: its settings beside the shape of the image.
        noise_std: standard deviation of the noise, in units of the measurement.
        prior: name of a stored prior.
        seed: seed of the noise.

    Raises:
        ValueError: for an unknown name or setting, or an image that does not fit the prior.
        OSError: when the image cannot be read.
    """
    law = load_prior(prior)
    truth = read_image(image, law.event_shape, law.data_range or (0.0, 1.0))
    measured = build_operator(operator, law.event_shape, settings)
    kernel: Kernel = AnnealedLangevin(levels=300, steps_per_level=1) if measured.linear else DPS()
    problem = observed(image.stem, law, measured, lambda z: Gaussian(z, noise_std), truth, seed, kernel)
    about = f"The image {image.name}, measured by {operator} under Gaussian noise of {noise_std:g}; prior {prior}."
    return replace(problem, about=about)


def read_image(path: Path, event_shape: Sequence[int], data_range: tuple[float, float]) -> Tensor:
    """An image file as a tensor (C, H, W) in the units of a prior; neither cropped nor resized.

    Raises:
        ValueError: when its size is not that of the prior's images.
        OSError: when it cannot be read.
    """
    from PIL import Image

    channels, height, width = event_shape
    with Image.open(path) as file:
        if file.size != (width, height):
            raise ValueError(
                f"{path} has {file.size[0]} x {file.size[1]} pixels (width x height); the prior knows images of "
                f"{width} x {height}: crop or resize it first, for instance with Pillow."
            )
        array = np.asarray(file.convert("L" if channels == 1 else "RGB"), dtype=np.float32) / 255
    low, high = data_range
    pixels = torch.from_numpy(array).reshape(height, width, channels).permute(2, 0, 1)
    return low + (high - low) * pixels


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Settings ``NAME=VALUE`` of a command line: numbers, True, False, tuples; anything else is text.

    Raises:
        ValueError: for a setting without ``=``.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise ValueError(f"--set {setting!r}: expected NAME=VALUE, such as --set step_size=0.2.")
        try:
            values[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[key] = text
    return values


def operator_builders() -> dict[str, Callable[..., Any]]:
    """What ``--operator`` takes: operators that need only the shape of the image, masks, and blur kernels."""
    classes = {
        name: value
        for name, value in vars(operators).items()
        if inspect.isclass(value)
        and issubclass(value, Operator)
        and "event_shape" in _parameters(value)
        and _needs_only_plain_settings(value)
    }
    return classes | {name: getattr(operators, name) for name in (*_MASKS, *_KERNELS)}


def build_operator(name: str, event_shape: Sequence[int], settings: Mapping[str, Any]) -> Operator:
    """An operator by name for images of a shape.

    Raises:
        ValueError: for an unknown name or setting, each with the nearest one that exists, or a missing one.
    """
    build = look_up("operator", name, operator_builders())
    known = {key: None for key in _parameters(build) if key not in ("event_shape", "dtype", "self")}
    for key in settings:
        look_up(f"setting of {name}", key, known)
    missing = [
        key
        for key, parameter in inspect.signature(build).parameters.items()
        if key in known and parameter.default is inspect.Parameter.empty and key not in settings
    ]
    if missing:
        raise ValueError(f"operator {name} needs the setting {missing[0]!r}: add --set {missing[0]}=VALUE.")
    if name in _KERNELS:
        return operators.CircularBlur(build(**settings), event_shape)
    made = build(event_shape=tuple(event_shape), **settings)
    return operators.Mask(made) if name in _MASKS else made


def _parameters(build: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(build).parameters)


def _needs_only_plain_settings(kind: type) -> bool:
    """Whether no setting without default is a tensor or another object, which a command line cannot give."""
    return all(
        parameter.default is not inspect.Parameter.empty
        or name == "event_shape"
        or str(parameter.annotation) in ("Any", "int", "float", "str", "bool")
        for name, parameter in inspect.signature(kind).parameters.items()
    )

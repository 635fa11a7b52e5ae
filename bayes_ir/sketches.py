"""One line that shows what an operator does: a row of an image, and the same row of its measurement.

    ▁▁▂▅█▅▂▁▁ → ▂▃▄▅▅▅▄▃▂      a blur

Rows are scaled each to its own range, so a sketch shows shapes and not units.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bayes_ir import models
from bayes_ir.models import LinearOperator, Operator

__all__ = ["EXAMPLES", "sketch", "test_image"]

SIDE = 32
GREY, COLOUR, COMPLEX = (1, SIDE, SIDE), (3, SIDE, SIDE), (2, SIDE, SIDE)
_BLOCKS = "▁▂▃▄▅▆▇█"


def _columns() -> Tensor:
    return models.mri_masks.uniform_1d((SIDE, SIDE), 4, 0.08, seed=0)


def _gain() -> Tensor:
    return torch.linspace(0.2, 1.0, SIDE).expand(GREY)


EXAMPLES: dict[str, Callable[[], Operator]] = {
    "BicubicDownsampling": lambda: models.BicubicDownsampling(GREY, 4),
    "BlockAverage": lambda: models.BlockAverage(GREY, 4),
    "BlockDiagonal": lambda: models.BlockDiagonal([models.Identity(GREY), models.Identity(GREY)]),
    "Blur": lambda: models.Blur(models.motion_kernel(9), GREY),
    "ChannelMixing": lambda: models.ChannelMixing(COLOUR, torch.tensor([[1.0, -1.0, 0.0]])),
    "CircularBlur": lambda: models.CircularBlur(models.gaussian_kernel(9, 2.0), GREY),
    "Colorization": lambda: models.Colorization(COLOUR),
    "CorrelatedSensing": lambda: models.CorrelatedSensing(256, GREY, 0.4, seed=0),
    "DenseOperator": lambda: models.DenseOperator(torch.eye(SIDE * SIDE).cumsum(0), GREY, GREY),
    "Diagonal": lambda: models.Diagonal(_gain()),
    "FunctionOperator": lambda: models.FunctionOperator(lambda x: x.diff(dim=-1), GREY),
    "Gamma": lambda: models.Gamma(GREY, 2.2),
    "GaussianDownsampling": lambda: models.GaussianDownsampling(GREY, 4),
    "GaussianSensing": lambda: models.GaussianSensing(256, GREY, seed=0),
    "Identity": lambda: models.Identity(GREY),
    "IllConditionedSensing": lambda: models.IllConditionedSensing(256, GREY, 1000.0, seed=0),
    "JPEG": lambda: models.JPEG(GREY, 5),
    "Kronecker": lambda: models.Kronecker(None, torch.eye(SIDE).cumsum(0) / SIDE, event_shape=GREY),
    "Mask": lambda: models.Mask(models.random_mask(GREY, 0.5)),
    "MultiCoilMRI": lambda: models.MultiCoilMRI(
        _columns(), models.simulated_sensitivities(4, (SIDE, SIDE), seed=0)
    ),
    "NonlinearBlur": lambda: models.NonlinearBlur(models.motion_kernel(9), GREY),
    "PhaseRetrieval": lambda: models.PhaseRetrieval(GREY),
    "Radon": lambda: models.Radon(GREY, 12),
    "Rounding": lambda: models.Rounding(GREY, 1),
    "RowOrthogonalSensing": lambda: models.RowOrthogonalSensing(512, GREY, seed=0),
    "Saturation": lambda: models.Saturation(GREY),
    "SeparableBlur": lambda: models.SeparableBlur.gaussian(GREY, 2.0),
    "SingleCoilMRI": lambda: models.SingleCoilMRI(_columns(), GREY),
    "SpatiallyVaryingBlur": lambda: models.SpatiallyVaryingBlur.from_seed(GREY, seed=0),
    "Stack": lambda: models.Stack([models.BlockAverage(GREY, 8), models.Identity(GREY)]),
    "SubsampledDCT": lambda: models.SubsampledDCT(GREY, 0.25),
    "SubsampledDFT": lambda: models.SubsampledDFT(GREY, 0.25),
    "WalshHadamardSensing": lambda: models.WalshHadamardSensing(GREY),
}


def test_image(event_shape: torch.Size) -> Tensor:
    """A bright disc beside a ramp, in [0, 1]: (*event_shape), the channels alike but for their brightness."""
    height, width = event_shape[-2:]
    row, column = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    image = 0.9 * (row**2 + (column + 0.4) ** 2 < 0.12) + 0.4 * (column - 0.2).clamp(min=0) * (
        row.abs() < 0.7
    )
    brightness = torch.linspace(1.0, 0.5, event_shape[:-2].numel()).reshape(*event_shape[:-2], 1, 1)
    return (brightness * image).float()


def sketch(operator: Operator, width: int = 16) -> str:
    """``▁▂▅█▅▂▁ → ▂▄▅▅▅▄▂``: the middle row of a test image, and of its measurement.

    A measurement that is flat, such as that of a mask, is shown back-projected: ``A^T A x``.

    Args:
        operator: takes images (C, H, W), or batches of them.
        width: number of blocks on each side, at most.
    """
    x = test_image(operator.event_shape)
    z = operator(x)
    if isinstance(operator, LinearOperator) and z.ndim == 1:
        z = operator.adjoint(z)
    return f"{_line(x, width)} → {_line(z, width)}"


def _line(x: Tensor, width: int) -> str:
    """The middle row of the first channel as blocks."""
    row = x.reshape(-1, *x.shape[-2:])[0, x.shape[-2] // 2]
    if len(row) > width:
        row = row[: len(row) // width * width].reshape(width, -1).mean(1)
    low, high = row.min(), row.max()
    levels = ((row - low) / (high - low).clamp(min=1e-12) * (len(_BLOCKS) - 1)).round().long()
    return "".join(_BLOCKS[level] for level in levels.tolist())

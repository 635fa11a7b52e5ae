"""How the calibrations of a stored prior are taken apart into tensors and built again.

A basis called ``pca`` is stored as ``calibration.pca.ratios`` (L,), ``.variances`` (L, R) and ``.rest`` (L,) in
float64, and its vectors as ``calibration.pca.components`` (N, R) in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.priors.bases import BASES, PCABasis, make_basis
from bayes_ir.models.priors.calibration import Calibration

__all__ = ["PREFIX", "build_calibrations", "calibration_shapes", "take_calibrations_apart"]

PREFIX = "calibration."
_TABLES = ("ratios", "variances", "rest")


def take_calibrations_apart(
    calibrations: Mapping[str, Calibration],
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The card's description of the bases, ``{name: {"levels": L, "rank": R}}``, and the tensors."""
    described: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for name, calibration in calibrations.items():
        levels, rank = calibration.variances.shape
        described[name] = {"levels": levels, "rank": rank}
        tensors |= {f"{PREFIX}{name}.{table}": getattr(calibration, table).clone() for table in _TABLES}
        if isinstance(calibration.basis, PCABasis):
            tensors[f"{PREFIX}{name}.components"] = calibration.basis.components.float().clone()
    return described, tensors


def calibration_shapes(card: Mapping[str, Any], source: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that a card describes, none for a card without calibrations.

    Raises:
        ValueError: when the description is none.
    """
    pixels = prod(card["event_shape"])
    about = card.get("calibration", {"bases": {}})
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        for name, size in about["bases"].items():
            if name not in BASES:
                raise KeyError(name)
            levels = size["levels"]
            rank = size["rank"] if name == "pca" else 1 if name == "scalar" else pixels
            tables = {"ratios": (levels,), "variances": (levels, rank), "rest": (levels,)}
            shapes |= {f"{PREFIX}{name}.{table}": shape for table, shape in tables.items()}
            if name == "pca":
                shapes[f"{PREFIX}{name}.components"] = (pixels, rank)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"load_prior: the card of {source} does not describe its calibrations ({error!r}); expected 'bases' with "
            f"'levels' and 'rank' for some of {list(BASES)}, got {about!r}."
        ) from None
    return shapes


def build_calibrations(card: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Calibration]:
    """The calibrations of a card and its tensors, whose shapes are known to agree."""
    built = {}
    for name in card.get("calibration", {"bases": {}})["bases"]:
        components = tensors.get(f"{PREFIX}{name}.components")
        if components is not None:  # columns rounded to float32 are made orthonormal again
            q, r = torch.linalg.qr(components.double())
            components = q * r.diagonal().sign()
        basis = make_basis(name, card["event_shape"], components=components)
        built[name] = Calibration(basis, *(tensors[f"{PREFIX}{name}.{table}"].double() for table in _TABLES))
    return built

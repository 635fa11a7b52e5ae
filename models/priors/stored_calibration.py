"""How the calibrations of a stored prior are taken apart into tensors and built again.

A basis called ``pca`` is stored as ``calibration.pca.ratios`` (L,), ``.variances`` (L, R) and ``.rest`` (L,) in
float64, and its vectors as ``calibration.pca.components`` (N, R) in float32.  Those of K labels share ratios and
vectors: ``calibration.pca.label_variances`` (K, L, R) and ``.label_rest`` (K, L).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
_LABEL_TABLES = ("variances", "rest")


def take_calibrations_apart(
    calibrations: Mapping[str, Calibration], by_label: Sequence[Mapping[str, Calibration]] = ()
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The card's description of the bases, ``{name: {"levels": L, "rank": R}}``, and the tensors.

    Args:
        calibrations: by the name of their basis.
        by_label: the same for every label; the card then says ``"labels": K`` too.
    """
    described: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for name, calibration in calibrations.items():
        levels, rank = calibration.variances.shape
        described[name] = {"levels": levels, "rank": rank}
        tensors |= {f"{PREFIX}{name}.{table}": getattr(calibration, table).clone() for table in _TABLES}
        if isinstance(calibration.basis, PCABasis):
            tensors[f"{PREFIX}{name}.components"] = calibration.basis.components.float().clone()
        if by_label and name in by_label[0]:
            described[name]["labels"] = len(by_label)
            for table in _LABEL_TABLES:
                stack = torch.stack([getattr(of_label[name], table) for of_label in by_label])
                tensors[f"{PREFIX}{name}.label_{table}"] = stack
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
            if "labels" in size:
                by_label = {table: (size["labels"], *tables[table]) for table in _LABEL_TABLES}
                shapes |= {f"{PREFIX}{name}.label_{table}": shape for table, shape in by_label.items()}
            if name == "pca":
                shapes[f"{PREFIX}{name}.components"] = (pixels, rank)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"load_prior: the card of {source} does not describe its calibrations ({error!r}); expected 'bases' with "
            f"'levels' and 'rank' for some of {list(BASES)}, got {about!r}."
        ) from None
    return shapes


def build_calibrations(
    card: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Calibration], list[dict[str, Calibration]]]:
    """The calibrations of a card and its tensors, whose shapes are known to agree; and those of its labels, if any."""
    built: dict[str, Calibration] = {}
    by_label: list[dict[str, Calibration]] = []
    for name in card.get("calibration", {"bases": {}})["bases"]:
        components = tensors.get(f"{PREFIX}{name}.components")
        if components is not None:  # columns rounded to float32 are made orthonormal again
            q, r = torch.linalg.qr(components.double())
            components = q * r.diagonal().sign()
        basis = make_basis(name, card["event_shape"], components=components)
        built[name] = Calibration(basis, *(tensors[f"{PREFIX}{name}.{table}"].double() for table in _TABLES))
        if f"{PREFIX}{name}.label_variances" in tensors:
            stacks = (tensors[f"{PREFIX}{name}.label_{table}"].double() for table in _LABEL_TABLES)
            for label, (variances, rest) in enumerate(zip(*stacks, strict=True)):
                if label == len(by_label):
                    by_label.append({})
                by_label[label][name] = replace(built[name], variances=variances, rest=rest)
    return built, by_label

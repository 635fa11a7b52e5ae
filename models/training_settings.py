"""What decides the weights of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bayes_ir.models.objectives import OBJECTIVES

__all__ = ["TrainingSettings"]


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides the weights of a training run.

    Attributes:
        objective: ``"ve"``, ``"vp"`` or ``"flow"``.
        steps: optimiser steps.
        batch_size: images per step.
        learning_rate: peak of the schedule: 200 steps of linear warm-up, then a half cosine to zero.
        ema_decay: decay per step of the averaged weights (warmed up as ``(1 + k) / (10 + k)``).
        width: feature channels of the network.
        depth: residual blocks of the network.
        seed: seed of initialisation, batches, times, noise and dropped labels.
        classes: number of classes of a labelled network, ``None`` without labels.
        label_dropout: probability that an image is shown without its label.
        start: name or path of a stored network prior to start from, its width, depth and scaling too; one without
            labels gets embeddings of zero.
    """

    objective: str = "ve"
    steps: int = 10_000
    batch_size: int = 64
    learning_rate: float = 1e-3
    ema_decay: float = 0.999
    width: int = 64
    depth: int = 1
    seed: int = 0
    classes: int | None = None
    label_dropout: float = 0.1
    start: str | None = None

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(
                f"train: unknown objective {self.objective!r}; expected one of {sorted(OBJECTIVES)}."
            )
        for name in ("steps", "batch_size", "width", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"train: {name} must be at least 1, got {getattr(self, name)}.")
        if self.width % 8:
            raise ValueError(
                f"train: width must be a multiple of 8, got {self.width}; its channels are normed by 8."
            )
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"train: learning_rate must be positive and finite, got {self.learning_rate}.")
        for name in ("ema_decay", "label_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"train: {name} must be in [0, 1), got {getattr(self, name)}.")
        if self.classes is not None and self.classes < 2:
            raise ValueError(f"train: a labelled network has at least 2 classes, got {self.classes}.")

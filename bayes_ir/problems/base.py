"""What a problem is: a model, data with a known truth, and the kernel that suits it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor

from bayes_ir.inference import Kernel
from bayes_ir.models import Channel, Operator
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["InverseProblem", "observed"]


@dataclass(frozen=True)
class InverseProblem:
    """A model with simulated data and the truth behind them.

    Attributes:
        name: name of the problem.
        model: Pyro model of the image site ``x`` and the observed site ``y``.
        truth: the image the data were made from.
        y: the measurements.
        operator: ``A``.
        kernel: the kernel that suits it.
        about: the problem in a sentence.
    """

    name: str
    model: Callable[[], None]
    truth: Tensor
    y: Tensor
    operator: Operator
    kernel: Kernel
    about: str = ""

    @property
    def data(self) -> dict[str, Tensor]:
        """What to condition the model on."""
        return {"y": self.y}


def observed(
    name: str,
    prior: DiffusionPrior,
    operator: Operator,
    channel: Callable[[Tensor], Channel],
    truth: Tensor,
    seed: int,
    kernel: Kernel,
) -> InverseProblem:
    """Measure a truth: ``y ~ channel(A(truth))`` with its own seed, and the model that says so."""

    def model() -> None:
        x = pyro.sample("x", prior)
        pyro.sample("y", channel(operator(x)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        y = channel(operator(truth)).sample()
    return InverseProblem(name, model, truth, y, operator, kernel)

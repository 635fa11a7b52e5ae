"""Independent exact draws, called like every other kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from bayes_ir.inference.exact.box_channels import box_posterior
from bayes_ir.inference.exact.linear_gaussian import exact_posterior
from bayes_ir.inference.kernels.base import Info, Kernel
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.models.channels import OneBit, Quantized

__all__ = ["Exact"]


@dataclass(frozen=True)
class _Drawn:
    x: Tensor
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class Exact(Kernel[_Drawn]):
    """Independent draws from the exact posterior: the oracle the other kernels are measured against.

    Serves Gaussian and Gaussian-mixture priors under linear measurements: with a Gaussian channel in closed form, with
    a one-bit or quantized one of at most 100 measurements by minimax tilting, which reports its ``acceptance_rate``.

    Raises:
        ModelError: for any other prior or channel, for more measurements, or where exact draws are too rare.

    Source: textbook conditioning of Gaussians; minimax tilting is Botev 2017 (arXiv 1603.04166).
    """

    citation: ClassVar[str] = "closed form; Botev 2017"

    def check(self, problem: Problem) -> None:
        (box_posterior if _has_cells(problem) else exact_posterior)(problem)

    def length(self, problem: Problem) -> int:
        return 1

    def init(self, problem: Problem, rng: Rng) -> _Drawn:
        return _Drawn(rng.normal(*problem.prior.event_shape))

    def step(self, problem: Problem, state: _Drawn, rng: Rng) -> tuple[_Drawn, Info]:
        normal = state.x.flatten(1).double()
        info: Info = {"nfe": torch.zeros(len(normal), dtype=torch.int64)}
        if not _has_cells(problem):
            posterior, _ = exact_posterior(problem)
            return _Drawn(posterior.transport(rng.uniform().double(), normal), done=True), info
        noise = rng.normal(problem.y.numel()).double()
        draws, rate = box_posterior(problem).transport(normal, noise, np.random.default_rng(rng.seed()))
        info["acceptance_rate"] = torch.full((len(draws),), rate, dtype=torch.float64)
        return _Drawn(draws, done=True), info


def _has_cells(problem: Problem) -> bool:
    return isinstance(problem.channel, (OneBit, Quantized))

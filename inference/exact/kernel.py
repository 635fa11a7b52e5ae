"""Draws from the exact posterior, called like every other kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from bayes_ir.inference.exact.box_channels import box_posterior, cell_posterior
from bayes_ir.inference.exact.chain_diagnostics import effective_size, split_rhat
from bayes_ir.inference.exact.linear_elliptical_slice import latent_chains
from bayes_ir.inference.exact.linear_gaussian import exact_posterior
from bayes_ir.inference.exact.pyro_nuts import check_nuts, nuts_draws
from bayes_ir.inference.kernels.base import Info, Kernel
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.models.channels import OneBit, Quantized

__all__ = ["Exact"]

Method = Literal["auto", "closed form", "tilting", "slice", "nuts"]
_METHODS = ("auto", "closed form", "tilting", "slice", "nuts")
_MIXED = 1.01  # the largest R-hat of chains that count as mixed


@dataclass(frozen=True)
class _Drawn:
    x: Tensor
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class Exact(Kernel[_Drawn]):
    """Draws from the exact posterior: the oracle the other kernels are measured against.

    ============== ============================= ========================= ==========================================
    method         channel                       A                         draws
    ============== ============================= ========================= ==========================================
    closed form    Gaussian                      linear                    independent and exact
    tilting        one-bit, quantized; M <= 100  linear                    independent and exact
    slice          one-bit, quantized            linear                    independent, exact after a long burn-in
    nuts           any                           differentiable; N <= 200  near independent, exact after a long burn-in
    ============== ============================= ========================= ==========================================

    The prior is Gaussian or a Gaussian mixture.  ``auto`` takes the closed form or tilting, whichever applies, and
    never a Markov chain: those take minutes, have to be judged by their mixing, and are asked for by name.

    Info beside ``nfe``: tilting gives ``acceptance_rate``; slice and nuts give ``rhat`` and ``ess`` of the chains of
    the block, the worst over coordinates, and ``unmixed``, 1 where rhat is above 1.01.  With slice each draw has a
    chain of its own, and what matters is that ``ess`` is a few times the number of draws; ``rhat`` then is about
    ``sqrt(1 + draws / ess)`` at best.

    Attributes:
        method: one of the above.
        burn_in: moves of a chain before its draw (slice), by default M^2 and at least 100 M, or states of warm-up
            (nuts), by default 400.
        chains: number of chains of a block (nuts).
        thinning: states per draw (nuts).

    Raises:
        ModelError: for a problem that the method does not serve, or where exact draws are too rare.
        ValueError: for settings out of range.

    Source: textbook conditioning of Gaussians; minimax tilting is Botev 2017 (arXiv 1603.04166), linear elliptical
    slices are Gessner et al. 2020 (arXiv 1910.09328), NUTS is Hoffman and Gelman 2014 (arXiv 1111.4246).
    """

    method: Method = "auto"
    burn_in: int | None = None
    chains: int = 4
    thinning: int = 10

    citation: ClassVar[str] = "closed form; Botev 2017; Gessner et al. 2020; Hoffman, Gelman 2014"
    one_batch: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ValueError(f"Exact: method is {self.method!r}; expected one of {', '.join(_METHODS)}.")
        for name, least in (("burn_in", 20), ("chains", 1), ("thinning", 1)):
            value = getattr(self, name)
            if name == "burn_in" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"Exact: {name} is {value!r}; expected a whole number of at least {least}.")

    def serving(self, problem: Problem) -> str:
        """The method that draws from a problem: ``method``, or what ``auto`` stands for."""
        if self.method != "auto":
            return self.method
        return "tilting" if isinstance(problem.channel, (OneBit, Quantized)) else "closed form"

    def check(self, problem: Problem) -> None:
        checks: dict[str, Callable[[Problem], object]] = {
            "closed form": exact_posterior,
            "tilting": box_posterior,
            "slice": cell_posterior,
            "nuts": check_nuts,
        }
        checks[self.serving(problem)](problem)

    def length(self, problem: Problem) -> int:
        return 1

    def init(self, problem: Problem, rng: Rng) -> _Drawn:
        return _Drawn(rng.normal(*problem.prior.event_shape))

    def step(self, problem: Problem, state: _Drawn, rng: Rng) -> tuple[_Drawn, Info]:
        normal = state.x.flatten(1).double()
        draw = {
            "closed form": _closed_form,
            "tilting": _tilting,
            "slice": self._slice,
            "nuts": self._nuts,
        }
        x, figures = draw[self.serving(problem)](problem, normal, rng)
        info: Info = {"nfe": torch.zeros(len(normal), dtype=torch.int64)}
        for name, value in figures.items():
            dtype = torch.int64 if isinstance(value, int) else torch.float64
            info[name] = torch.full((len(normal),), value, dtype=dtype)
        return _Drawn(x, done=True), info

    def _slice(self, problem: Problem, normal: Tensor, rng: Rng) -> tuple[Tensor, dict[str, float | int]]:
        posterior, measurements = cell_posterior(problem), problem.y.numel()
        found = latent_chains(posterior, rng, self.burn_in or measurements * max(100, measurements))
        x = posterior.lift(found.u, found.component, normal, rng.normal(measurements).double())
        rhat, ess = float(split_rhat(found.recorded).max()), float(effective_size(found.recorded).min())
        return x, _mixing(rhat, ess)

    def _nuts(self, problem: Problem, normal: Tensor, rng: Rng) -> tuple[Tensor, dict[str, float | int]]:
        found = nuts_draws(
            problem, rng, chains=self.chains, warmup=self.burn_in or 400, thinning=self.thinning
        )
        return found.x, _mixing(found.rhat, found.ess)


def _closed_form(problem: Problem, normal: Tensor, rng: Rng) -> tuple[Tensor, dict[str, float | int]]:
    posterior, _ = exact_posterior(problem)
    return posterior.transport(rng.uniform().double(), normal), {}


def _tilting(problem: Problem, normal: Tensor, rng: Rng) -> tuple[Tensor, dict[str, float | int]]:
    noise = rng.normal(problem.y.numel()).double()
    x, rate = box_posterior(problem).transport(normal, noise, np.random.default_rng(rng.seed()))
    return x, {"acceptance_rate": rate}


def _mixing(rhat: float, ess: float) -> dict[str, float | int]:
    return {"rhat": rhat, "ess": ess, "unmixed": int(not rhat <= _MIXED)}

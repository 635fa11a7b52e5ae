"""The guidances of azula (MIT, github.com/probabilists/azula) on our problems, for exact_posterior.py.

Its samplers and guidances run as they come, in double precision, on our exact denoisers under its variance-preserving
schedule; images are flattened, because its solvers take the last axis for the whole vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from azula.denoise import Denoiser, DiracPosterior
from azula.guidance import DiffPIRDenoiser, DPSSampler, MMPSDenoiser, PGDMSampler, TMPDenoiser
from azula.linalg.covariance import IsotropicCovariance
from azula.noise import VPSchedule
from azula.sample import DDPMSampler

from bayes_ir.inference import Problem

__all__ = ["peers"]

F64 = torch.float64


class _Ours(Denoiser):
    """Our denoiser behind azula's interface."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.prior, self.schedule = problem.prior, VPSchedule()

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, **kwargs: Any) -> DiracPosterior:
        a, b = self.schedule(t)
        x = x_t.reshape(len(x_t), *self.prior.event_shape)
        a, b = (c.to(F64).reshape(-1).expand(len(x)) for c in (a, b))
        return DiracPosterior(mean=self.prior._denoised_mean(x, a, b).reshape(x_t.shape))


def _parts(problem: Problem) -> tuple[Callable, torch.Tensor]:
    matrix = problem.operator.to_matrix().to(F64)
    return lambda x: x @ matrix.mT, problem.y.flatten().to(F64)


def _sample(sampler: Any, problem: Problem, draws: int) -> torch.Tensor:
    torch.manual_seed(0)
    start = torch.randn(draws, problem.prior.event_shape.numel(), dtype=F64)
    return sampler(start).detach().reshape(draws, *problem.prior.event_shape)


def _conditioned(build: Callable) -> Callable[[Problem, int, int], torch.Tensor]:
    def run(problem: Problem, steps: int, draws: int) -> torch.Tensor:
        forward, y = _parts(problem)
        noise = float(problem.channel.noise_std)
        denoiser = build(_Ours(problem), y, forward, noise)
        return _sample(DDPMSampler(denoiser, steps=steps, silent=True, dtype=F64), problem, draws)

    return run


def _dps(problem: Problem, steps: int, draws: int) -> torch.Tensor:
    forward, y = _parts(problem)
    return _sample(
        DPSSampler(_Ours(problem), y=y, A=forward, steps=steps, silent=True, dtype=F64), problem, draws
    )


def _pgdm(problem: Problem, steps: int, draws: int) -> torch.Tensor:
    forward, y = _parts(problem)
    inverse = torch.linalg.pinv(problem.operator.to_matrix().to(F64))
    sampler = PGDMSampler(
        _Ours(problem), y=y, A=forward, A_inv=lambda z: z @ inverse.mT, steps=steps, silent=True, dtype=F64
    )
    return _sample(sampler, problem, draws)


peers: dict[str, Callable[[Problem, int, int], torch.Tensor]] = {
    "azula MMPS, 1 iteration": _conditioned(
        lambda d, y, f, s: MMPSDenoiser(
            d, y, f, IsotropicCovariance(torch.tensor(s**2, dtype=F64)), iterations=1
        )
    ),
    "azula MMPS, 5 iterations": _conditioned(
        lambda d, y, f, s: MMPSDenoiser(
            d, y, f, IsotropicCovariance(torch.tensor(s**2, dtype=F64)), iterations=5
        )
    ),
    "azula TMPD": _conditioned(lambda d, y, f, s: TMPDenoiser(d, y, f, s**2)),
    "azula DiffPIR, lambda 1": _conditioned(lambda d, y, f, s: DiffPIRDenoiser(d, y, f, s**2, lmbda=1.0)),
    "azula DPS": _dps,
    "azula PGDM": _pgdm,
}

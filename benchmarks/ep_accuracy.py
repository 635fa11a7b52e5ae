"""Expectation propagation against Gibbs sampling of the truncated Gaussian.

    python benchmarks/ep_accuracy.py

Relative error of A^T r (M = 40, N = 78, noise 0.1) for Gaussian, ill-conditioned (condition number 1000) and
correlated (rho = 0.4, as published) matrices, 1 and 3 bits, beta in {3, 0.5, 0.1}: per-site EP, shared-variance EP,
and the diagonal of QCS-SGM, averaged over four draws of matrix, image and noise (and the largest of the four),
with the Monte Carlo error of the reference beside them.
"""

from __future__ import annotations

import math

import torch
from _results import write_results

from bayes_ir.inference.covariances import ScalarCovariance
from bayes_ir.inference.exact.truncated_gibbs import truncated_gaussian_gibbs
from bayes_ir.inference.expectation_propagation import expectation_propagation
from bayes_ir.inference.predictive import predictive
from bayes_ir.inference.predictive_laws import Spectral
from bayes_ir.inference.system import measurement_system
from bayes_ir.models import (
    Channel,
    CorrelatedSensing,
    GaussianSensing,
    IllConditionedSensing,
    LinearOperator,
    OneBit,
    Quantized,
)

M, N, NOISE, RHO, CONDITION = 40, 78, 0.1, 0.4, 1000.0
CHAINS, SWEEPS, BURN_IN = 300, 120, 150
PROBLEMS = 4
F64 = torch.float64


def operators(seed: int) -> dict[str, LinearOperator]:
    return {
        "gaussian": GaussianSensing(M, (N,), seed=seed, dtype=F64),
        "condition 1000": IllConditionedSensing(M, (N,), CONDITION, seed=seed, dtype=F64),
        "correlated 0.4": CorrelatedSensing(M, (N,), RHO, seed=seed, as_published=True, dtype=F64),
    }


def measure(operator: LinearOperator, bits: int, beta: float, seed: int) -> dict[str, float]:
    rng = torch.Generator().manual_seed(seed)
    x_0 = torch.rand(N, generator=rng, dtype=F64)
    noise, moved = (torch.randn(n, generator=rng, dtype=F64) for n in (M, N))
    z = operator(x_0)
    noisy = z + NOISE * noise
    channel: Channel
    if bits == 1:
        channel = OneBit(z, NOISE)
        y = torch.where(noisy >= 0, 1.0, -1.0).to(F64)
        lower = torch.where(y > 0, 0.0, -torch.inf).to(F64)
        upper = torch.where(y > 0, torch.inf, 0.0).to(F64)
    else:
        channel = Quantized(z, NOISE, bits=bits, step=Quantized.step_for(float(z.std()), bits))
        y = channel.quantise(noisy)
        lower, upper = channel.cells(y)
    system = measurement_system(operator, channel, y)
    x_t = x_0 + beta * moved
    a = operator.to_matrix()
    covariance = beta**2 * a @ a.T + NOISE**2 * torch.eye(M, dtype=F64)
    gibbs = truncated_gaussian_gibbs(
        operator(x_t), covariance, lower, upper, chains=CHAINS, sweeps=SWEEPS, burn_in=BURN_IN, seed=seed
    )
    exact = gibbs.slope.mean(0) @ a
    size = exact.norm()

    def error(c: torch.Tensor) -> float:
        return float((law.pull(c, F64)[0] - exact).norm() / size)

    mean = system.mean(x_t[None])
    law = predictive(system, ScalarCovariance(torch.tensor(beta**2, dtype=F64)), x_t[None], spectral=True)
    assert isinstance(law, Spectral)
    per_site, shared = (
        expectation_propagation(law, mean, per_site=p, tolerance=1e-8, max_sweeps=2000) for p in (True, False)
    )
    diagonal = law.left_adjoint(system.tilt(mean, beta**2 * system.row_energy).slope)
    return {
        "per-site": error(per_site.range_slope),
        "shared": error(shared.range_slope),
        "diagonal": error(diagonal),
        "monte carlo": float((gibbs.slope @ a).std(0).norm() / math.sqrt(CHAINS) / size),
        "sweeps per-site": float(per_site.sweeps),
        "sweeps shared": float(shared.sweeps),
    }


def main() -> None:
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    rows = []
    families = [operators(seed) for seed in range(PROBLEMS)]
    for name in families[0]:
        for bits in (1, 3):
            for beta in (3.0, 0.5, 0.1):
                each = [measure(family[name], bits, beta, seed) for seed, family in enumerate(families, 1)]
                figures = {k: sum(one[k] for one in each) / PROBLEMS for k in each[0]}
                figures["shared, largest"] = max(one["shared"] for one in each)
                figures["per-site, largest"] = max(one["per-site"] for one in each)
                rows.append({"matrix": name, "bits": bits, "beta": beta, "problems": PROBLEMS, **figures})
                print(
                    "  ".join(
                        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()
                    )
                )
    write_results("ep_accuracy", rows)


if __name__ == "__main__":
    main()

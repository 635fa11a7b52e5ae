"""Small problems of the Jensen gap whose answers are known."""

import pyro
import torch

from bayes_ir.inference import read_problem
from bayes_ir.models import DenseOperator, Gaussian, GaussianMixturePrior, GaussianPrior

F64 = torch.float64
N, M = 5, 3


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def gaussian():
    root = normal(N, N, seed=1)
    return GaussianPrior(normal(N, seed=2), root @ root.T / N + 0.2 * torch.eye(N, dtype=F64))


def mixture():
    roots = normal(3, N, N, seed=5)
    covariances = 0.3 * roots @ roots.mT / N + 0.1 * torch.eye(N, dtype=F64)
    return GaussianMixturePrior(torch.tensor([0.2, 0.3, 0.5], dtype=F64), normal(3, N, seed=6), covariances)


def problem(law=None, channel=Gaussian, noise=0.5, y=None, measurements=M):
    law = law or gaussian()
    operator = DenseOperator(normal(measurements, N, seed=3), dtype=F64)

    def model():
        pyro.sample("y", channel(operator(pyro.sample("x", law)), noise))

    return read_problem(model, {"y": operator(law.mean) + normal(measurements, seed=4) if y is None else y})


def states(level, count=2):
    return level.a * normal(count, N, seed=8) + level.b * normal(count, N, seed=9)

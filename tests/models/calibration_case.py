"""A Gaussian and a mixture on images of six pixels, and their draws."""

import torch

from bayes_ir.models.priors import GaussianMixturePrior, GaussianPrior

SHAPE = (1, 2, 3)


def root():
    return torch.randn(3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def gaussian():
    covariance = root()[0] @ root()[0].T / 6 + 0.01 * torch.eye(6, dtype=torch.float64)
    return GaussianPrior(torch.arange(6.0).double(), covariance, event_shape=SHAPE)


def mixture():
    means = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    covariances = root() @ root().mT / 12 + 0.01 * torch.eye(6, dtype=torch.float64)
    return GaussianMixturePrior([0.2, 0.3, 0.5], means, covariances, event_shape=SHAPE)


def draws(prior, n, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return prior.sample((n,))

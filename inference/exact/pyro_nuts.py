r"""The posterior of any differentiable likelihood in few dimensions, by the no-U-turn sampler of Pyro.

With a prior whose density is known and a channel that knows its own, the chains sample

    log p(x | y) = log p(x) + sum_m log p(y_m | A(x)) + const,        x = mu + R z,    R R^T = prior covariance,

in the coordinates z, in which the prior has unit covariance; a dense mass matrix learns what the measurements add.

The chains start from draws of the prior.  After warm-up each runs ``thinning`` states per draw, at least 100 states,
and draws are taken evenly spaced from all chains in turn: near independent where ``ess`` is not below their number.
Modes that the chains do not cross keep the share of the starts that fell to them, which shows as an rhat above 1.01.

Source: Hoffman and Gelman 2014 (arXiv 1111.4246), as released in Pyro (Bingham et al. 2019).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from bayes_ir.inference.exact.chain_diagnostics import effective_size, split_rhat
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.models.priors.gaussian_mixture import GaussianMixturePrior

__all__ = ["NutsDraws", "check_nuts", "nuts_draws"]

_MOST = 200  # dimensions
_FEWEST = 100  # states of a chain


class NutsDraws(NamedTuple):
    """Draws of a block and how well their chains mix, the worst over coordinates and the log density."""

    x: Tensor  # (draws, *event_shape)
    rhat: float
    ess: float


@torch.enable_grad()
def check_nuts(problem: Problem) -> None:
    """Refuse what the sampler cannot serve.

    Raises:
        ModelError: for a prior without a density, an operator without a derivative, too many dimensions, or a
            gradient that is not finite at the prior's mean.
    """
    prior, size = problem.prior, problem.prior.event_shape.numel()
    if not isinstance(prior, GaussianMixturePrior):
        raise ModelError(
            f"Exact(method='nuts') needs a prior whose density is known exactly, a GaussianPrior or "
            f"GaussianMixturePrior; {type(prior).__name__} has that of its probability flow, which is as good as its "
            "network and steps. Use DAPS() or GuidedDiffusion(), or Pyro's NUTS on the model itself."
        )
    if not (prior.components.variances > 0).all():
        raise ModelError(
            "Exact(method='nuts') needs a prior with a density, and a covariance of this one is singular; add a small "
            "multiple of the identity to it."
        )
    if not problem.operator.differentiable:
        raise ModelError(
            f"Exact(method='nuts') follows the derivative of the operator, and {problem.operator!r} has none that "
            "means anything; use PiGDM(decode=True) or DDNM(), which work with its pseudo-inverse."
        )
    if size > _MOST:
        raise ModelError(
            f"Exact(method='nuts') takes images of at most {_MOST} values, and site {problem.site!r} has {size}. "
            "Use DAPS() or GuidedDiffusion()."
        )
    z = torch.zeros(size, dtype=torch.float64, device=problem.device, requires_grad=True)
    log_density = _Posterior(problem).log_density(z)
    (slope,) = torch.autograd.grad(log_density, z)
    if not (log_density.isfinite() and slope.isfinite().all()):
        raise ModelError(
            f"Exact(method='nuts') follows the gradient of the log likelihood, which is not finite at the mean of the "
            f"prior of site {problem.site!r}. Use DAPS()."
        )


@torch.enable_grad()
def nuts_draws(problem: Problem, rng: Rng, *, chains: int, warmup: int, thinning: int) -> NutsDraws:
    """A block of draws.

    Args:
        problem: one that :func:`check_nuts` lets pass.
        rng: its seed is the only number taken; the global generator is left as it was.
        chains: number of chains, no more than draws are run.
        warmup: states of each chain that are left out.
        thinning: states per draw.
    """
    posterior = _Posterior(problem)
    chains = min(chains, rng.draws)
    kept = -(-rng.draws // chains)
    spacing = -(-max(kept * thinning, _FEWEST) // kept)
    runs = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.seed())
        starts = posterior.whiten(problem.prior.sample((chains,)))
        for start in starts:
            nuts = NUTS(potential_fn=posterior.potential, full_mass=True)
            run = MCMC(
                nuts, kept * spacing, warmup_steps=warmup, initial_params={"z": start}, disable_progbar=True
            )
            run.run()
            runs.append(run.get_samples()["z"].detach())
    z = torch.stack(runs)  # (chains, states, N)
    with torch.no_grad():
        log_density = posterior.log_density(z.flatten(0, 1)).reshape(chains, -1, 1)
    judged = torch.cat([z, log_density], -1)
    draws = z[:, spacing - 1 :: spacing].transpose(0, 1).flatten(0, 1)[: rng.draws]
    x = posterior.image(draws).to(problem.dtype)
    return NutsDraws(x, float(split_rhat(judged).max()), float(effective_size(judged).min()))


class _Posterior:
    """``log p(x | y)`` in the whitened coordinates z, float64, up to a constant."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem.to(dtype=torch.float64)
        prior = self._problem.prior
        assert isinstance(prior, GaussianMixturePrior)
        self._mean = prior.mean.flatten()
        self._root = torch.linalg.cholesky(prior.components.covariance_matrix.double())

    def image(self, z: Tensor) -> Tensor:
        """Images of z (*batch, N)."""
        x = self._mean + z @ self._root.T
        return x.reshape(*z.shape[:-1], *self._problem.prior.event_shape)

    def whiten(self, x: Tensor) -> Tensor:
        """Coordinates of images (B, *event_shape), (B, N)."""
        centred = (x.flatten(1).double() - self._mean).T
        return torch.linalg.solve_triangular(self._root, centred, upper=False).T

    def log_density(self, z: Tensor) -> Tensor:
        """At z (*batch, N), up to a constant, (*batch,)."""
        x = self.image(z.reshape(-1, z.shape[-1]))
        log_likelihood = self._problem.log_likelihood(x).flatten(1).sum(1)
        return (self._problem.prior.log_prob(x) + log_likelihood).reshape(z.shape[:-1])

    def potential(self, parameters: dict[str, Tensor]) -> Tensor:
        """What Pyro's kernel minimises."""
        return -self.log_density(parameters["z"])

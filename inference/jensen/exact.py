r"""``p(y | x_t)`` and its score where ``p(x_0 | x_t)`` is a Gaussian mixture.

With ``p(x_0 | x_t) = sum_k r_k N(m_k, C_k)`` (see :mod:`bayes_ir.models.priors.gaussian_mixture`; C_k depends on the
level alone) and ``S_k = A C_k A^T + D^2``, ``G_k = C_k A^T S_k^-1``, a Gaussian channel gives

    p(y | x_t)        = sum_k r_k N(y; A m_k, S_k)
    E[x_0 | x_t, y]   = sum_k r_k(y) (m_k + G_k (y - A m_k)),    r_k(y) proportional to r_k N(y; A m_k, S_k).

Of one-bit and quantized measurements only the cells of ``u = A x_0 + n`` are known,

    p(y | x_t)        = sum_k r_k P_k,    P_k = P(lower <= u < upper | k)
    E[x_0 | x_t, y]   = sum_k r_k(y) (m_k + G_k (E[u | k, cells] - A m_k)),

and P_k and the mean of u are estimated together from tilted proposals, whose weights vary little
(:mod:`bayes_ir.inference.exact.minimax_tilting`); the sum over x_0 given u is done exactly.

Source: conditioning of Gaussians; Botev 2017 (arXiv 1603.04166) for the cells.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bayes_ir.inference.exact.box_channels import cells_of
from bayes_ir.inference.exact.minimax_tilting import TruncatedNormal
from bayes_ir.inference.jensen.reference import Reference
from bayes_ir.inference.problem import Problem
from bayes_ir.inference.samplers import Level
from bayes_ir.models.channels import Gaussian, OneBit, Quantized
from bayes_ir.models.priors.gaussian_mixture import GaussianMixture, GaussianMixturePrior
from bayes_ir.models.priors.mixture_law import LOG_2PI

__all__ = ["cells_reference", "denoising_law", "exact_references", "has_exact"]

_MOST_CELLS = 100
_GROUPS, _LEAST = 20, 8  # groups of proposals, and the least size of one
_NEGLIGIBLE = 30.0  # nats below the largest bound


def has_exact(problem: Problem) -> bool:
    """Whether ``p(y | x_t)`` is known in closed form, or by the probabilities of cells, and not by nested sampling."""
    if not isinstance(problem.prior, GaussianMixturePrior):
        return False
    cells = isinstance(problem.channel, (OneBit, Quantized)) and problem.y.numel() <= _MOST_CELLS
    return isinstance(problem.channel, Gaussian) or cells


def denoising_law(prior: GaussianMixturePrior, x_t: Tensor, level: Level) -> GaussianMixture:
    """``p(x_0 | x_t)`` at states x_t (B, *event_shape); float64."""
    # A mixture is conditioned at a time: that of the ratio, on x_t / a, which is x_0 + (b / a) eps.
    t = float(prior.diffusion.time_at(level.ratio))
    a, _ = prior.diffusion.coefficients(t)
    return prior.denoising_posterior(x_t.double() * (float(a) / level.a), t)


class _Measured(NamedTuple):
    """The mixture of a level, measured in units of the noise."""

    covariance: Tensor  # D^-1 S_k D^-1, (K, M, M)
    cross: Tensor  # C_k A^T D^-1, (K, N, M)


@lru_cache(maxsize=1)
def _rows(problem: Problem) -> tuple[Tensor, Tensor]:
    """``D^-1 A``, (M, N), and ``D^-1 A Q_k``, (K, M, N)."""
    assert isinstance(problem.prior, GaussianMixturePrior)
    a = problem.operator.to(dtype=torch.float64).to_matrix()  # type: ignore[attr-defined]
    a = a / problem.system.noise[:, None]
    return a, a @ problem.prior.components.basis


def _measured(problem: Problem, law: GaussianMixture) -> _Measured:
    _, rows = _rows(problem)
    variances = law.variances.reshape(-1, *law.variances.shape[-2:])[0]  # the same for all x_t
    scaled = rows * variances[:, None]
    covariance = scaled @ rows.mT + torch.eye(rows.shape[1], dtype=torch.float64, device=rows.device)
    return _Measured(covariance, law.basis @ scaled.mT)


def exact_references(problem: Problem, law: GaussianMixture) -> list[Reference]:
    """The likelihood of each of the states ``x_t`` that the law is batched over, for a Gaussian channel."""
    system, (a, _), found = problem.system, _rows(problem), _measured(problem, law)
    lower = torch.linalg.cholesky(found.covariance)
    innovation = system.y / system.noise - law.means @ a.T  # (B, K, M)
    white = torch.linalg.solve_triangular(lower, innovation.transpose(0, 1).mT, upper=False)  # (K, M, B)
    log_det = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1) + 2 * system.noise.log().sum()
    log_normal = -0.5 * (white.square().sum(1).T + log_det + white.shape[1] * LOG_2PI)
    log_joint = law.log_weights + log_normal
    solved = torch.linalg.solve_triangular(lower.mT, white, upper=True)  # S_k^-1 (y - A m_k)
    means = law.means + torch.einsum("knm,kmb->bkn", found.cross, solved)
    centre = torch.einsum("bk,bkn->bn", law.log_weights.exp(), law.means)
    shifted = torch.einsum("bk,bkn->bn", log_joint.softmax(1), means - centre[:, None])
    log_p = log_joint.logsumexp(1)
    nothing = torch.zeros(1, shifted.shape[1], dtype=torch.float64)
    return [Reference(log_p[i : i + 1].cpu(), shifted[i : i + 1].cpu(), nothing) for i in range(len(log_p))]


def cells_reference(
    problem: Problem, law: GaussianMixture, row: int, samples: int, generator: np.random.Generator
) -> Reference:
    """The likelihood of one of the states, for cells; standard errors are those of the tilting.

    Args:
        problem: mixture prior, linear A, one-bit or quantized channel.
        law: ``p(x_0 | x_t)`` of all states.
        row: number of the state.
        samples: proposals of the component that weighs most, made in groups.
        generator: source of the proposals.

    Raises:
        ValueError: if a component cannot be tilted.
    """
    noise, (a, _), found = problem.system.noise, _rows(problem), _measured(problem, law)
    cells = [(bound / noise).cpu().numpy() for bound in cells_of(problem)]
    means, log_r = law.means[row], law.log_weights[row]
    at = means @ a.T
    laws = [
        TruncatedNormal(m.cpu().numpy(), s.cpu().numpy(), *cells)
        for m, s in zip(at, found.covariance, strict=True)
    ]
    bounds = log_r.cpu() + torch.tensor([law.log_bound for law in laws], dtype=torch.float64)
    centre = (log_r.exp()[:, None] * means).sum(0)
    log_weight, weighted, squares, draws = [], [], [], 0
    for k in torch.nonzero(bounds > bounds.max() - _NEGLIGIBLE)[:, 0].tolist():
        # Components of little weight need not be known as well as the others.
        share = float((0.5 * (bounds[k] - bounds.max())).exp())
        per_group = max(_LEAST, -(-round(samples * share) // _GROUPS))
        draws += _GROUPS * per_group
        u, psi = (torch.from_numpy(part) for part in laws[k].propose(_GROUPS * per_group, generator))
        psi = psi.reshape(_GROUPS, per_group)
        solved = torch.linalg.solve(found.covariance[k], (u.to(at.device) - at[k]).T)
        x = means[k] - centre + (found.cross[k] @ solved).T  # E[x_0 | x_t, k, u]
        x = x.reshape(_GROUPS, per_group, -1)
        log_weight.append(bounds[k] + psi.logsumexp(1) - np.log(per_group))
        weighted.append(torch.einsum("gs,gsn->gn", psi.softmax(1).to(x), x).cpu())
        squares.append(2 * bounds[k] + (2 * psi).logsumexp((0, 1)) - 2 * np.log(per_group))
    log_w, per_component = torch.stack(log_weight, 1), torch.stack(weighted, 1)  # (G, K'), (G, K', N)
    total = torch.einsum("gk,gkn->gn", log_w.softmax(1), per_component)
    log_group = log_w.logsumexp(1)
    ess = float((2 * log_group.logsumexp(0) - torch.stack(squares).logsumexp(0)).exp())
    return Reference(log_group, total, torch.zeros_like(total), float(np.log(_GROUPS)), ess, draws)

r"""Expectation propagation for independent sites on a Gaussian: y_m seen through any channel.

Let ``z ~ N(m, K)`` with ``K = U diag(kappa) U^T`` and ``p(y | z) = prod_m p(y_m | z_m)``.  EP
replaces each factor by a Gaussian site ``exp(h_m n_m - tau_m n_m^2 / 2)`` in ``n = z - m``, so that

    q(n) = N(n; mean, Sigma),   Sigma = (K^-1 + T)^-1,   mean = Sigma h,   T = diag(tau).

One sweep, with ``chi = diag(Sigma)`` and ``w = diag((I + T K)^-1) = 1 - tau chi``:

    cavity    v = chi / w,    o = (mean - chi h) / w
    site      (log Z, g, c) = channel.tilt(y, m + o, v)      # d log Z / dm and -d^2 log Z / dm^2
              tau <- c / (1 - v c),    h <- tau o + g / (1 - v c)

At the fixed point ``r = d log p(y) / dm = g = h - tau mean = (K + T^-1)^-1 T^-1 h``: the
data act as Gaussian pseudo-data ``m + h / tau`` of variance ``1 / tau``.  What is returned is
``U^T r``, which is all that A^T r needs.

Sites carry their own variances (``per_site=True``: one Cholesky factor of the rank of K per draw
and sweep) or share the average of c over m, which in the basis U costs two products with U a sweep:

    U^T mean = kappa / (1 + tau kappa) U^T h,   chi = avg kappa / (1 + tau kappa),   w = avg 1 / (1 + tau kappa).

No formula here subtracts nearly equal numbers: v and w come from sums of positive terms, c from the
channel.  The noise of the channel lives in its sites, so a rank-deficient K needs no floor.

Source: Minka 2001; for quantized compressed sensing Meng and Kabashima 2023 (QCS-SGM+,
arXiv 2302.00919), algorithm 1, where the shared variance is the published choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from bayes_ir.models.channels.base import TiltedNormaliser

__all__ = [
    "EPResult",
    "Sites",
    "expectation_propagation",
    "log_evidence",
    "log_site_integral",
    "range_slope",
]


class Factors(Protocol):
    """What EP needs of a predictive law: K = U diag(kappa) U^T and the channel."""

    @property
    def measurements(self) -> int: ...
    @property
    def kappa(self) -> Tensor: ...
    def left(self, c: Tensor) -> Tensor: ...
    def left_adjoint(self, z: Tensor) -> Tensor: ...
    def left_matrix(self) -> Tensor: ...
    def tilt(self, mean: Tensor, variance: Tensor) -> TiltedNormaliser: ...


class Sites(NamedTuple):
    """Gaussian sites ``exp(h z - tau z^2 / 2)`` in the coordinates of z."""

    h: Tensor  # (B, M)
    tau: Tensor  # (B, M), or (B, 1) when shared


class EPResult(NamedTuple):
    """Fixed point of EP for a batch of draws."""

    range_slope: Tensor  # U^T r, (B, r)
    sites: Sites
    sweeps: Tensor  # (B,), sweeps until this draw converged
    residual: Tensor  # (B,), relative change of the sites in its last sweep


class _Marginals(NamedTuple):
    mean: Tensor  # Sigma h, (B, M)
    chi: Tensor  # diag(Sigma), (B, M) or (B, 1)
    w: Tensor  # diag((I + T K)^-1), as chi


def expectation_propagation(
    factors: Factors,
    mean: Tensor,
    *,
    start: Sites | None = None,
    per_site: bool = False,
    tolerance: float = 1e-4,
    max_sweeps: int = 30,
    damping: float = 0.2,
) -> EPResult:
    """Run EP on a batch of draws; a draw that has converged is left alone.

    Args:
        factors: U, (M, r) or (B, M, r), kappa, (r,) or (B, r), float64 and non-negative, and the channel.
        mean: m, (B, M), float64.
        start: sites to start from (for instance those of the last step), by default none.
        per_site: give every measurement its own site variance.
        tolerance: largest relative change of a draw's sites at which it counts as converged.
        max_sweeps: cap on the sweeps.
        damping: share of the old sites kept in an update, in [0, 1); where a draw's sites do not settle (shared
            variances oscillate for strongly correlated rows of A) it is raised, for that draw alone.
    """
    marginals = _per_site_marginals if per_site else _shared_marginals
    batch, width = mean.shape
    shape = (batch, width if per_site else 1)
    if start is None:
        start = Sites(torch.zeros_like(mean), mean.new_zeros(shape))
    h, tau = start.h - start.tau * mean, start.tau
    active = torch.ones(batch, dtype=torch.bool, device=mean.device)
    sweeps = torch.zeros(batch, dtype=torch.int64, device=mean.device)
    residual = torch.full((batch,), torch.inf, dtype=mean.dtype, device=mean.device)
    kept = torch.full((batch, 1), damping, dtype=mean.dtype, device=mean.device)
    for _ in range(max_sweeps):
        new_h, new_tau = _update_sites(factors, mean, h, marginals(factors, h, tau))
        new_h, new_tau = torch.lerp(new_h, h, kept), torch.lerp(new_tau, tau, kept)
        change = torch.maximum(_relative_change(new_h, h), _relative_change(new_tau, tau))
        # A draw whose sites swing instead of settling is damped harder from here on.
        kept = torch.where((change > 0.9 * residual)[:, None], (0.5 + 0.5 * kept).clamp(max=0.9), kept)
        rows = active[:, None]
        h, tau = torch.where(rows, new_h, h), torch.where(rows, new_tau, tau)
        residual = torch.where(active, change, residual)
        sweeps += active
        active = active & (change > tolerance)  # a non-finite draw compares false and is left alone
        if not active.any():
            break
    return EPResult(range_slope(factors, h, tau, per_site), Sites(h + tau * mean, tau), sweeps, residual)


def log_evidence(factors: Factors, mean: Tensor, sites: Sites) -> Tensor:
    """``log Z_EP``, the EP estimate of ``log int p(y | z) N(z; m, K) dz``, (B,).

    With o, v the cavities and log Z_m their tilted normalisers,

        log Z_EP = sum_m log Z_m + h^T mean / 2 - log det(I + T K) / 2
                   + sum_m [ log(1 + v tau) / 2 - (2 o h + v h^2 - o^2 tau) / (2 (1 + v tau)) ];

    its gradient in m is r at the fixed point (Minka 2001, section 3.2.1).
    """
    h, tau = sites.h - sites.tau * mean, sites.tau
    marginals = _marginals_of(factors, tau)(factors, h, tau)
    offset, variance = _cavity(marginals, h)
    log_z = factors.tilt(mean + offset, variance.expand_as(mean)).log_normaliser
    inflation = 1 + variance * tau
    correction = inflation.log() - (2 * offset * h + variance * h**2 - offset**2 * tau) / inflation
    return log_z.sum(-1) + 0.5 * ((h * marginals.mean).sum(-1) - _log_det(factors, tau) + correction.sum(-1))


def log_site_integral(factors: Factors, mean: Tensor, sites: Sites) -> Tensor:
    """``log int prod_m exp(h_m z_m - tau_m z_m^2 / 2) N(z; m, K) dz``, (B,): what the sites say of a belief."""
    h, tau = sites.h - sites.tau * mean, sites.tau
    inner = _marginals_of(factors, tau)(factors, h, tau).mean
    at_mean = ((sites.h - 0.5 * tau * mean) * mean).sum(-1)
    return at_mean + 0.5 * ((h * inner).sum(-1) - _log_det(factors, tau))


def _marginals_of(factors: Factors, tau: Tensor) -> Callable[[Factors, Tensor, Tensor], _Marginals]:
    own = tau.shape[1] > 1 or factors.measurements == 1
    return _per_site_marginals if own else _shared_marginals


def _log_det(factors: Factors, tau: Tensor) -> Tensor:
    """``log det(I + T K)``, (B,)."""
    if tau.shape[1] == 1:
        return torch.log1p(tau * factors.kappa).sum(-1)
    return 2 * torch.linalg.cholesky(_capacitance(factors, tau)).diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _cavity(marginals: _Marginals, h: Tensor) -> tuple[Tensor, Tensor]:
    return (marginals.mean - marginals.chi * h) / marginals.w, marginals.chi / marginals.w


def _update_sites(factors: Factors, mean: Tensor, h: Tensor, marginals: _Marginals) -> tuple[Tensor, Tensor]:
    offset, variance = _cavity(marginals, h)
    _, g, c = factors.tilt(mean + offset, variance.expand_as(mean))
    if variance.shape[1] == 1:
        c = c.mean(-1, keepdim=True)
    shrinkage = 1 - variance * c  # tilted variance over cavity variance
    tau = c / shrinkage
    return tau * offset + g / shrinkage, tau


def _shared_marginals(factors: Factors, h: Tensor, tau: Tensor) -> _Marginals:
    kappa = factors.kappa
    damped = 1 / (1 + tau * kappa)  # (B, r)
    mean = factors.left(kappa * damped * factors.left_adjoint(h))
    chi = (kappa * damped).sum(-1, keepdim=True) / factors.measurements
    outside = factors.measurements - kappa.shape[-1]
    return _Marginals(mean, chi, (damped.sum(-1, keepdim=True) + outside) / factors.measurements)


def _root(factors: Factors) -> Tensor:
    """``L = U kappa^{1/2}``."""
    return factors.left_matrix() * factors.kappa.sqrt()[..., None, :]


def _capacitance(factors: Factors, tau: Tensor) -> Tensor:
    """``I + L^T T L`` with ``L = U kappa^{1/2}``, (B, r, r)."""
    root = _root(factors)
    return torch.eye(root.shape[-1], dtype=tau.dtype, device=tau.device) + (root.mT * tau[:, None, :]) @ root


def _per_site_marginals(factors: Factors, h: Tensor, tau: Tensor) -> _Marginals:
    root = _root(factors)
    lower = torch.linalg.cholesky(_capacitance(factors, tau))
    half = torch.linalg.solve_triangular(lower, root.mT.expand(len(tau), -1, -1), upper=False)  # (B, r, M)
    mean = torch.einsum("brm,brn,bn->bm", half, half, h)
    chi = (half**2).sum(1)
    return _Marginals(mean, chi, 1 - tau * chi)


def range_slope(factors: Factors, h: Tensor, tau: Tensor, per_site: bool) -> Tensor:
    """``U^T (I + T K)^-1 h``, which at the fixed point is ``U^T r``, (B, r)."""
    if not per_site:
        return factors.left_adjoint(h) / (1 + tau * factors.kappa)
    mean = _per_site_marginals(factors, h, tau).mean
    return factors.left_adjoint(h - tau * mean)


def _relative_change(new: Tensor, old: Tensor) -> Tensor:
    size = torch.linalg.vector_norm(new, dim=-1)
    change = torch.linalg.vector_norm(new - old, dim=-1)
    return torch.where(change == 0, torch.zeros_like(change), change / size)

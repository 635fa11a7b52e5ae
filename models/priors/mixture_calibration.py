r"""The exact mean covariance of the denoising posterior of a Gaussian mixture.

With ``x_t / a = x_0 + r eps``, responsibilities ``rho_k`` and conditional means ``m_k`` of the components,

    Cov(x_0 | x_t) = sum_k rho_k Q_k D_k Q_k^T + sum_k rho_k (m_k - x0_hat)(m_k - x0_hat)^T,
    D_k = diag(r^2 lambda_k / (r^2 + lambda_k)).

Since ``E rho_k = w_k`` the mean of the first sum is known in closed form, and for a single Gaussian it is all.  The
mean of the second, what is uncertain between the components, is a Monte Carlo average over ``x_t``: 1,024 draws,
stratified over the components, the same at every level.  For the shipped mixture of digits its standard error is at
most 1.4 per cent of a ``v_i``, and 0.3 per cent in root mean square over the directions of the worst level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bayes_ir.models.priors.bases import Basis, PCABasis, PixelBasis, make_basis
from bayes_ir.models.priors.calibration import Calibration, noise_levels, positive
from bayes_ir.models.priors.mixture_law import GaussianMixture

if TYPE_CHECKING:
    from bayes_ir.models.priors.gaussian_mixture import GaussianMixturePrior

__all__ = ["exact_calibration"]

_DRAWS, _CHUNK, _SEED = 1024, 256, 0
_CERTAIN = 1e-12  # a responsibility this close to 0 or 1 leaves nothing uncertain between the components


def exact_calibration(
    prior: GaussianMixturePrior, basis: str = "pca", levels: int | None = None
) -> Calibration:
    """Calibration of a Gaussian mixture from its own law; exact at the levels for a single Gaussian.

    Args:
        prior: the mixture.
        basis: ``"pca"`` (the complete eigenbasis of the mixture's covariance), ``"dct"``, ``"pixel"`` or ``"scalar"``.
        levels: number of noise ratios, geometric over ``prior.noise_range``; by default 256 for a single Gaussian
            and 24 for a mixture.  Between two levels the interpolation of a Gaussian's ``v_i`` is low by at most
            ``h^2 / 8`` with ``h`` the logarithm of their quotient: 1e-4 and 2 per cent over a range of 1 to 5,000.

    Raises:
        ValueError: for an unknown basis or fewer than 2 levels.
    """
    law = prior.to(dtype=torch.float64).components
    weights = law.log_weights.exp()
    q = _basis(basis, law)
    pixels = law.means.shape[-1]
    identity = torch.eye(pixels, dtype=torch.float64, device=law.means.device)
    vectors = q.analyse(identity.reshape(pixels, *law.event_shape))  # q_i as columns, (N, R)
    ratios = noise_levels(prior.noise_range, levels or (256 if len(weights) == 1 else 24)).to(identity.device)
    turned = law.basis.mT @ vectors  # Q_k^T q_i, (K, N, R)
    squared = ratios[:, None, None] ** 2
    within = weights[:, None] * squared * law.variances / (squared + law.variances)  # w_k D_k, (L, K, N)
    variances = torch.einsum("lkn,kni->li", within, turned**2)
    if len(weights) > 1:
        variances = variances + _between(law, ratios, vectors, turned)
    if basis == "scalar":
        return Calibration(
            None, ratios, positive(variances.mean(1, keepdim=True), ratios), torch.zeros_like(ratios)
        )
    return Calibration(q, ratios, positive(variances, ratios), torch.zeros_like(ratios))


def _basis(name: str, law: GaussianMixture) -> Basis:
    if name == "pca":
        vectors = torch.linalg.eigh(law.covariance_matrix)[1]
        return PCABasis(vectors.flip(-1).contiguous(), law.event_shape)
    return make_basis(name, law.event_shape) or PixelBasis(law.event_shape)


def _between(law: GaussianMixture, ratios: Tensor, vectors: Tensor, turned: Tensor) -> Tensor:
    """``E q_i^T (sum_k rho_k m_k m_k^T - x0_hat x0_hat^T) q_i`` at every level, (L, R)."""
    device, pixels = law.means.device, law.means.shape[-1]
    rng = torch.Generator().manual_seed(_SEED)
    uniform = (torch.arange(_DRAWS, dtype=torch.float64) + 0.5) / _DRAWS
    normal, eps = (torch.randn(_DRAWS, pixels, dtype=torch.float64, generator=rng) for _ in range(2))
    x_0 = law.transport(uniform.to(device), normal.to(device)).reshape(_DRAWS, pixels)
    centres = (law.means - law.mean.reshape(-1)) @ vectors  # q_i^T mu_k about the mean of all, (K, R)
    noised = law.variances[..., None] + ratios**2  # (K, N, L)
    total = vectors.new_zeros(len(ratios), vectors.shape[1])
    for x, e in zip(x_0.split(_CHUNK), eps.to(device).split(_CHUNK), strict=True):
        clean = (x - law.means[:, None]) @ law.basis  # Q_k^T (x_t - mu_k) = clean + r noise, (K, B, N)
        noise = e @ law.basis
        square = clean**2 @ (1 / noised) + 2 * ratios * (clean * noise @ (1 / noised))
        square = square + ratios**2 * (noise**2 @ (1 / noised))
        scale = law.log_weights[:, None] - 0.5 * noised.log().sum(1)
        rho = (scale[:, None] - 0.5 * square).softmax(0)  # (K, B, L)
        for level, ratio in enumerate(ratios):
            unsure = (rho[..., level].amax(0) < 1 - _CERTAIN).nonzero()[:, 0]
            first, second = (vectors.new_zeros(len(unsure), vectors.shape[1]) for _ in range(2))
            for k, share in enumerate(rho[:, unsure, level]):
                rows = (share > _CERTAIN).nonzero()[:, 0]
                y = clean[k, unsure[rows]] + ratio * noise[k, unsure[rows]]
                gain = law.variances[k] / noised[k, :, level]
                m_k = torch.addmm(centres[k], y, gain[:, None] * turned[k])
                weighted = share[rows, None] * m_k
                first.index_add_(0, rows, weighted)
                second.index_add_(0, rows, weighted * m_k)
            total[level] += (second - first**2).sum(0)
    return total / _DRAWS

r"""The law of a Gaussian mixture held by its eigenvectors, batched over weights and means.

    p(x) = sum_k w_k N(x; mu_k, Q_k diag(lambda_k) Q_k^T)

Both a prior over clean images and its conditional laws ``p(x_0 | x_t)`` are of this form with the
same ``Q_k``.  Densities are formed in log space and float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

__all__ = ["LOG_2PI", "GaussianMixture", "mixture_log_densities", "rotate"]

LOG_2PI = math.log(2 * math.pi)


class GaussianMixture(TorchDistribution):
    """Mixture ``sum_k w_k N(mu_k, Q_k diag(lambda_k) Q_k^T)``; weights and means may be batched.

    Args:
        log_weights: (*batch, K), normalised or not.
        means: (*batch, K, N).
        basis: orthonormal ``Q``, (K, N, N), shared by the batch.
        variances: ``lambda``, (K, N) or (*batch, K, N), non-negative.
        event_shape: shape of one draw; its product is N.
        dtype: type of the draws; the parameters are held in float64.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        log_weights: Tensor,
        means: Tensor,
        basis: Tensor,
        variances: Tensor,
        event_shape: Sequence[int],
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.log_weights = log_weights.double().log_softmax(-1)
        self.means, self.basis, self.variances = means.double(), basis.double(), variances.double()
        self._dtype = dtype
        super().__init__(log_weights.shape[:-1], torch.Size(event_shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Mean, (*batch, *event_shape)."""
        flat = (self.log_weights.exp()[..., None] * self.means).sum(-2)
        return flat.reshape(*self.batch_shape, *self.event_shape).to(self._dtype)

    @property
    def covariance_matrix(self) -> Tensor:
        """Covariance of the flattened draw, (*batch, N, N)."""
        w = self.log_weights.exp()
        within = torch.einsum("...k,kni,...ki,kmi->...nm", w, self.basis, self.variances, self.basis)
        centred = self.means - (w[..., None] * self.means).sum(-2, keepdim=True)
        between = torch.einsum("...k,...kn,...km->...nm", w, centred, centred)
        return (within + between).to(self._dtype)

    @property
    def variance(self) -> Tensor:
        """Marginal variances, (*batch, *event_shape)."""
        w = self.log_weights.exp()
        within = torch.einsum("...k,kni,...ki->...n", w, self.basis**2, self.variances)
        centred = self.means - (w[..., None] * self.means).sum(-2, keepdim=True)
        flat = within + torch.einsum("...k,...kn->...n", w, centred**2)
        return flat.reshape(*self.batch_shape, *self.event_shape).to(self._dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at value (*batch, *event_shape)."""
        flat = value.reshape(*value.shape[: value.ndim - len(self.event_shape)], -1)
        return mixture_log_densities(
            flat.double(), self.log_weights, self.means, self.basis, self.variances
        ).logsumexp(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Independent draws (*sample_shape, *batch, *event_shape)."""
        shape = torch.Size(sample_shape) + self.batch_shape
        device = self.means.device
        uniform = torch.rand(shape, dtype=torch.float64, device=device)
        normal = torch.randn(*shape, self.means.shape[-1], dtype=torch.float64, device=device)
        return self.transport(uniform, normal)

    def transport(self, uniform: Tensor, normal: Tensor) -> Tensor:
        """Turn uniform numbers (*shape,) and normal ones (*shape, N) into draws (*shape, *event_shape).

        ``shape`` ends in the batch shape.  The uniform number picks the component by the
        inverse distribution function, the normals become ``mu_k + Q_k lambda_k^{1/2} normal``.
        """
        shape = uniform.shape
        components, dimension = self.means.shape[-2:]
        cumulative = self.log_weights.exp().cumsum(-1).expand(*shape, components)
        k = (uniform[..., None] > cumulative).sum(-1).clamp(max=components - 1).reshape(-1, 1, 1)
        rows = k.expand(-1, 1, dimension)
        means = self.means.expand(*shape, components, dimension).reshape(-1, components, dimension)
        variances = self.variances.expand(*shape, components, dimension).reshape(means.shape)
        draws = means.gather(1, rows)[:, 0]
        scaled = variances.gather(1, rows)[:, 0].sqrt() * normal.reshape(-1, dimension)
        k = k[:, 0, 0]
        for component in k.unique():
            chosen = k == component
            draws[chosen] += scaled[chosen] @ self.basis[component].T
        return draws.reshape(*shape, *self.event_shape).to(self._dtype)


def mixture_log_densities(
    x: Tensor,  # (*batch, N)
    log_weights: Tensor,  # (*batch, K)
    means: Tensor,  # (*batch, K, N)
    basis: Tensor,  # (K, N, N)
    variances: Tensor,  # (*batch, K, N)
) -> Tensor:
    """``log w_k + log N(x; mu_k, Q_k diag(variances_k) Q_k^T)``, shape (*batch, K)."""
    y = rotate(x[..., None, :] - means, basis)
    quadratic = (y**2 / variances + variances.log() + LOG_2PI).sum(-1)
    return log_weights - 0.5 * quadratic


def rotate(x: Tensor, basis: Tensor) -> Tensor:
    """``Q_k^T x_k`` for x (*batch, K, N)."""
    return torch.einsum("...kn,kni->...ki", x, basis)

r"""Gaussian mixtures: the prior whose every quantity is known at every noise level.

With ``x_0 ~ sum_k w_k N(mu_k, Q_k diag(lambda_k) Q_k^T)`` and ``x_t = a x_0 + b eps``,

    p(x_t)       = sum_k w_k N(a mu_k, Q_k diag(a^2 lambda_k + b^2) Q_k^T)
    p(x_0 | x_t) = sum_k r_k N(m_k, Q_k diag(b^2 lambda_k / (a^2 lambda_k + b^2)) Q_k^T)
    m_k          = mu_k + Q_k diag(a lambda_k / (a^2 lambda_k + b^2)) Q_k^T (x_t - a mu_k)
    r_k          proportional to  w_k N(x_t; a mu_k, ...),

so the denoised mean is ``sum_k r_k m_k``.  One eigendecomposition per component serves all
noise levels; responsibilities are formed in log space.  All arithmetic is float64 whatever the
type of ``x_t``: quadratic forms in hundreds of dimensions leave too few digits in float32.

Source: standard conditioning of Gaussians; as a test bed for diffusion posteriors,
Cardoso et al. 2023 (arXiv 2308.07983), appendix B.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bayes_ir.models.diffusion import VarianceExploding
from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.priors.calibration import Calibration
from bayes_ir.models.priors.mixture_calibration import exact_calibration
from bayes_ir.models.priors.mixture_law import LOG_2PI, GaussianMixture, rotate

__all__ = ["GaussianMixture", "GaussianMixturePrior", "GaussianPrior"]

_NUMBERS = 2**20  # in an array over images, components and pixels: 8 MiB, whatever the batch


class GaussianMixturePrior(DiffusionPrior):
    """Gaussian mixture with exact score, denoiser and ``p(x_0 | x_t)`` at every noise level.

    Args:
        weights: positive weights, (K,); normalised here.
        means: (K, N) or (K, *event_shape).
        covariances: symmetric positive semi-definite, (K, N, N).
        event_shape: shape of one draw, by default (N,).
        data_range: bounds of the data, if any.
        diffusion: forward process, by default variance exploding over ``noise_range``.

    ``noise_range`` runs from a hundredth of the root mean marginal variance to ten times the
    largest principal standard deviation of the whole mixture.

    Raises:
        ValueError: when shapes do not fit, a weight is not positive, or a covariance is not
            finite, symmetric and positive semi-definite (to 1e-8 of its largest eigenvalue).

    Example:
        >>> prior = GaussianMixturePrior([0.3, 0.7], [[-2.0, 0.0], [2.0, 0.0]], [torch.eye(2)] * 2)
        >>> prior.denoise(torch.tensor([[100.0, 0.0]]), 0.0).round()
        tensor([[100.,   0.]])
    """

    def __init__(
        self,
        weights: Tensor | Sequence[float],
        means: Tensor | Sequence,
        covariances: Tensor | Sequence,
        *,
        event_shape: Sequence[int] | None = None,
        data_range: tuple[float, float] | None = None,
        diffusion: VarianceExploding | None = None,
    ) -> None:
        weights, means, covariances = _tensor(weights), _tensor(means), _tensor(covariances)
        self._dtype = torch.promote_types(means.dtype, covariances.dtype)
        name = type(self).__name__
        components = weights.numel()
        if means.ndim < 2 or means.shape[0] != components:
            raise ValueError(
                f"{name}: got {components} weights and means of shape {tuple(means.shape)}; "
                "expected means (K, N) with one row per weight."
            )
        shape = torch.Size(event_shape if event_shape is not None else means.shape[1:])
        n = math.prod(means.shape[1:])
        if math.prod(shape) != n or covariances.shape != (components, n, n):
            raise ValueError(
                f"{name}: got means {tuple(means.shape)}, covariances {tuple(covariances.shape)} and "
                f"event_shape {tuple(shape)}; expected covariances ({components}, {n}, {n}) and an "
                f"event_shape of {n} values."
            )
        if not (weights > 0).all() or not weights.isfinite().all() or not means.isfinite().all():
            raise ValueError(
                f"{name}: weights must be positive and finite, means finite; got weights {weights.tolist()}."
            )
        basis, variances = _eigen(covariances.double(), name)
        self.components = GaussianMixture(
            weights.double().log(),
            means.double().reshape(components, n),
            basis,
            variances,
            shape,
            self._dtype,
        )
        total = torch.linalg.eigvalsh(self.components.covariance_matrix.double())
        noise_range = (1e-2 * float(total.clamp(min=0).mean().sqrt()), 10 * float(total[-1].sqrt()))
        if not noise_range[0] > 0:
            raise ValueError(f"{name}: every covariance is zero and all means agree; a point is no prior.")
        super().__init__(shape, diffusion or VarianceExploding(*noise_range), noise_range, data_range)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(components={len(self.weights)}, event_shape={tuple(self.event_shape)})"

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the draws; the parameters are held in float64."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.components.means.device

    @property
    def weights(self) -> Tensor:
        """Normalised weights, (K,), float64."""
        return self.components.log_weights.exp()

    @property
    def mean(self) -> Tensor:
        """Mean of the mixture, shaped as ``batch_shape + event_shape``."""
        return self.components.mean.to(self._dtype).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        """Marginal variances of the mixture, shaped as ``batch_shape + event_shape``."""
        return self.components.variance.to(self._dtype).expand(self.batch_shape + self.event_shape)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> GaussianMixturePrior:
        """The same prior on another device or with draws of another floating point type."""
        other = copy.copy(self)
        other._dtype = dtype or self._dtype
        c = self.components
        log_weights, means, basis, variances = (
            p.to(device) for p in (c.log_weights, c.means, c.basis, c.variances)
        )
        other.components = GaussianMixture(
            log_weights, means, basis, variances, self.event_shape, other._dtype
        )
        other.calibrations = {name: c.to(device) for name, c in self.calibrations.items()}
        return other

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Independent draws (*sample_shape, *batch_shape, *event_shape)."""
        return self.components.sample(torch.Size(sample_shape) + self.batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of the clean law ``p(x_0)`` at value (*batch, *event_shape)."""
        batch = self._batch_of(value)
        if not (self.components.variances > 0).all():
            raise ValueError(
                f"{type(self).__name__}.log_prob: a covariance is singular, so x_0 has no density; "
                "use noised_log_prob at a positive noise level, or add a small multiple of the identity."
            )
        return (
            self.components.log_prob(value)
            .to(value.dtype)
            .expand(torch.broadcast_shapes(batch, self.batch_shape))
        )

    def noised_log_prob(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Log density of ``p(x_t)`` at x_t (*batch, *event_shape), shape (*batch,)."""
        log_densities, _, _ = self._condition(x_t, t)
        return log_densities.logsumexp(-1).to(x_t.dtype)

    def denoising_posterior(self, x_t: Tensor, t: Tensor | float) -> GaussianMixture:
        """The full law ``p(x_0 | x_t)``, a mixture batched as ``x_t`` (*batch, *event_shape)."""
        log_densities, means, variances = self._condition(x_t, t)
        return GaussianMixture(
            log_densities, means, self.components.basis, variances, self.event_shape, x_t.dtype
        )

    def _make_calibration(self, basis: str) -> Calibration:
        return exact_calibration(self, basis)

    def _denoised_mean(self, x_t: Tensor, a: Tensor, b: Tensor) -> Tensor:
        flat = x_t.flatten(1).double()
        rows = max(1, _NUMBERS // self.components.means.numel())
        levels = (level.expand(len(flat)).split(rows) for level in (a, b))
        parts = zip(flat.split(rows), *levels, strict=True)
        x0_hat = torch.cat([self._mean_given(*part) for part in parts]) if len(flat) else flat
        return x0_hat.reshape(x_t.shape).to(x_t.dtype)

    def _mean_given(self, x_t: Tensor, a: Tensor, b: Tensor) -> Tensor:
        log_densities, means, _ = self._condition_at(x_t, a, b)
        return torch.einsum("bk,bkn->bn", log_densities.softmax(-1), means)

    def _condition(self, x_t: Tensor, t: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        batch = self._batch_of(x_t)
        a, b = (c.expand(batch) for c in self._coefficients(x_t, t))
        return self._condition_at(x_t.reshape(*batch, -1).double(), a, b)

    def _condition_at(self, x_t: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unnormalised log responsibilities (*batch, K), means and variances of ``p(x_0 | x_t, k)``."""
        c = self.components
        a, b = a[..., None, None], b[..., None, None]
        noised = a**2 * c.variances + b**2
        y = rotate(x_t[..., None, :] - a * c.means, c.basis)
        log_densities = c.log_weights - 0.5 * (y**2 / noised + noised.log() + LOG_2PI).sum(-1)
        shrunk = torch.einsum("...ki,kni->...kn", a * c.variances / noised * y, c.basis)
        return log_densities, c.means + shrunk, b**2 * c.variances / noised


class GaussianPrior(GaussianMixturePrior):
    """Gaussian prior ``N(mean, covariance)``, exact at every noise level: a mixture of one.

    Args:
        mean: (N,) or shaped as ``event_shape``.
        covariance: symmetric positive semi-definite, (N, N).
        event_shape: shape of one draw, by default that of ``mean``.
        data_range: bounds of the data, if any.
        diffusion: forward process, by default variance exploding over ``noise_range``.

    Raises:
        ValueError: as :class:`GaussianMixturePrior`.
    """

    def __init__(
        self,
        mean: Tensor | Sequence[float],
        covariance: Tensor | Sequence,
        *,
        event_shape: Sequence[int] | None = None,
        data_range: tuple[float, float] | None = None,
        diffusion: VarianceExploding | None = None,
    ) -> None:
        super().__init__(
            [1.0],
            _tensor(mean)[None],
            _tensor(covariance)[None],
            event_shape=event_shape,
            data_range=data_range,
            diffusion=diffusion,
        )

    def __repr__(self) -> str:
        return f"GaussianPrior(event_shape={tuple(self.event_shape)})"


def _tensor(value: Tensor | Sequence) -> Tensor:
    if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
        value = torch.stack([torch.as_tensor(v) for v in value])
    value = torch.as_tensor(value)
    return value if value.is_floating_point() else value.to(torch.get_default_dtype())


def _eigen(covariances: Tensor, name: str) -> tuple[Tensor, Tensor]:
    if not covariances.isfinite().all():
        raise ValueError(f"{name}: a covariance holds values that are not finite.")
    size = covariances.abs().amax((-1, -2), keepdim=True)
    if ((covariances - covariances.mT).abs() > 1e-6 * size).any():
        raise ValueError(f"{name}: a covariance is not symmetric; symmetrise it with (C + C.T) / 2.")
    variances, basis = torch.linalg.eigh((covariances + covariances.mT) / 2)
    if (variances[:, 0] < -1e-6 * variances[:, -1].abs()).any():
        raise ValueError(
            f"{name}: a covariance is not positive semi-definite (smallest eigenvalue "
            f"{float(variances.min()):g}); add a small multiple of the identity."
        )
    return basis, variances.clamp(min=0)

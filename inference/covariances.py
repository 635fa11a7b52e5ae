r"""Covariances V of a denoising posterior, as operators on images.

    scalar      V = v I
    in a basis  V = Q diag(v) Q^T + rho (I - Q Q^T)           Q orthonormal
    Tweedie     V = (b^2 / a) J,   J = d x0_hat / d x_t       one vector-Jacobian product per application

The last is the covariance of ``p(x_0 | x_t)`` itself; J is symmetric where the denoiser is exact, so that ``J w`` is
computed as ``J^T w``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from bayes_ir.models.diffusion import Scalar
from bayes_ir.models.priors.bases import Basis

__all__ = ["BasisCovariance", "ImageCovariance", "JacobianCovariance", "ScalarCovariance", "SharedCovariance"]


class ImageCovariance(ABC):
    """A symmetric positive semi-definite operator on images, possibly another one for every draw."""

    lowest: Scalar  # lower bound of the eigenvalues, a number
    highest: Scalar  # upper bound

    @abstractmethod
    def __call__(self, w: Tensor) -> Tensor:
        """``V w`` for images (B, *event_shape)."""

    @abstractmethod
    def root(self, noise: Tensor) -> Tensor:
        """``V^{1/2} noise``, a draw of ``N(0, V)`` for standard normal noise (B, *event_shape)."""


class SharedCovariance(ImageCovariance):
    """A V that is the same for all draws and whose eigenvalues are known."""

    @abstractmethod
    def mapped(self, f: Callable[[Any], Any], name: Hashable) -> SharedCovariance:
        """``f(V)``: the same eigenvectors with eigenvalues ``f(v)``.

        Args:
            f: function of the eigenvalues, applied to numbers and elementwise to float64 tensors.
            name: what tells this f from the others of a run.
        """


@dataclass(frozen=True)
class ScalarCovariance(SharedCovariance):
    """``V = v I``."""

    variance: float

    @property
    def lowest(self) -> float:  # type: ignore[override]
        return self.variance

    @property
    def highest(self) -> float:  # type: ignore[override]
        return self.variance

    def __call__(self, w: Tensor) -> Tensor:
        return self.variance * w

    def root(self, noise: Tensor) -> Tensor:
        return self.variance**0.5 * noise

    def mapped(self, f: Callable[[Any], Any], name: Hashable) -> ScalarCovariance:
        return ScalarCovariance(f(self.variance))


@dataclass(frozen=True, eq=False)
class BasisCovariance(SharedCovariance):
    """``V = Q diag(v) Q^T + rho (I - Q Q^T)``.

    Attributes:
        basis: Q.
        variances: v, (R,), float64.
        rest: rho; of no meaning when the basis is complete.
        name: what tells this V from the others of a run, for keeping its decompositions.
    """

    basis: Basis
    variances: Tensor
    rest: float
    name: Hashable

    @property
    def lowest(self) -> Tensor:  # type: ignore[override]
        low = self.variances.min()
        return low if self.basis.complete else low.clamp(max=self.rest)

    @property
    def highest(self) -> Tensor:  # type: ignore[override]
        high = self.variances.max()
        return high if self.basis.complete else high.clamp(min=self.rest)

    def __call__(self, w: Tensor) -> Tensor:
        return self._function(w, self.variances, self.rest)

    def root(self, noise: Tensor) -> Tensor:
        return self._function(noise, self.variances.sqrt(), self.rest**0.5)

    def mapped(self, f: Callable[[Any], Any], name: Hashable) -> BasisCovariance:
        rest = self.rest if self.basis.complete else f(self.rest)
        return BasisCovariance(self.basis, f(self.variances), rest, (self.name, name))

    def _function(self, w: Tensor, on_basis: Tensor, elsewhere: float) -> Tensor:
        if self.basis.complete:
            return self.basis.synthesise(on_basis.to(w.dtype) * self.basis.analyse(w))
        inside = self.basis.synthesise((on_basis - elsewhere).to(w.dtype) * self.basis.analyse(w))
        return elsewhere * w + inside


@dataclass(frozen=True, eq=False)
class JacobianCovariance(ImageCovariance):
    """``V w = (b^2 / a) J^T w`` by backpropagation through the graph from x_t to x0_hat.

    Attributes:
        x_t: states with gradient, (B, *event_shape).
        x0_hat: denoised means made from them.
        factor: ``b^2 / a``.
        highest: ``(b / a)^2``, the variance under a flat prior: a denoising posterior of a log-concave prior is never
            wider.
    """

    x_t: Tensor
    x0_hat: Tensor
    factor: float
    highest: float
    lowest: ClassVar[float] = 0.0  # type: ignore[misc]

    def __call__(self, w: Tensor) -> Tensor:
        (pulled,) = torch.autograd.grad(self.x0_hat, self.x_t, w.to(self.x0_hat.dtype), retain_graph=True)
        return self.factor * pulled.to(w.dtype)

    def root(self, noise: Tensor) -> Tensor:
        """By Lanczos' method, to the accuracy of :func:`lanczos_root`."""
        return lanczos_root(self, noise)


def lanczos_root(apply: ImageCovariance, noise: Tensor, iterations: int = 12) -> Tensor:
    """``V^{1/2} u`` from the Krylov space of u: ``|u| W T^{1/2} e_1`` with ``V W = W T``, for every draw by itself.

    Exact after as many iterations as V has distinct eigenvalues on u.

    Source: Druskin and Knizhnerman 1991; for draws Chow and Saad 2014.
    """
    batch, n = len(noise), noise[0].numel()
    size = noise.double().flatten(1).norm(dim=1)
    w = [(noise.double().flatten(1) / size[:, None])]
    alphas, betas = [], []
    for _ in range(min(iterations, n)):
        image = apply(w[-1].to(noise.dtype).reshape(noise.shape)).double().reshape(batch, n)
        alphas.append((image * w[-1]).sum(1))
        for known in w:  # full orthogonalisation: the space is small
            image = image - (image * known).sum(1, keepdim=True) * known
        betas.append(image.norm(dim=1))
        # A space that is exhausted goes no further: its next vector is zero.
        alive = betas[-1] > 1e-10 * alphas[0].abs().clamp(min=1e-300)
        betas[-1] = torch.where(alive, betas[-1], 0.0)
        w.append(torch.where(alive[:, None], image / betas[-1][:, None], 0.0))
    k = len(alphas)
    t = torch.diag_embed(torch.stack(alphas, 1))
    off = torch.stack(betas[: k - 1], 1) if k > 1 else t.new_zeros(batch, 0)
    t = t + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    values, vectors = torch.linalg.eigh(t)
    first = (vectors * values.clamp(min=0).sqrt()[:, None, :]) @ vectors[:, 0, :, None]
    found = torch.einsum("bk,kbn->bn", first[..., 0], torch.stack(w[:k])) * size[:, None]
    return found.reshape(noise.shape).to(noise.dtype)

r"""Operators that are not linear, linearised draw by draw at the denoised mean.

    A(x) ~ A(mu) + F (x - mu),    F = dA/dx at mu,

so that a Gaussian belief about the image stays Gaussian in the measurements.  F^T is backpropagation and F the
backpropagation of that; nothing is formed as a matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayes_ir.inference.problem import Problem
from bayes_ir.inference.system import System, noise_of
from bayes_ir.models.operators import LinearOperator, Operator

__all__ = ["Linearised", "linearised_system"]


class Linearised(LinearOperator):
    """``D^-1 F`` at the images mu (B, *event_shape), one derivative per draw; it serves batches of B.

    Args:
        operator: ``A``.
        at: mu.
        noise: the diagonal of D, shaped as a measurement.
    """

    def __init__(self, operator: Operator, at: Tensor, noise: Tensor) -> None:
        super().__init__(operator.event_shape, operator.measurement_shape, torch.float64, at.device)
        self.noise = noise
        with torch.enable_grad():
            self._at = at.detach().to(operator.dtype).requires_grad_()
            self._z = operator.forward(self._at)
            self._weight = torch.zeros_like(self._z, requires_grad=True)
            (self._pulled,) = torch.autograd.grad(self._z, self._at, self._weight, create_graph=True)

    @property
    def has_svd(self) -> bool:
        """No: there is one matrix per draw."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """``D^-1 F x``, the derivative of ``w -> F^T w`` turned round."""
        (z,) = torch.autograd.grad(self._pulled, self._weight, x.to(self._at.dtype), retain_graph=True)
        return z.double() / self.noise

    def adjoint(self, z: Tensor) -> Tensor:
        """``F^T D^-1 z``."""
        weight = (z / self.noise).to(self._at.dtype)
        (x,) = torch.autograd.grad(self._z, self._at, weight, retain_graph=True)
        return x.double()


def linearised_system(problem: Problem, mu: Tensor) -> System:
    """The measurement system linearised at mu (B, *event_shape)."""
    shape = problem.operator.measurement_shape
    noise = noise_of(problem.channel, problem.y).reshape(-1, *shape)[0]
    whitened = Linearised(problem.operator, mu, noise)
    return System(problem.operator, whitened, problem.channel, problem.y, noise.reshape(-1))

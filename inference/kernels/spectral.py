"""What kernels have in common that move every singular direction of ``D^-1 A = U S V^T`` by a rule of its own.

A measured direction k is ``v_k = (V^T x_0)_k``, and its datum ``d_k = (U^T D^-1 y)_k / s_k`` is v_k with noise of
standard deviation ``1 / s_k`` (see :mod:`bayes_ir.inference.kernels._replacement`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bayes_ir.inference.kernels._replacement import KnownPart
from bayes_ir.inference.kernels.path import PathKernel
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.samplers import Visit
from bayes_ir.models.channels import Gaussian

__all__ = ["SpectralKernel", "coordinates", "final_draw", "with_measured"]


class SpectralKernel(PathKernel):
    """Kernel that moves every singular direction of ``D^-1 A`` by a rule of its own."""

    def check(self, problem: Problem) -> None:
        name, where = type(self).__name__, f"site {problem.observed_site!r}"
        if not isinstance(problem.channel, Gaussian):
            raise ModelError(
                f"{name} needs a Gaussian channel; {where} has {type(problem.channel).__name__}. "
                "Use QCSSGMPlus(), which serves every channel of a linear operator."
            )
        if not problem.operator.linear:
            raise ModelError(
                f"{name} needs a linear operator; {where} has {problem.operator!r}, which is not linear. "
                "Use DPS(), which serves every differentiable operator."
            )
        if not problem.system.spectral:
            raise ModelError(
                f"{name} needs the singular value decomposition of A divided by its noise; {where} has "
                f"{problem.operator!r}, which has none at this size. Use DMPS(), which goes by conjugate gradients."
            )


def coordinates(known: KnownPart, x: Tensor) -> Tensor:
    """``V^T x``: images (*batch, *event_shape) to (*batch, r), float64."""
    return known.svd.right_adjoint(x.double())


def with_measured(known: KnownPart, x: Tensor, v: Tensor) -> Tensor:
    """The images x with ``V^T x = v``, for v (B, r), and unchanged where A does not see."""
    return x + known.svd.right(v - coordinates(known, x)).to(x.dtype)


def final_draw(known: KnownPart, visit: Visit, noise: Tensor) -> Tensor:
    r"""The clean image after the lowest level: a draw in the measured directions, ``x0_hat`` elsewhere.

    There ``v = V^T x_t / a`` is ``v_0`` with the noise of d and more where ``sigma >= 1 / s``, so that v says nothing
    that d does not, and Tweedie's formula at d gives the mean; where ``sigma < 1 / s`` it is the other way round,

        sigma >= 1 / s    v_0 ~ N(d + (v_hat - v) / (s sigma)^2, 1 / s^2)
        sigma < 1 / s     v_0 ~ N(v_hat, sigma^2).

    The score ``(v_hat - v) / sigma^2`` is that of v, not of d, and the variances are those of a flat prior.  For a
    Gaussian prior of standard deviation p in that direction both errors are of the order ``sigma^2 / p^2``; exact data
    give ``v_0 = d``.

    Args:
        known: the data, direction by direction.
        visit: the visit of the lowest level.
        noise: standard normal, shaped as the images.
    """
    sigma = visit.level.ratio
    v, v_hat = coordinates(known, visit.x) / visit.level.a, coordinates(known, visit.x0_hat)
    better = known.noise <= sigma  # the data than the level
    mean = torch.where(better, known.data + (known.noise / sigma) ** 2 * (v_hat - v), v_hat)
    sd = torch.where(better, known.noise, sigma)
    return with_measured(known, visit.x0_hat, mean + sd * coordinates(known, noise))

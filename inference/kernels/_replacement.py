r"""Replaced data: what y says of ``x_t`` put in its place, at the noise level of ``x_t``.

With D the standard deviations of the noise and ``D^-1 A = U S V^T``, the data are one reading of every direction
that A sees,

    d_i = (U^T D^-1 y)_i / s_i = (V^T x_0)_i + n_i,    n_i ~ N(0, 1 / s_i^2),

for orthonormal rows the measurements themselves, for other operators the coordinates of ``A^+ y`` (``V V^T = A^+ A``).
In each of these directions the datum has the law of a state of the forward process, the one with ratio ``1 / s_i`` of
noise to signal, and is taken for it.  After a move from level (a, b), ratio r, to (a', b'), ratio r', in this direction
the state is

    r' >= 1 / s_i            v' = d_i + (r'^2 - 1 / s_i^2)^{1/2} z                      replaced
    r <= r' < 1 / s_i        v' = v + w (d_i - v) + ((r'^2 - r^2) (1 - w))^{1/2} z      held to the datum
    r' < r, r' < 1 / s_i     v' as the move left it                                     the prior's

with ``v = (V^T x)_i / a`` before, ``v' = (V^T x')_i / a'`` after, z standard normal and
``w = (r'^2 - r^2) / (1 / s_i^2 - r^2)``.  The first is the published replacement, less the noise that y brings along:
given ``x_0`` the replaced part of ``x'`` is that of ``a' x_0 + b' eps``; given exact data it has mean ``a' d`` and
variance ``b'^2``.  Going down from its datum a direction is denoised by the prior alone: the reverse process depends on
the states above, ``d_i`` among them, through the present one only.  A move up has to end between the present state and
``d_i``, on a bridge; within a level (w = 0) the direction stays.

The last move, to the clean image, sets the directions that the data know better than the lowest noise level, and only
those, to ``d_i + z / s_i``, their law given y alone.

What all replacement leaves out: ``v'`` is drawn without looking at the other directions of ``x'``.  And what all paths
that end in a denoised mean leave out, the spread of ``x_0`` at the lowest levels, shows in directions that the data
know about as well as these levels do: they come out too narrow unless the levels lie close together there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Level
from bayes_ir.models.channels import Gaussian
from bayes_ir.models.operators.svd import SVD

__all__ = ["KnownPart", "check_replaceable", "known_part"]


class KnownPart(NamedTuple):
    """The data in the coordinates ``V^T x_0`` of the directions that A sees, float64."""

    svd: SVD  # of D^-1 A
    data: Tensor  # d, (r,) or one row per draw, (B, r)
    noise: Tensor  # 1 / s, (r,)

    def replace(
        self, moved: Tensor, before: Tensor, now: Level, then: Level, rng: Rng, diffuse: bool = True
    ) -> Tensor:
        """The images that a move has made, with the data in place of what they know.

        Args:
            moved: images at the level ``then``, (B, *event_shape).
            before: the images that were moved, at the level ``now``.
            now: the level of the move's start.
            then: the level of its end.
            rng: random numbers of the block.
            diffuse: without it the data are put at noisy levels as they are, ``v' = d_i``.
        """
        z = rng.normal(len(self.noise)).double()
        if then.b == 0:
            known, v = self.noise <= now.ratio, self.data + self.noise * z
        else:
            known = self.noise <= then.ratio
            excess = (then.ratio**2 - self.noise**2).clamp(min=0)
            v = self.data + excess.sqrt() * z if diffuse else self.data
            if then.ratio >= now.ratio:  # nothing is left to the prior
                v = torch.where(known, v, self._bridge(before, now, then, z))
                known = torch.ones_like(known)
        change = torch.where(known, then.a * v - self.svd.right_adjoint(moved.double()), 0.0)
        return moved + self.svd.right(change).to(moved.dtype)

    def _bridge(self, before: Tensor, now: Level, then: Level, z: Tensor) -> Tensor:
        """``v'`` given the state before and the datum, at a level between the two."""
        v = self.svd.right_adjoint(before.double()) / now.a
        step = then.ratio**2 - now.ratio**2
        w = step / (self.noise**2 - now.ratio**2)
        return v + w * (self.data - v) + (step * (1 - w)).clamp(min=0).sqrt() * z

    def unseen(self, x: Tensor) -> Tensor:
        """``(I - A^+ A) x``, the part of images (B, *event_shape) that A does not see."""
        return x - self.svd.right(self.svd.right_adjoint(x.double())).to(x.dtype)


@lru_cache(maxsize=1)
def known_part(problem: Problem) -> KnownPart:
    """What the measurements say, direction by direction, of a problem that ``check_replaceable`` lets pass; once."""
    system = problem.system
    seen = system.svd.left_adjoint((system.y / system.noise).reshape(problem.y.shape))
    return KnownPart(system.svd, system.direction_noise * seen, system.direction_noise)


def check_replaceable(problem: Problem, name: str) -> None:
    """Refuse a problem whose data cannot be put in place of a part of ``x_t``.

    Args:
        problem: what is measured.
        name: the kernel that asks.

    Raises:
        ModelError: for a channel other than Gaussian, an operator that is not linear, or one without a decomposition.
    """
    where = f"site {problem.observed_site!r}"
    if not isinstance(problem.channel, Gaussian):
        raise ModelError(
            f"{name} needs a Gaussian channel; {where} has {type(problem.channel).__name__}. "
            "Use QCSSGMPlus(), which serves every channel of a linear operator."
        )
    if not problem.operator.linear:
        raise ModelError(
            f"{name} puts the data in place of A^+ A x_t and needs a linear operator; {where} has "
            f"{problem.operator!r}, which is not linear. Use DPS(), which serves every differentiable operator."
        )
    if not problem.system.spectral:
        raise ModelError(
            f"{name} needs the singular value decomposition of A divided by its noise, to know how noisy the data are "
            f"in every direction; {where} has {problem.operator!r}, which has none at this size. "
            "Use DMPS(), which goes by conjugate gradients."
        )

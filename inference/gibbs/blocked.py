r"""Blocked Gibbs sampling of an image and its nuisance parameters.

    theta ~ p(theta | x, y)     by NUTS, enumeration or its conjugate law (:mod:`bayes_ir.inference.gibbs.nuisance`)
    x     ~ p(x | theta, y)     by any kernel of the library

From scratch, the image step forgets the image before: the joint posterior is invariant as far as the kernel's draws are
exact, and the chain mixes as the two-block Gibbs sampler does.  With ``renoise = r`` it starts from the present image,

    x_t = a x + b eps,  b / a = r,   and back along the kernel's path from there to a new x,

which costs only the levels below r.  Where the path draws from ``p(x | x_t, theta, y)`` this leaves the joint
posterior invariant too, for any r, being a Gibbs step on the pair (x, x_t); what the path is off by matters less the
smaller r is, and the chain mixes the slower for it.

Chains are real ones: they start from draws of the prior of theta, their warm-up is left out, and R-hat and effective
sample sizes mean what they say.

Source: Geman and Geman 1984; for the renoised step Wu et al. 2024 (arXiv 2405.18782) and Coeurdoux et al. 2024
(arXiv 2304.11134).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.gibbs.joint import JointModel, Theta
from bayes_ir.inference.gibbs.nuisance import updates_of
from bayes_ir.inference.kernels.base import Kernel
from bayes_ir.inference.kernels.path import PathKernel, PathState
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import Block, draw_block

__all__ = ["BlockedGibbs", "GibbsSweeps", "Sweep", "gibbs_chain"]


@dataclass(frozen=True, kw_only=True)
class BlockedGibbs:
    """How a model with nuisance parameters is sampled.

    Attributes:
        image: kernel of the image given the rest; ``None`` for the best-measured one that serves the model.
        warmup: sweeps at the start of a chain that are left out, over which NUTS adapts.
        thinning: sweeps per draw.
        transitions: states of NUTS per sweep.
        renoise: noise ratio ``b / a``, in units of the image, from which the image step starts again from the present
            image; ``None`` from scratch.  Needs a kernel that walks a path of noise levels.
        max_tree_depth: doublings of a NUTS trajectory at most.
        conjugate: draw a parameter whose conditional is of its prior's family (a noise variance with an inverse gamma
            prior, say) from that, instead of by NUTS.

    Raises:
        TypeError: for ``renoise`` with a kernel that has no path.
        ValueError: for numbers out of range.
    """

    image: Kernel | None = None
    warmup: int = 200
    thinning: int = 1
    transitions: int = 1
    renoise: float | None = None
    max_tree_depth: int = 8
    conjugate: bool = True

    def __post_init__(self) -> None:
        if self.warmup < 0 or min(self.thinning, self.transitions, self.max_tree_depth) < 1:
            raise ValueError(
                "BlockedGibbs: expected warmup >= 0, thinning >= 1, transitions >= 1 and max_tree_depth >= 1, got "
                f"{self.warmup}, {self.thinning}, {self.transitions} and {self.max_tree_depth}."
            )
        if self.renoise is not None and not self.renoise > 0:
            raise ValueError(f"BlockedGibbs: expected a positive noise ratio, got renoise={self.renoise}.")
        if self.renoise is not None and self.image is not None and not isinstance(self.image, PathKernel):
            raise TypeError(
                f"BlockedGibbs: renoise starts a path from the present image, and {self.image!r} walks no path; use "
                "GuidedDiffusion(), or leave renoise out."
            )

    def sweeps(self, draws: int) -> int:
        """Sweeps of a chain."""
        return self.warmup + draws * self.thinning


class Sweep(NamedTuple):
    """What one sweep made."""

    block: Block  # one draw of the image, under the theta beside it
    theta: Theta
    report: dict[str, float]


class GibbsSweeps:
    """A chain in motion: theta given the image, then the image given theta, again and again.

    Nuisance parameters draw from Pyro's generator, images from one named by (seed, chain, sweep).

    Args:
        joint: the model, which may have no nuisance parameters: its images are then independent.
        settings: with an image kernel.
        prepare: brings a problem to the device and type of the run.
        chain: number of the chain.
        seed: seed of the run.
        theta: where to start, by default at a draw of the prior.
    """

    def __init__(
        self,
        joint: JointModel,
        settings: BlockedGibbs,
        prepare: Callable[[Problem], Problem],
        chain: int,
        seed: int,
        theta: Theta | None = None,
    ) -> None:
        assert settings.image is not None
        self._joint, self._prepare = joint, prepare
        self._image = _ImageStep(settings.image, settings.renoise, chain, seed)
        self._count = 0
        self.theta = joint.start() if theta is None else theta
        self._problem = joint.problem(self.theta)
        self._image(self._problem, prepare, 0)
        self._updates = updates_of(
            joint,
            self.image,
            self.theta,
            settings.warmup,
            settings.transitions,
            settings.max_tree_depth,
            settings.conjugate,
        )

    @property
    def image(self) -> Tensor:
        """The last image that is finite, (*event_shape), with the plate's dimension in front."""
        return self._image.present

    def __call__(self) -> Sweep:
        self._count += 1
        report: dict[str, float] = {}
        for update in self._updates:
            self.theta, told = update(self.image, self.theta)
            report |= told
        if self._updates:
            self._problem = self._joint.problem(self.theta)
        block = self._image(self._problem, self._prepare, self._count)
        return Sweep(block, self.theta, report)


def gibbs_chain(
    joint: JointModel,
    settings: BlockedGibbs,
    prepare: Callable[[Problem], Problem],
    chain: int,
    draws: int,
    *,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
) -> Block:
    """One chain: a function of the model, the settings and (seed, chain).

    Args:
        joint: the model.
        settings: with an image kernel.
        prepare: brings a problem to the device and type of the run.
        chain: number of the chain.
        draws: draws that are kept.
        seed: seed of the run.
        on_step: called after every sweep.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Rng(seed, chain, draws=1).seed())
        sweeps = GibbsSweeps(joint, settings, prepare, chain, seed)
        kept = []
        for number in range(1, settings.sweeps(draws) + 1):
            made = sweeps()
            after = number - settings.warmup
            if after > 0 and after % settings.thinning == 0:
                derived = joint.derived(sweeps.image, made.theta)
                kept.append(made._replace(theta=made.theta | derived))
            on_step()
    return _assembled(chain, kept)


class _ImageStep:
    """Draws the image given theta, and remembers it."""

    def __init__(self, kernel: Kernel, renoise: float | None, chain: int, seed: int) -> None:
        self._kernel, self._renoise, self._chain, self._seed = kernel, renoise, chain, seed
        self.present: Tensor

    def __call__(self, as_read: Problem, prepare: Callable[[Problem], Problem], sweep: int) -> Block:
        problem = prepare(as_read)
        start = None if self._renoise is None or sweep == 0 else self._from_present
        block = draw_block(problem, self._kernel, self._chain, sweep, 0, 1, seed=self._seed, init=start)
        if not bool(block.stats["diverging"].any()):  # theta goes on from the last image that is one
            self.present = block.draws[0].to(as_read.device, as_read.dtype)
        return block

    def _from_present(self, problem: Problem, rng: Rng) -> PathState:
        assert isinstance(self._kernel, PathKernel) and self._renoise is not None
        rows = self.present.reshape(-1, *problem.prior.event_shape)
        if len(rows) != rng.draws:
            raise ModelError(
                "BlockedGibbs: renoise takes images of a plate together, and the noise of this plate differs between "
                "its images, so that they are drawn one by one; leave renoise out."
            )
        return self._kernel.renoised(problem, rows.to(problem.device, problem.dtype), self._renoise, rng)


def _assembled(chain: int, kept: list[Sweep]) -> Block:
    blocks = [made.block for made in kept]
    first = blocks[0]

    def joined(part: Callable[[Block], Any]) -> Any:
        if isinstance(part(first), dict):
            return {name: torch.cat([part(b)[name] for b in blocks]) for name in part(first)}
        return torch.cat([part(b) for b in blocks])

    shape = first.stats["nfe"].shape[1:]
    stats = joined(lambda b: b.stats)
    for name in kept[0].report:
        values = torch.tensor([made.report[name] for made in kept])
        stats[name] = values.reshape(-1, *(1,) * len(shape)).expand(-1, *shape).clone()
    others = {name: torch.stack([made.theta[name].cpu() for made in kept]) for name in kept[0].theta}
    return replace(
        Block(chain, 0, 0, joined(lambda b: b.draws), joined(lambda b: b.log_likelihood), stats),
        others=others,
    )

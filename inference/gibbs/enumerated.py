r"""A discrete site summed out: the image under each of its values, every value weighed by its evidence.

    p(v | y) = p(v) p(y | v) / sum_v' p(v') p(y | v'),        x | v, y  by a kernel that knows log p(y | v)

Where the image all but tells the site (a digit its label, a scene its class), Gibbs sampling would never leave the
value it starts from; here all values are tried, at the price of one run of the kernel each.  Draws are independent
where the kernel's are, and exact where its draws and its evidence are: ``Exact()``; in the limit of many particles
``TwistedSMC()``, whose estimates of p(y | v) are unbiased.

Source: sequential Monte Carlo evidence, Del Moral 2004; unbiased estimates in the place of likelihoods, Andrieu and
Roberts 2009.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from bayes_ir.inference.exact import Exact, log_evidence
from bayes_ir.inference.gibbs.joint import JointModel
from bayes_ir.inference.kernels.base import Kernel
from bayes_ir.inference.kernels.twisted_smc import TwistedSMC
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import Block, draw_block

__all__ = ["Enumerated", "EnumeratedModel", "enumerated_block"]

_CHOICE = 0x1ABE1  # keeps these random numbers apart from those of the images


@dataclass(frozen=True, kw_only=True)
class Enumerated:
    """How a model with one discrete site beside the image is sampled by evidence.

    Attributes:
        image: kernel of the image given the site, ``TwistedSMC`` or ``Exact``.

    Raises:
        TypeError: for a kernel that knows no evidence.
    """

    image: Kernel = field(default_factory=TwistedSMC)

    def __post_init__(self) -> None:
        if not isinstance(self.image, (Exact, TwistedSMC)):
            raise TypeError(
                f"Enumerated: the values of the site are weighed by their evidence, which {self.image!r} does not "
                "know; use Exact() or TwistedSMC()."
            )


@dataclass(frozen=True, eq=False)
class EnumeratedModel:
    """A model of an image and one discrete site, read once for every value of the site.

    Attributes:
        name: of the site.
        values: those it may take, (K,).
        log_prior: their log prior probabilities, (K,), float64.
        problems: the problem of the image under each.
    """

    name: str
    values: Tensor
    log_prior: Tensor
    problems: tuple[Problem, ...]

    @classmethod
    def of(cls, joint: JointModel, prepare: Callable[[Problem], Problem]) -> EnumeratedModel:
        """Read a model; ``prepare`` brings a problem to the device and type of the run.

        Raises:
            ModelError: unless the model has exactly one latent site beside one image, a number with few values.
        """
        sites = {name: fn for name, fn in joint.latents.items() if fn.has_enumerate_support}
        if len(joint.latents) != 1 or not sites or next(iter(sites.values())).batch_shape:
            found = {name: type(fn).__name__ for name, fn in joint.latents.items()}
            raise ModelError(
                f"Enumerated takes a model with one latent site of few values beside the image, and this one has "
                f"{found}; use BlockedGibbs(), which takes any."
            )
        name, fn = next(iter(sites.items()))
        values = fn.enumerate_support(expand=False).flatten()
        problems = tuple(prepare(joint.problem({name: value})) for value in values)
        if problems[0].data_sets:
            raise ModelError(
                f"Enumerated takes one image, and the image {joint.site!r} sits in the plate {problems[0].plate!r}; "
                "sample the images one by one, or use BlockedGibbs()."
            )
        return cls(name, values, fn.log_prob(values).double(), problems)


def enumerated_block(
    model: EnumeratedModel,
    kernel: Enumerated,
    chain: int,
    index: int,
    start: int,
    count: int,
    *,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
) -> Block:
    """One block of draws of image and site; a function of (seed, chain, index) and the count.

    ``others`` holds the site and, as ``<site>_probability``, the p(v | y) that this block has found; ``log_evidence``
    in the statistics is ``log p(y)``.
    """
    blocks = [
        draw_block(problem, kernel.image, chain, index, start, count, seed=seed, on_step=on_step)
        for problem in model.problems
    ]
    evidence = [_evidence(p, kernel.image, block) for p, block in zip(model.problems, blocks, strict=True)]
    log_joint = model.log_prior + torch.tensor(evidence, dtype=torch.float64)
    probability = log_joint.softmax(0)
    u = Rng(seed, chain, index, _CHOICE, draws=count, dtype=torch.float64).uniform()
    chosen = torch.searchsorted(probability.cumsum(0), u).clamp(max=len(probability) - 1)

    def picked(parts: list[Tensor]) -> Tensor:
        return torch.stack(parts)[chosen, torch.arange(count)]

    stats = {key: picked([b.stats[key] for b in blocks]) for key in blocks[0].stats}
    stats["nfe"] = torch.stack([b.stats["nfe"] for b in blocks]).sum(0)
    stats["log_evidence"] = log_joint.logsumexp(0).expand(count).clone()
    seen = {site: picked([b.log_likelihood[site] for b in blocks]) for site in blocks[0].log_likelihood}
    others = {model.name: model.values[chosen], f"{model.name}_probability": probability.repeat(count, 1)}
    draws = picked([b.draws for b in blocks])
    return replace(blocks[0], draws=draws, log_likelihood=seen, stats=stats, others=others)


def _evidence(problem: Problem, kernel: Kernel, block: Block) -> float:
    """``log p(y | v)``: exact, or averaged over the particle clouds of a block."""
    if isinstance(kernel, Exact):
        return _exact_evidence(problem)
    clouds = {
        int(c): float(e) for c, e in zip(block.stats["cloud"], block.stats["log_evidence"], strict=True)
    }
    found = torch.tensor(list(clouds.values()), dtype=torch.float64)
    return float(found.logsumexp(0)) - float(torch.tensor(len(found)).double().log())


@lru_cache(maxsize=32)
def _exact_evidence(problem: Problem) -> float:
    """``log p(y | v)``, which is the same for every block."""
    return log_evidence(problem).value

"""The samplers of this library as a kernel of Pyro's own ``MCMC``.

    mcmc = MCMC(DiffusionKernel(model, data={"y": y}), num_samples=500, warmup_steps=200, num_chains=4)
    mcmc.run()
    mcmc.summary()

A transition is one sweep of :class:`~bayes_ir.inference.BlockedGibbs`: nuisance parameters given the image, the image
given them.  Without nuisance parameters every transition is an independent draw of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pyro
import torch
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor

from bayes_ir.arguments import image_dtype, usable_device
from bayes_ir.inference import BlockedGibbs, GibbsSweeps, Kernel, Problem, read_joint
from bayes_ir.kernel_choice import chosen_kernel

__all__ = ["DiffusionKernel"]


class DiffusionKernel(MCMCKernel):
    """A kernel for ``pyro.infer.MCMC`` that draws the image of a model by diffusion, and the other sites by Gibbs.

    Random numbers follow ``pyro.set_rng_seed``.  ``warmup_steps`` of MCMC are the sweeps over which NUTS adapts.

    Args:
        model: Pyro model with an image site, conditioned or not; it takes the arguments of ``MCMC.run``.
        kernel: kernel of the image, or :class:`~bayes_ir.inference.BlockedGibbs` (whose ``warmup`` is MCMC's, and
            whose ``thinning`` is not used); by default :func:`~bayes_ir.kernel_choice.default_kernel`.
        data: values of the observed sites, as for ``pyro.condition``.
        device: torch device, by default that of the prior.
        dtype: floating point type of the images, by default that of the prior.

    Attributes:
        initial_params: values of all sites at the start of a chain; values given to ``MCMC(initial_params=...)`` are
            those of the nuisance sites themselves, not of an unconstrained space.

    Raises:
        ModelError: in ``run``, when the model cannot be read, or not served by the kernel.
    """

    def __init__(
        self,
        model: Callable,
        kernel: Kernel | BlockedGibbs | None = None,
        *,
        data: Mapping[str, Any] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model = pyro.condition(model, data=dict(data)) if data else model
        self.transforms: dict[str, Any] = {}
        self._kernel = kernel
        self._prepare = partial(Problem.to, device=usable_device(device), dtype=image_dtype(dtype))
        self._start: dict[str, Tensor] = {}
        self._reset()

    def _reset(self) -> None:
        self._sweeps: GibbsSweeps | None = None
        self._site, self._calls, self._count, self._warmup = "", 0, 0, 0
        self._report: dict[str, float] = {}
        self._divergences: list[int] = []
        self._diverging: list[int] = []

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        """Read the model with the arguments of ``MCMC.run`` and start a chain."""
        self._reset()
        self._warmup = warmup_steps
        with pyro.validation_enabled(True):  # MCMC switches it off, and y is to be checked at the door
            joint = read_joint(self.model, None, args, kwargs)
            theta = joint.start() | {k: v for k, v in self._start.items() if k in joint.latents}
            problem = self._prepare(joint.problem(theta))
            one = problem.data_set(0) if problem.data_sets else problem
            gibbs = self._kernel if isinstance(self._kernel, BlockedGibbs) else BlockedGibbs()
            asked = gibbs.image if isinstance(self._kernel, BlockedGibbs) else self._kernel
            image = chosen_kernel(asked, one, progress=False)
            image.check(one)
        gibbs = replace(gibbs, image=image, warmup=warmup_steps)
        seed = int(torch.randint(2**62, ()))
        self._site = problem.site
        self._sweeps = GibbsSweeps(joint, gibbs, self._prepare, 0, seed, theta)

    @property
    def initial_params(self) -> dict[str, Tensor]:
        """Values of the sites where the chain stands."""
        if self._sweeps is None:
            return self._start
        return self._sweeps.theta | {self._site: self._sweeps.image}

    @initial_params.setter
    def initial_params(self, params: Mapping[str, Tensor]) -> None:
        self._start = dict(params)

    def sample(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One sweep; the values of all latent sites."""
        assert self._sweeps is not None
        made = self._sweeps()
        self._count += 1
        self._calls += int(made.block.stats["nfe"].sum())
        self._report = made.report
        number = self._count - self._warmup - 1
        if number >= 0:
            self._divergences += [number] * bool(made.report.get("nuts_diverging"))
            self._diverging += [number] * bool(made.block.stats["diverging"].any())
        return made.theta | {self._site: made.block.draws[0]}

    def logging(self) -> dict[str, str]:
        """Step size of NUTS and network evaluations, for the progress bar."""
        told = {"network calls": f"{self._calls:,}"}
        if "nuts_step_size" in self._report:
            told = {"step size": f"{self._report['nuts_step_size']:.2e}"} | told
        return told

    def diagnostics(self) -> dict[str, Any]:
        """Draws at which NUTS diverged or the image was not finite, and network evaluations of the chain."""
        return {
            "divergences": self._divergences,
            "diverging images": self._diverging,
            "network evaluations": self._calls,
        }

    def cleanup(self) -> None:
        """Let the chain go, so that a finished run can be pickled."""
        self._sweeps = None

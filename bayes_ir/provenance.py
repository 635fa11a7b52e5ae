"""Where draws come from: settings, fingerprint of the problem, versions."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from typing import Any

import torch

from bayes_ir.inference import Kernel, Problem
from bayes_ir.models import NetworkPrior

__all__ = ["problem_settings", "settings_of", "versions"]


def settings_of(problem: Problem, kernel: Kernel) -> dict[str, Any]:
    """What the draws depend on besides seed and blocks, for attributes and for a store to know its own run."""
    of_kernel = {"kernel": repr(kernel), "citation": kernel.citation, "nfe": kernel.length(problem)}
    return problem_settings(problem) | of_kernel


def problem_settings(problem: Problem) -> dict[str, Any]:
    """What a problem is: its parts in words, and a fingerprint of what they do."""
    prior = problem.prior
    return {
        "image_site": problem.site,
        "prior": repr(prior),
        "operator": repr(problem.operator),
        "channel": type(problem.channel).__name__,
        "fingerprint": _fingerprint(problem),
        "data_range": list(prior.data_range) if prior.data_range else [],
        "dtype": str(problem.dtype).removeprefix("torch."),
    }


def versions() -> dict[str, str]:
    """Versions of the packages that drew."""
    packages = ("bayes-ir", "torch", "pyro-ppl", "arviz-base", "xarray")
    return {f"{name}_version": version(name) for name in packages} | {
        "python_version": platform.python_version()
    }


@torch.no_grad()
def _fingerprint(problem: Problem) -> str:
    """What prior, operator, channel and y make of a fixed image, so that a store knows its own problem."""
    ramp = torch.linspace(
        -1, 1, problem.prior.event_shape.numel(), dtype=problem.dtype, device=problem.device
    )
    ramp = ramp.reshape(problem.prior.event_shape)
    diffusion = problem.prior.diffusion
    priors = dict.fromkeys(problem.prior.data_set(i) for i in range(problem.data_sets.numel()))
    half = 0.5 * (diffusion.t_min + diffusion.t_max)
    denoised = torch.cat([prior.denoise(ramp[None], half) for prior in priors])
    digest = hashlib.sha256()
    # A mixture's calibration follows from its denoiser; a network's was fitted.
    fitted = problem.prior.calibrations if isinstance(problem.prior, NetworkPrior) else {}
    variances = [fitted[basis].variances for basis in sorted(fitted)]
    of_ramp = problem.operator(ramp)
    seen = problem.channel.with_location(of_ramp.expand_as(problem.y)).log_prob(problem.y)
    for tensor in (denoised, of_ramp, seen, problem.y, *variances):
        digest.update(tensor.double().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]

"""The diffusion samplers of deepinv (BSD 3-Clause, github.com/deepinv/deepinv) on our problem, for kernel_cost.py.

They run as they come, with a denoiser of ours behind deepinv's interface ``denoiser(x, sigma)`` and the settings that
they have by default; DPS and the kernels built on ``PosteriorDiffusion`` work in double precision between single
precision calls of the denoiser.

deepinv imports torchvision when it is imported, for figures, data sets and rotations that no sampler asks for.
Where torchvision is missing or does not fit the installed torch, its names are stood in for by empty classes, so that
the samplers can be measured without it; what would use them fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["peers"]

PARTS = (
    "",
    ".transforms",
    ".transforms.functional",
    ".utils",
    ".datasets",
    ".datasets.folder",
    ".datasets.utils",
)


class _StandIn(ModuleType):
    """A module of which every name is an empty class."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _stand_in_for_torchvision() -> None:
    for part in PARTS:
        name = f"torchvision{part}"
        sys.modules[name] = _StandIn(name)
        sys.modules[name].__spec__ = ModuleSpec(name, None)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])


try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    _stand_in_for_torchvision()

from deepinv.models import Denoiser  # noqa: E402
from deepinv.optim.data_fidelity import L2  # noqa: E402
from deepinv.physics import GaussianNoise, Inpainting  # noqa: E402
from deepinv.sampling import (  # noqa: E402
    DDRM,
    DPS,
    AncestralSolver,
    DiffPIR,
    ILVRDataFidelity,
    MomentMatchingDataFidelity,
    PiGDMDataFidelity,
    PosteriorDiffusion,
    VariancePreservingDiffusion,
)


class _Ours(Denoiser):
    """A network ``x0_hat(x_t, a, b)`` as a denoiser of deepinv."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, sigma: Tensor | float, **kwargs: Any) -> Tensor:
        b = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1).expand(len(x))
        return self.network(x, torch.ones_like(b), b)


def _guided(fidelity: Any, denoiser: Denoiser, steps: int) -> PosteriorDiffusion:
    times = torch.linspace(1, 0.001, steps, dtype=torch.float64)
    return PosteriorDiffusion(
        data_fidelity=fidelity,
        denoiser=denoiser,
        sde=VariancePreservingDiffusion(),
        solver=AncestralSolver(timesteps=times),
    )


def peers(
    network: nn.Module, mask: Tensor, noise: float, y: Tensor, steps: int
) -> dict[str, Callable[[int], int]]:
    """Samplers by name, each a function of the number of draws that says its number of steps.

    Args:
        network: denoiser called as ``network(x_t, a, b)``.
        mask: observed pixels, bool, shaped as one image.
        noise: standard deviation of the noise.
        y: measurements of the observed pixels, (M,).
        steps: network evaluations.
    """
    denoiser = _Ours(network)
    physics = Inpainting(mask.shape, mask=mask.float(), noise_model=GaussianNoise(noise))
    image = torch.zeros(mask.shape).masked_scatter(mask, y)
    kernels = {
        "deepinv DPS": DPS(denoiser, num_steps=steps),
        "deepinv DiffPIR": DiffPIR(denoiser, L2(), sigma=noise, max_iter=steps),
        "deepinv DDRM": DDRM(denoiser, sigmas=np.linspace(1, 0, steps)),
        "deepinv PiGDM": _guided(PiGDMDataFidelity(denoiser=denoiser), denoiser, steps),
        "deepinv ILVR": _guided(ILVRDataFidelity(), denoiser, steps),
        "deepinv moment matching": _guided(MomentMatchingDataFidelity(denoiser=denoiser), denoiser, steps),
    }

    def run(kernel: nn.Module, draws: int) -> int:
        kernel(image.expand(draws, *mask.shape).clone(), physics)
        return steps

    return {name: partial(run, kernel) for name, kernel in kernels.items()}

r"""Why the package trains its own small U-Net: time per 28x28 image beside diffusers' networks.

Three networks, one run, interleaved, batch 64, two threads: the :class:`UNet` of the shipped prior
(width 64, depth 1, on 2x2 patches), diffusers' ``UNet2DModel`` at full resolution ((32, 64, 64), one
layer a block, attention at the bottom) and the same class with two levels (48, 96) on 2x2 patches.
Reported are the fastest of several repetitions of a forward pass and of a training step (forward,
backward, Adam), per image, and their ratio to ours.

    python benchmarks/network_choice.py
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bayes_ir.models.networks import UNet

_BATCH = 64


class Diffusers(nn.Module):
    """A diffusers network called as ours is, on patches of the given size."""

    def __init__(self, patch: int, **settings: Any) -> None:
        super().__init__()
        try:
            from diffusers import UNet2DModel
        except ImportError:
            raise SystemExit(
                "network_choice: this benchmark compares with diffusers, which is not installed; "
                "pip install diffusers, or leave it: nothing else needs it."
            ) from None
        self.patch = patch
        channels = patch**2
        self.network = UNet2DModel(in_channels=channels, out_channels=channels, norm_num_groups=8, **settings)

    def forward(self, x: Tensor, log_noise: Tensor) -> Tensor:
        """Evaluate on x (batch, 1, H, W) and log_noise (batch,)."""
        h = functional.pixel_unshuffle(x, self.patch)
        return functional.pixel_shuffle(self.network(h, log_noise).sample, self.patch)


def networks() -> dict[str, nn.Module]:
    """The networks compared, ours first."""
    return {
        "bayes_ir UNet, width 64, depth 1": UNet(1, 64, 1),
        "diffusers UNet2DModel (32, 64, 64), 28x28": Diffusers(
            1,
            sample_size=28,
            layers_per_block=1,
            block_out_channels=(32, 64, 64),
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        ),
        "diffusers UNet2DModel (48, 96), 14x14 patches": Diffusers(
            2,
            sample_size=14,
            layers_per_block=1,
            block_out_channels=(48, 96),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        ),
    }


def measure(models: dict[str, nn.Module], repetitions: int) -> dict[str, dict[str, float]]:
    """Fastest forward pass and training step of each, milliseconds per image."""
    x = torch.randn(_BATCH, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    log_noise = torch.linspace(-4.0, 4.0, _BATCH)
    optimisers = {name: torch.optim.Adam(model.parameters(), fused=True) for name, model in models.items()}

    def forward(name: str) -> None:
        with torch.no_grad():
            models[name](x, log_noise)

    def training_step(name: str) -> None:
        optimisers[name].zero_grad()
        (models[name](x, log_noise) - x).square().mean().backward()
        optimisers[name].step()

    fastest: dict[str, dict[str, float]] = {name: {} for name in models}
    for _ in range(repetitions):
        for name in models:
            for what, action in (("forward", forward), ("training_step", training_step)):
                seconds = _time(action, name)
                fastest[name][what] = min(seconds, fastest[name].get(what, seconds))
    return {
        name: {f"{what}_ms_per_image": round(1e3 * s / _BATCH, 3) for what, s in times.items()}
        for name, times in fastest.items()
    }


def _time(action: Callable[[str], None], name: str) -> float:
    start = time.perf_counter()
    action(name)
    return time.perf_counter() - start


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description="Time our U-Net beside those of diffusers.")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", default="benchmarks/results/network_choice.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    models = networks()
    figures = measure(models, args.repetitions)
    ours = next(iter(figures.values())).copy()
    for name, row in figures.items():
        row["parameters"] = sum(p.numel() for p in models[name].parameters())
        for key, value in ours.items():
            row[key.replace("ms_per_image", "ratio_to_ours")] = round(row[key] / value, 2)
        print(name, row)
    settings = f"--repetitions {args.repetitions} --threads {args.threads}"
    report = {
        "command": f"python benchmarks/network_choice.py {settings}",
        "batch": _BATCH,
        "machine": f"{os.cpu_count()} CPU cores",
        "torch": torch.__version__,
        "networks": figures,
    }
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Path(args.out).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()

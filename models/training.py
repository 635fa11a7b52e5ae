r"""Training a denoiser: one weighted least-squares loss, three published objectives.

Every objective is a law of the time ``t`` and a weight on the error of the denoised mean,

    L = E_t E_{x_0, eps} w(t) |x0_hat(a x_0 + b eps, a, b) - x_0|^2;

see :mod:`bayes_ir.models.objectives`.  With labels the denoiser is told that of each image, except, with a small
probability, none at all: so it learns ``E[x_0 | x_t, label]`` and keeps ``E[x_0 | x_t]``.

What is kept is an exponential moving average of the weights.  A run is a function of its
settings: batch ``k`` draws from a generator seeded by ``(seed, k)``, so a run that was
killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from bayes_ir.models.networks import NO_LABEL, Denoiser, UNet
from bayes_ir.models.objectives import OBJECTIVES, Objective
from bayes_ir.models.training_settings import TrainingSettings
from bayes_ir.models.training_start import checked_labels, first_network

__all__ = ["OBJECTIVES", "TrainingSettings", "train"]

_CHECKPOINT = "checkpoint.pt"


@dataclass
class _Progress:
    """What a resumed run needs: everything that changes from step to step."""

    step: int
    network: UNet
    average: UNet
    optimiser: torch.optim.Optimizer

    def save(self, path: Path, settings: TrainingSettings) -> None:
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "settings": asdict(settings),
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def load(self, path: Path, settings: TrainingSettings) -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        made_with = asdict(TrainingSettings()) | state["settings"]
        for name, value in asdict(settings).items():
            if made_with[name] != value:
                raise ValueError(
                    f"train: {path} was made with {name}={made_with[name]!r}, this run has "
                    f"{name}={value!r}; use the same settings to resume, or another output folder."
                )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def train(
    images: Tensor,  # (n, C, H, W)
    settings: TrainingSettings,
    out: str | Path,
    *,
    labels: Tensor | None = None,  # (n,)
    device: str = "cpu",
    resume: bool = True,
    checkpoint_every: int = 250,
    on_step: Callable[[int, float], None] | None = None,
) -> Denoiser:
    """Train a denoiser on images and return it with averaged weights.

    Writes ``checkpoint.pt`` (atomically, every ``checkpoint_every`` steps) and ``loss.csv``
    (step, mean loss since the last row) under ``out``; with ``resume`` a checkpoint found there
    is continued and gives the weights an uninterrupted run would have given.

    Args:
        images: training images (n, C, H, W), in the units the prior will have.
        settings: what decides the weights.
        out: output folder.
        labels: class of every image, whole numbers from 0 (n,); with ``settings.classes``, and only then.
        device: torch device.
        resume: continue from a checkpoint in ``out``; its settings must be the same.
        checkpoint_every: steps between checkpoints.
        on_step: called with (step, loss) after each step, for a progress bar.

    Raises:
        ValueError: for images that are not a finite (n, C, H, W) stack with even sides, labels that do not fit
            them, a start that fits neither, or a checkpoint made with other settings.
        FloatingPointError: when the loss stops being finite.
    """
    if images.ndim != 4 or images.numel() == 0 or images.shape[-1] % 2 or images.shape[-2] % 2:
        raise ValueError(
            f"train: expected images (n, C, H, W) with even H and W, got shape {tuple(images.shape)}; "
            "pad odd sides by one pixel."
        )
    if not images.isfinite().all():
        raise ValueError("train: expected finite images, got some with NaN or infinite pixels.")
    labels = checked_labels(labels, len(images), settings.classes)
    out = Path(out)
    images = images.to(device)
    network, mean, std = first_network(images, settings)
    out.mkdir(parents=True, exist_ok=True)
    network = network.to(device)
    objective = OBJECTIVES[settings.objective]()
    progress = _Progress(0, network, deepcopy(network), torch.optim.Adam(network.parameters(), fused=True))
    checkpoint = out / _CHECKPOINT
    if resume and checkpoint.exists():
        progress.load(checkpoint, settings)
    else:
        (out / "loss.csv").unlink(missing_ok=True)

    denoiser = Denoiser(network, mean, std)
    losses: list[float] = []
    while progress.step < settings.steps:
        loss = _loss(denoiser, objective, images, labels, settings, progress.step)
        _optimise(progress, loss, settings)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(
                f"train: the loss became {losses[-1]} at step {progress.step}; lower learning_rate "
                f"(now {settings.learning_rate:g}). The last checkpoint is kept at {checkpoint}."
            )
        if on_step is not None:
            on_step(progress.step, losses[-1])
        if progress.step % checkpoint_every == 0 or progress.step == settings.steps:
            _append_loss(out / "loss.csv", progress.step, sum(losses) / len(losses))
            losses.clear()
            progress.save(checkpoint, settings)
    return Denoiser(progress.average, mean, std).eval()


def _loss(
    denoiser: Denoiser,
    objective: Objective,
    images: Tensor,
    labels: Tensor | None,
    settings: TrainingSettings,
    step: int,
) -> Tensor:
    rng = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    batch = torch.randint(len(images), (settings.batch_size,), generator=rng)
    # Stratified times: one in each of batch_size equal cells, which lowers the variance of the loss.
    uniform = torch.rand(settings.batch_size, generator=rng, dtype=torch.float64)
    uniform = (torch.arange(settings.batch_size) + uniform) / settings.batch_size
    a, b = (c.to(images.device) for c in objective.diffusion.coefficients(objective.draw_times(uniform)))
    x_0 = images[batch.to(images.device)]
    noise = torch.randn(x_0.shape, generator=rng).to(x_0)
    x_t = a[:, None, None, None].to(x_0) * x_0 + b[:, None, None, None].to(x_0) * noise
    known: tuple[Tensor, ...] = ()
    if labels is not None:
        dropped = torch.rand(settings.batch_size, generator=rng) < settings.label_dropout
        known = (labels[batch].masked_fill(dropped, NO_LABEL).to(images.device),)
    error = (denoiser(x_t, a, b, *known) - x_0).square().mean(dim=(1, 2, 3))
    return (objective.weight(a, b, denoiser.data_std).to(error) * error).mean()


def _optimise(progress: _Progress, loss: Tensor, settings: TrainingSettings) -> None:
    k = progress.step
    warm_up = min(1.0, (k + 1) / 200)
    rate = settings.learning_rate * warm_up * 0.5 * (1 + math.cos(math.pi * k / settings.steps))
    for group in progress.optimiser.param_groups:
        group["lr"] = rate
    progress.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(progress.network.parameters(), 1.0)
    progress.optimiser.step()
    decay = min(settings.ema_decay, (1 + k) / (10 + k))
    with torch.no_grad():
        torch._foreach_lerp_(
            list(progress.average.parameters()), list(progress.network.parameters()), 1 - decay
        )
    progress.step += 1


def _append_loss(path: Path, step: int, loss: float) -> None:
    rows = []
    if path.exists():
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file)][1:]
    rows = [row for row in rows if int(row[0]) < step] + [[str(step), f"{loss:.6f}"]]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["step", "loss"], *rows])

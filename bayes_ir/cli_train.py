"""The command ``bayes-ir train``: images in, a stored prior out."""

from __future__ import annotations

import csv
import math
import os
import platform
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from bayes_ir.models.networks import Denoiser
    from bayes_ir.models.training import TrainingSettings

__all__ = ["save_results", "train"]

_LARGEST_PCA = 16_384  # values per image up to which principal components are worth their time and storage


def train(
    data: Annotated[
        Path, typer.Option(help="Training images: idx .gz (MNIST format), .npz, or a folder of images.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the weights, the card, the losses and the checkpoint.")
    ],
    name: Annotated[str, typer.Option(help="Name of the prior: NAME.safetensors and NAME.json.")],
    objective: Annotated[
        str, typer.Option(help="ve (NCSN, EDM), vp (DDPM) or flow (rectified flow).")
    ] = "ve",
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 10_000,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    ema_decay: Annotated[float, typer.Option(help="Decay per step of the averaged weights.")] = 0.999,
    width: Annotated[int, typer.Option(help="Feature channels, a multiple of 8.")] = 64,
    depth: Annotated[int, typer.Option(help="Residual blocks on each side.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="Images to calibrate on; by default a tenth of DATA, at most 2,048, is not trained on."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Torch device: cpu, cuda, ...")] = "cpu",
    resume: Annotated[bool, typer.Option(help="Go on from a checkpoint found in OUT.")] = True,
) -> None:
    """Train a prior on images.

    What the denoiser leaves uncertain is then measured on images that it was not trained on.
    Stop it with Ctrl-C at any time: the same command goes on from the last checkpoint and ends with
    the weights an uninterrupted run would have given.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from bayes_ir.models import training
    from bayes_ir.models.datasets import load_images

    console = Console()
    try:
        _check_name(name)
        settings = training.TrainingSettings(
            objective, steps, batch_size, learning_rate, ema_decay, width, depth, seed
        )
        images, kept_out = _split(load_images(data), None if held_out is None else load_images(held_out))
        columns = (
            TextColumn("training {task.fields[name]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeRemainingColumn(),
        )
        start, done = time.monotonic(), []
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("train", total=steps, name=name, loss=float("nan"))

            def on_step(step: int, loss: float) -> None:
                done.append(step)
                progress.update(task, completed=step, loss=loss)

            denoiser = training.train(images, settings, out, device=device, resume=resume, on_step=on_step)
    except KeyboardInterrupt:
        saved = _last_saved(out)
        console.print(
            f"Stopped. {out / 'checkpoint.pt'} holds step {saved} of {steps}; the same command goes on there."
            if saved
            else "Stopped before the first checkpoint; nothing is kept.",
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        console.print(f"[red]Error:[/red] {error}", soft_wrap=True)
        raise typer.Exit(2) from None

    given = {
        "--data": data,
        "--name": name,
        "--objective": objective,
        "--steps": steps,
        "--batch-size": batch_size,
        "--learning-rate": learning_rate,
        "--ema-decay": ema_decay,
        "--width": width,
        "--depth": depth,
        "--seed": seed,
        **({} if held_out is None else {"--held-out": held_out}),
        "--device": device,
        "--out": out,
    }
    record = {
        "command": "bayes-ir train " + shlex.join(str(part) for pair in given.items() for part in pair),
        "seconds": round(time.monotonic() - start),
        "steps_timed": len(done),
        "machine": _machine(device),
    }
    described = {"name": data.name, "images": len(images)}
    console.print(f"Calibrating on {len(kept_out)} images not trained on.")
    calibrated_on = {
        "images": len(kept_out),
        "data": data.name + ", kept out of training" if held_out is None else held_out.name,
        "command": record["command"],
    }
    card = save_results(
        denoiser, settings, images, out / name, described, record, held_out=(kept_out, calibrated_on)
    )
    console.print(f"Wrote {card}; use it with load_prior({str(card)!r}).", soft_wrap=True)


def save_results(
    denoiser: Denoiser,
    settings: TrainingSettings,
    images: Tensor,
    path: Path,
    data: dict[str, Any],
    record: dict[str, Any],
    about: dict[str, Any] | None = None,
    held_out: tuple[Tensor, dict[str, Any]] | None = None,
) -> Path:
    """Write the prior of a finished training run, and ``loss.png`` beside the run's ``loss.csv``.

    Args:
        denoiser: what training returned.
        settings: what it was trained with.
        images: the training images (n, C, H, W).
        path: ``out / name``.
        data: the card's entry about the data.
        record: the card's entry about the training: command, seconds, machine.
        about: further entries of the card, such as licence and credit.
        held_out: images to calibrate on, and the card's entry about them.

    Returns:
        Path of the card.
    """
    from bayes_ir.models.priors import NetworkPrior, calibrate, principal_components, save_prior
    from bayes_ir.models.training import OBJECTIVES

    diffusion = OBJECTIVES[settings.objective].diffusion
    # The network's noise embedding ends where it was built to end, whatever the process visits.
    ends: tuple[float, float] = denoiser.network.log_noise_range  # type: ignore[assignment]
    built = [math.exp(end) for end in ends]
    trained = [float(diffusion.ratio(t)) for t in (diffusion.t_min, diffusion.t_max)]
    low, high = max(built[0], trained[0]), min(built[1], trained[1])
    prior = NetworkPrior(
        denoiser,
        diffusion,
        images.shape[1:],
        data_range=(0.0, 1.0),
        noise_range=(float(f"{low:.6g}"), float(f"{high:.6g}")),
        mean=denoiser.data_mean,
        std=denoiser.data_std,
    )
    card = {
        **({"licence": "not stated", "credit": "not stated"} if about is None else about),
        "data": data,
        "training": {**record, "final_loss": _draw_losses(path.parent)},
        "measured": {},
    }
    if held_out is not None:
        small = prior.event_shape.numel() <= _LARGEST_PCA
        prior = calibrate(
            prior,
            held_out[0],
            seed=settings.seed,
            bases=("dct", "pca", "scalar") if small else ("dct", "scalar"),
            components=principal_components(images[:: math.ceil(len(images) / 4096)]) if small else None,
        )
        card["calibration"] = held_out[1]
    return save_prior(prior, path, card)


def _split(images: Tensor, held_out: Tensor | None) -> tuple[Tensor, Tensor]:
    """Images to train on and to calibrate on: those given, or else one in so many, evenly spaced."""
    import torch

    if held_out is not None:
        if held_out.shape[1:] != images.shape[1:] or len(held_out) < 2:
            raise ValueError(
                f"train: --held-out holds {tuple(held_out.shape)}, --data {tuple(images.shape)}; expected at least 2 "
                "images of the same shape."
            )
        return images, held_out
    if len(images) < 4:
        raise ValueError(
            f"train: got {len(images)} images; expected at least 4 to keep some back, or others in --held-out."
        )
    spacing = min(max(10, math.ceil(len(images) / 2048)), len(images) // 2)
    kept_out = torch.zeros(len(images), dtype=torch.bool)
    kept_out[spacing - 1 :: spacing] = True
    return images[~kept_out], images[kept_out]


def _draw_losses(folder: Path) -> float:
    """Draw ``loss.csv`` as ``loss.png``; returns the last loss."""
    from matplotlib.figure import Figure

    with (folder / "loss.csv").open(newline="") as file:
        rows = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*rows, strict=True), color="black", linewidth=1)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "loss.png", dpi=100)
    return rows[-1][1]


def _check_name(name: str) -> None:
    if not name or Path(name).name != name or name.endswith((".json", ".safetensors")):
        raise ValueError(
            f"train: --name must be a plain name such as 'digits', got {name!r}; --out is the folder."
        )


def _last_saved(out: Path) -> int | None:
    try:
        with (out / "loss.csv").open(newline="") as file:
            return [int(row["step"]) for row in csv.DictReader(file)][-1]
    except (FileNotFoundError, IndexError):
        return None


def _machine(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"

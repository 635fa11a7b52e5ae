"""The command ``bayes-ir train``: images in, a stored prior out."""

from __future__ import annotations

import csv
import os
import platform
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train"]


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
    labels: Annotated[
        Path | None,
        typer.Option(help="Labels of DATA, idx .gz or .npz: the network is told the class of its images."),
    ] = None,
    label_dropout: Annotated[float, typer.Option(help="Share of images shown without their label.")] = 0.1,
    start: Annotated[
        str | None, typer.Option(help="Stored network prior to start from, with or without labels.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="Images to calibrate on; by default a tenth of DATA, at most 2,048, is not trained on."
        ),
    ] = None,
    held_out_labels: Annotated[Path | None, typer.Option(help="Labels of HELD_OUT.")] = None,
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
    from bayes_ir.training_results import Images, save_results, split

    console = Console()
    try:
        _check_name(name)
        images, kept_out = split(Images.read(data, labels), Images.read(held_out, held_out_labels))
        settings = training.TrainingSettings(
            objective,
            steps,
            batch_size,
            learning_rate,
            ema_decay,
            width,
            depth,
            seed,
            None if labels is None else images.classes,
            label_dropout,
            start,
        )
        columns = (
            TextColumn("training {task.fields[name]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TimeRemainingColumn(),
        )
        begun, done = time.monotonic(), []
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("train", total=steps, name=name, loss=float("nan"))

            def on_step(step: int, loss: float) -> None:
                done.append(step)
                progress.update(task, completed=step, loss=loss)

            denoiser = training.train(
                images.images,
                settings,
                out,
                labels=images.labels,
                device=device,
                resume=resume,
                on_step=on_step,
            )
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
        **({} if labels is None else {"--labels": labels, "--label-dropout": label_dropout}),
        "--start": start,
        "--held-out": held_out,
        "--held-out-labels": held_out_labels,
        "--device": device,
        "--out": out,
    }
    record = {
        "command": "bayes-ir train "
        + shlex.join(str(part) for pair in given.items() if pair[1] is not None for part in pair),
        "seconds": round(time.monotonic() - begun),
        "steps_timed": len(done),
        "machine": _machine(device),
    }
    described = {"name": data.name, "images": len(images.images)}
    console.print(f"Calibrating on {len(kept_out.images)} images not trained on.")
    calibrated_on = {
        "images": len(kept_out.images),
        "data": data.name + ", kept out of training" if held_out is None else held_out.name,
        "command": record["command"],
    }
    card = save_results(
        denoiser, settings, images, out / name, described, record, held_out=(kept_out, calibrated_on)
    )
    console.print(f"Wrote {card}; use it with load_prior({str(card)!r}).", soft_wrap=True)


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

r"""Stored priors: ``NAME.safetensors`` beside ``NAME.json``, nothing pickled.

The card says what the weights are: format and kind, architecture, forward process, ``event_shape``,
``data_range``, ``noise_range``, the data with licence and credit, the training command with its time
and machine, and measured figures.  Two kinds are known:

* ``network``: a :class:`~bayes_ir.models.networks.Denoiser` around a U-Net, tensors as in its state; if it was
  calibrated, the tensors ``calibration.BASIS....`` too, and in the card what they were fitted to;
* ``gaussian-mixture``: ``weights`` (K,), ``means`` (K, N), ``factors`` F (K, N, R) and
  ``noise_variances`` v (K,), the covariances being ``F_k F_k^T + v_k I``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.priors.gaussian_mixture import GaussianMixturePrior
from bayes_ir.models.priors.network import NetworkPrior
from bayes_ir.models.priors.stored import KINDS, kind_of

__all__ = ["READ_OFF", "available_priors", "load_prior", "read_card", "save_prior"]

_FORMAT = 1
_SHIPPED = Path(__file__).resolve().parents[1] / "weights"
_SUFFIXES = (".json", ".safetensors")
_REQUIRED = ("architecture", "diffusion", "event_shape", "data_range", "noise_range", "weights_sha256")
READ_OFF = ("format", "kind", *_REQUIRED)
"""Entries of a card that :func:`save_prior` reads off the prior."""


def available_priors() -> list[str]:
    """Names of the priors that come with the package."""
    return sorted(card.stem for card in _SHIPPED.glob("*.json"))


def load_prior(
    name_or_path: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> NetworkPrior | GaussianMixturePrior:
    """Load a prior by the name of a shipped one, or by the path of a card or weights file.

    Args:
        name_or_path: a name of :func:`available_priors`, or a path to ``NAME.json`` or
            ``NAME.safetensors``; both files must lie side by side.
        device: where to put it, by default the processor.
        dtype: floating point type of the draws, by default that of the file.

    Raises:
        ValueError: for an unknown name, a card this version cannot read, or weights that are
            damaged or do not fit the card.
        FileNotFoundError: when the card or the weights are missing.

    Example:
        >>> prior = load_prior("mnist-gmm")
        >>> prior.event_shape
        torch.Size([1, 14, 14])
    """
    card_path, weights_path = _find(name_or_path)
    card = _read_card(card_path)
    tensors, digest = _read_weights(weights_path)
    prior = KINDS[card["kind"]].build(card, tensors, weights_path)
    if digest != card["weights_sha256"]:
        raise ValueError(
            f"load_prior: {weights_path} has SHA-256 {digest[:12]}..., its card says "
            f"{card['weights_sha256'][:12]}...; the file is damaged or belongs to another card. "
            "Fetch or save both again."
        )
    return prior.to(device=device, dtype=dtype)


def save_prior(prior: DiffusionPrior, path: str | Path, card: Mapping[str, Any]) -> Path:
    """Write a prior as ``NAME.safetensors`` and ``NAME.json``; returns the path of the card.

    Args:
        prior: a :class:`NetworkPrior` around a :class:`~bayes_ir.models.networks.Denoiser` of a
            :class:`~bayes_ir.models.networks.UNet`, or a :class:`GaussianMixturePrior`.
        path: where, ``folder/NAME`` with or without one of the two suffixes.
        card: what the prior cannot know: ``data``, ``licence``, ``credit``, ``training``,
            ``measured`` and whatever else is worth saying; must hold no key the prior fills in.  For a
            calibrated network ``calibration`` may say to how many ``images`` of which ``data`` it was
            fitted; the prior adds ``bases``.

    Raises:
        TypeError: for any other prior.
        ValueError: when ``card`` sets a key that the prior fills in, or tells of a calibration that is none.
    """
    kind = kind_of(prior)
    architecture, tensors = KINDS[kind].take_apart(prior)
    bases, fitted = KINDS[kind].take_calibrations_apart(prior)
    tensors = {**tensors, **fitted}
    content = save_safetensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    known = {
        "format": _FORMAT,
        "kind": kind,
        "architecture": architecture,
        "diffusion": {"name": type(prior.diffusion).__name__, **vars(prior.diffusion)},
        "event_shape": list(prior.event_shape),
        "data_range": None if prior.data_range is None else list(prior.data_range),
        "noise_range": list(prior.noise_range),
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    if clash := sorted(known.keys() & card.keys()):
        raise ValueError(f"save_prior: the card sets {clash}, which are read off the prior; leave them out.")
    about = card.get("calibration", {})
    if "bases" in about or (about and not bases):
        raise ValueError(
            f"save_prior: the card tells of a calibration {dict(about)}, the prior's are {sorted(bases) or 'none'}; "
            "say only what they were fitted to, and that only where there are some."
        )
    card = {**card, **({"calibration": {"bases": bases, **about}} if bases else {})}
    card_path, weights_path = _pair(Path(path))
    card_path.parent.mkdir(parents=True, exist_ok=True)
    _write(weights_path, content)
    _write(card_path, (json.dumps({**known, **card}, indent=2) + "\n").encode())
    return card_path


def read_card(name_or_path: str | Path) -> dict[str, Any]:
    """The card of a stored prior as a dictionary; arguments and errors as :func:`load_prior`."""
    return _read_card(_find(name_or_path)[0])


def _pair(path: Path) -> tuple[Path, Path]:
    stem = path.name.removesuffix(path.suffix) if path.suffix in _SUFFIXES else path.name
    card, weights = (path.with_name(stem + suffix) for suffix in _SUFFIXES)
    return card, weights


def _find(name_or_path: str | Path) -> tuple[Path, Path]:
    names = available_priors()
    if str(name_or_path) in names:
        return _pair(_SHIPPED / str(name_or_path))
    path = Path(name_or_path)
    card, weights = _pair(path)
    is_name = path.name == str(name_or_path) and path.suffix not in _SUFFIXES
    if is_name and not card.exists():
        close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"load_prior: no prior is called {path.name!r}; {hint}Available: {', '.join(names) or 'none'}; "
            "or give the path of a card (NAME.json)."
        )
    for file, what in ((card, "card"), (weights, "weights")):
        if not file.exists():
            raise FileNotFoundError(
                f"load_prior: the {what} {file} is missing; expected {card.name} beside {weights.name}."
            )
    return card, weights


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"load_prior: the card {path} is not JSON ({error}); it is damaged or no card."
        ) from None
    if not isinstance(card, dict) or not isinstance(card.get("format"), int):
        raise ValueError(
            f"load_prior: {path} is not a card of a prior; expected an object with 'format': {_FORMAT}."
        )
    if card["format"] > _FORMAT:
        raise ValueError(
            f"load_prior: {path} has card format {card['format']}, this version reads up to {_FORMAT}; "
            "install a newer bayes-ir."
        )
    if card.get("kind") not in KINDS:
        raise ValueError(
            f"load_prior: {path} describes a prior of kind {card.get('kind')!r}; expected {sorted(KINDS)}."
        )
    if missing := [key for key in _REQUIRED if key not in card]:
        raise ValueError(f"load_prior: the card {path} lacks {missing}; it is incomplete.")
    return card


def _read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    content = path.read_bytes()
    try:
        tensors = load_safetensors(content)
    except SafetensorError as error:
        raise ValueError(
            f"load_prior: {path} is not a whole safetensors file ({error}); truncated, or of another format."
        ) from None
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise ValueError(
                f"load_prior: tensor {name!r} of {path} ({tensor.dtype}) holds values that are not finite "
                "floating point numbers; the file is damaged or its training diverged."
            )
    return tensors, hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)

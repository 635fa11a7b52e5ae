"""The kinds of prior that can be stored: how each is taken apart into tensors and built again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.diffusion import DDPM, Diffusion, RectifiedFlow, VarianceExploding, VariancePreserving
from bayes_ir.models.networks import Denoiser, UNet
from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.priors.gaussian_mixture import GaussianMixturePrior
from bayes_ir.models.priors.labelled import LabelledPrior
from bayes_ir.models.priors.network import NetworkPrior
from bayes_ir.models.priors.stored_calibration import (
    PREFIX,
    build_calibrations,
    calibration_shapes,
    take_calibrations_apart,
)

__all__ = ["KINDS", "StoredKind", "kind_of"]

_DIFFUSIONS: dict[str, type[Diffusion]] = {
    d.__name__: d for d in (DDPM, RectifiedFlow, VarianceExploding, VariancePreserving)
}


class StoredKind(ABC):
    """One kind of stored prior."""

    @abstractmethod
    def holds(self, prior: DiffusionPrior) -> bool:
        """Whether the prior is of this kind."""

    @abstractmethod
    def take_apart(self, prior: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Architecture settings and tensors."""

    def take_calibrations_apart(self, prior: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The card's description of the calibrations, and their tensors; nothing where they follow from the prior."""
        return {}, {}

    @abstractmethod
    def build(self, card: Mapping[str, Any], tensors: dict[str, Tensor], source: Path) -> Any:
        """The prior of a card and its tensors; ``source`` is named in errors."""


class _Network(StoredKind):
    def holds(self, prior: DiffusionPrior) -> bool:
        return (
            isinstance(prior, NetworkPrior)
            and isinstance(prior.network, Denoiser)
            and isinstance(prior.network.network, UNet)
        )

    def take_apart(self, prior: NetworkPrior) -> tuple[dict[str, Any], dict[str, Tensor]]:
        if isinstance(prior, LabelledPrior) and prior.label is not None:
            raise ValueError(
                f"save_prior: {prior!r} is the prior of one label; store the prior it was made of, given none."
            )
        denoiser: Any = prior.network
        architecture = {
            "name": "UNet",
            **denoiser.network.settings,
            "data_mean": denoiser.data_mean,
            "data_std": denoiser.data_std,
            "sample_steps": prior.sample_steps,
            "churn": prior.churn,
        }
        return architecture, denoiser.network.state_dict()

    def take_calibrations_apart(self, prior: NetworkPrior) -> tuple[dict[str, Any], dict[str, Tensor]]:
        by_label = prior.label_calibrations if isinstance(prior, LabelledPrior) else ()
        return take_calibrations_apart(prior.calibrations, by_label)

    def build(self, card: Mapping[str, Any], tensors: dict[str, Tensor], source: Path) -> NetworkPrior:
        architecture = card["architecture"]
        settings = dict(architecture)
        name = settings.pop("name", None)
        if name != "UNet":
            raise ValueError(f"load_prior: {source} is for the architecture {name!r}; expected 'UNet'.")
        try:
            mean, std = float(settings.pop("data_mean")), float(settings.pop("data_std"))
            sampler = {key: settings.pop(key) for key in ("sample_steps", "churn")}
            with torch.random.fork_rng(devices=[]):  # loading must not move the global generator
                network = UNet(**settings)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"load_prior: the card of {source} does not describe a UNet ({error}): {architecture}."
            ) from None
        shapes = calibration_shapes(card, source)
        _expect(tensors, {key: v.shape for key, v in network.state_dict().items()} | shapes, source)
        weights = {key: v for key, v in tensors.items() if not key.startswith(PREFIX)}
        network.to(next(iter(weights.values())).dtype).load_state_dict(weights)
        calibrations, by_label = build_calibrations(card, tensors)
        described: dict[str, Any] = {
            "data_range": _range(card["data_range"]),
            "noise_range": _range(card["noise_range"]),
            "mean": mean,
            "std": std,
            "calibrations": calibrations,
            **sampler,
        }
        whole = (Denoiser(network, mean, std), _diffusion(card, source), card["event_shape"])
        if network.classes is None:
            return NetworkPrior(*whole, **described)
        return LabelledPrior(*whole, classes=network.classes, label_calibrations=by_label, **described)


class _Mixture(StoredKind):
    def holds(self, prior: DiffusionPrior) -> bool:
        return isinstance(prior, GaussianMixturePrior)

    def take_apart(self, prior: GaussianMixturePrior) -> tuple[dict[str, Any], dict[str, Tensor]]:
        c = prior.components
        floor = c.variances.amin(-1)
        excess = c.variances - floor[:, None]
        # eigh returns ascending variances; what repeats the smallest one up to rounding is noise.
        rank = int((excess > 1e-9 * c.variances.amax(-1, keepdim=True)).sum(-1).max())
        dimension = excess.shape[-1]
        factors = c.basis[..., dimension - rank :] * excess[:, None, dimension - rank :].sqrt()
        tensors = {
            "weights": prior.weights,
            "means": c.means,
            "factors": factors,
            "noise_variances": floor,
        }
        settings = {"components": len(floor), "rank": rank}
        return settings, {key: value.to(prior.dtype) for key, value in tensors.items()}

    def build(
        self, card: Mapping[str, Any], tensors: dict[str, Tensor], source: Path
    ) -> GaussianMixturePrior:
        n = torch.Size(card["event_shape"]).numel()
        k, rank = (card["architecture"].get(key) for key in ("components", "rank"))
        shapes = {"weights": (k,), "means": (k, n), "factors": (k, n, rank), "noise_variances": (k,)}
        _expect(tensors, shapes, source)
        weights, means, factors, noise = (tensors[key].double() for key in shapes)
        prior = GaussianMixturePrior(
            weights,
            means,
            factors @ factors.mT + noise[:, None, None] * torch.eye(n, dtype=torch.float64),
            event_shape=card["event_shape"],
            data_range=_range(card["data_range"]),
        )
        prior.noise_range = _range(card["noise_range"]) or prior.noise_range
        prior.diffusion = _diffusion(card, source)
        return prior.to(dtype=tensors["means"].dtype)


KINDS: dict[str, StoredKind] = {"network": _Network(), "gaussian-mixture": _Mixture()}


def kind_of(prior: DiffusionPrior) -> str:
    """Name of the kind a prior is stored as.

    Raises:
        TypeError: when there is none.
    """
    for name, kind in KINDS.items():
        if kind.holds(prior):
            return name
    raise TypeError(
        f"save_prior: cannot store {prior!r}; expected a NetworkPrior around "
        "bayes_ir.models.networks.Denoiser with a UNet, or a GaussianMixturePrior. "
        "Keep networks of your own with safetensors and build their NetworkPrior in code."
    )


def _expect(tensors: Mapping[str, Tensor], shapes: Mapping[str, Any], source: Path) -> None:
    got = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    expected = {name: tuple(shape) for name, shape in shapes.items()}
    if got != expected:
        wrong = sorted(n for n in got.keys() | expected.keys() if got.get(n) != expected.get(n))
        shown = ", ".join(
            f"{n}: got {got.get(n, 'none')}, expected {expected.get(n, 'none')}" for n in wrong[:3]
        )
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"load_prior: the tensors of {source} are not those its card describes ({shown}{more}); "
            "weights and card do not belong together."
        )


def _range(values: Any) -> Any:
    return None if values is None else (float(values[0]), float(values[1]))


def _diffusion(card: Mapping[str, Any], source: Path) -> Diffusion:
    parameters = dict(card["diffusion"])
    name = parameters.pop("name", None)
    if name not in _DIFFUSIONS:
        raise ValueError(
            f"load_prior: the card of {source} names the diffusion {name!r}; expected {sorted(_DIFFUSIONS)}."
        )
    try:
        return _DIFFUSIONS[name](**parameters)
    except TypeError as error:
        raise ValueError(
            f"load_prior: the card of {source} gives {name} parameters it does not have ({error})."
        ) from None

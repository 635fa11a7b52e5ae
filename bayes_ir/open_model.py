"""A Pyro model with its measurements left open: what it is made of, and how it runs when nothing is measured.

A site that measures the image is one whose distribution is a channel.  Whatever holds it (``obs=``, ``pyro.condition``)
is undone, everything else that holds a site stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from bayes_ir.inference import ModelError
from bayes_ir.inference.gibbs.joint import same_prior
from bayes_ir.inference.measured_sites import unwrapped
from bayes_ir.inference.reading import as_values, sample_sites
from bayes_ir.models.channels import Channel
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["OpenModel", "as_measured", "opened"]


class _Opened(Messenger):
    """Draws the measurements again, whatever holds them; with ``placeholder`` an image is its prior's mean."""

    def __init__(self, placeholder: bool) -> None:
        super().__init__()
        self._placeholder = placeholder

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if isinstance(unwrapped(fn), Channel) and msg["is_observed"]:
            msg["infer"] = msg["infer"] | {"was": msg["value"]}
            msg["is_observed"], msg["value"], msg["done"] = False, None, False
        elif isinstance(fn, DiffusionPrior) and msg["value"] is None and self._placeholder:
            msg["value"], msg["done"] = fn.mean.expand(fn.batch_shape + fn.event_shape).clone(), True


@dataclass(frozen=True, eq=False)
class OpenModel:
    """What a model is made of.

    Attributes:
        site: name of the image site.
        prior: its distribution.
        plate: name and size of the plate the image sits in, if any.
        latents: names of the sites without values, the image among them.
        measurements: the sites with a channel, by name with what they measured, if anything.
        values: one value of every sample site.
        shapes: shapes of these, and of deterministic sites.
        prior_depends: whether the prior of the image depends on other latent sites, or may.
    """

    model: Callable
    site: str
    prior: DiffusionPrior
    plate: tuple[str, int] | None
    latents: tuple[str, ...]
    measurements: dict[str, Tensor | None]
    values: dict[str, Tensor]
    shapes: dict[str, torch.Size]
    prior_depends: bool

    def run(self, *, placeholder: bool = False) -> Callable:
        """The model with its measurements open; with ``placeholder`` the image is not drawn but at its prior's mean."""
        return _Opened(placeholder)(self.model)

    def require_measurements(self, verb: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse a model that does not measure these sites in these shapes.

        Raises:
            ModelError: naming the site.
        """
        found = {name: tuple(self.shapes[name]) for name in self.measurements}
        if not found:
            raise ModelError(
                f"{verb}: no site of the model has a channel, its sites are {sorted(self.values)}; measurements are "
                "written like Gaussian(A(x), noise_std) or OneBit(A(x), noise_std)."
            )
        for name, shape in shapes.items():
            if found.get(name) != tuple(shape):
                raise ModelError(
                    f"{verb}: the posterior observed {name!r} of shape {tuple(shape)}, and the model measures {found}; "
                    "give the model that the posterior was drawn from."
                )


def opened(
    model: Callable, data: Mapping[str, Any] | None, args: tuple, kwargs: Mapping[str, Any] | None
) -> OpenModel:
    """Find image, latent sites and measurements of a model.

    Args:
        model: a Pyro model, conditioned or not.
        data: values of sites; those of measurements are kept in ``measurements`` and not conditioned on.
        args: positional arguments of the model.
        kwargs: keyword arguments of the model.

    Raises:
        ModelError: for data of unknown sites, or a model without exactly one image site.
    """
    held = pyro.condition(model, data=as_values(data))
    one, two = (_run(held, seed, args, kwargs or {}) for seed in (0, 1))
    sites = sample_sites(one)
    unknown = sorted(set(data or {}) - set(sites))
    if unknown:
        raise ModelError(f"data names the site {unknown[0]!r}, but the model has only {sorted(sites)}.")
    measurements = {
        n: s["infer"].get("was") for n, s in sites.items() if isinstance(unwrapped(s["fn"]), Channel)
    }
    latents = [name for name, s in sites.items() if not s["is_observed"] and name not in measurements]
    images = [name for name in latents if isinstance(sites[name]["fn"], DiffusionPrior)]
    if len(images) != 1:
        kinds = {name: type(sites[name]["fn"]).__name__ for name in latents}
        raise ModelError(
            f"expected one latent site with a diffusion prior, the image; the latent sites are {kinds or 'none'}."
        )
    site = images[0]
    frames = [f for f in sites[site]["cond_indep_stack"] if f.vectorized]
    # Two runs may draw the same label, and then nothing is seen of a prior that depends on it.
    discrete = any(sites[name]["fn"].has_enumerate_support for name in latents if name != site)
    values = {n: node["value"] for n, node in one.nodes.items() if n in sites or _derived(node)}
    return OpenModel(
        held,
        site,
        sites[site]["fn"],
        (frames[0].name, int(sites[site]["fn"].batch_shape[0])) if frames else None,
        tuple(latents),
        measurements,
        values,
        {name: torch.as_tensor(value).shape for name, value in values.items()},
        len(latents) > 1 and (discrete or not same_prior(*(t.nodes[site]["fn"] for t in (one, two)))),
    )


def as_measured(value: Any) -> np.ndarray:
    """What a site measured, as an array."""
    return torch.as_tensor(value).detach().cpu().numpy()


def _run(model: Callable, seed: int, args: tuple, kwargs: Mapping[str, Any]) -> Any:
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        return poutine.trace(_Opened(True)(model)).get_trace(*args, **kwargs)


def _derived(node: Any) -> bool:
    return bool(node.get("infer", {}).get("_deterministic"))

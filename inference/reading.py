"""Reading a Pyro model into what a kernel needs: prior, operator, channel, measurements.

The model is run once under an effect handler.  The image site gets the prior's mean as a
placeholder (no random number is drawn), operators announce themselves as they are applied,
and the channel at an observed site says which tensor it was given; the operator whose output
that tensor is, is the A of ``y = A(x) + n``.  Several observed sites are put in a row
(:mod:`bayes_ir.inference.measured_sites`).  Everything else is refused in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from bayes_ir.inference.data_checks import checked
from bayes_ir.inference.measured_sites import joined, measured_site, operator_of, unwrapped
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.models.channels import Channel
from bayes_ir.models.operators import Operator
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["as_values", "read_problem", "refuse_unknown", "sample_sites"]


class _Reader(Messenger):
    """Records operators and puts the prior's mean where an image would be drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: list[tuple[Operator, Tensor, Tensor]] = []

    def _pyro_sample(self, msg: Any) -> None:
        if isinstance(msg["fn"], DiffusionPrior) and not msg["is_observed"] and msg["value"] is None:
            prior = msg["fn"]
            # A gradient shows which sites depend on the image.
            msg["value"] = prior.mean.expand(prior.batch_shape + prior.event_shape).clone().requires_grad_()
            msg["done"] = True

    def _pyro_post_operator(self, msg: Any) -> None:
        operator, x = msg["args"]
        self.applied.append((operator, x, msg["value"]))


def read_problem(
    model: Callable,
    data: Mapping[str, Any] | None = None,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> Problem:
    """Read a Pyro model ``x ~ prior, y ~ channel(A(x))`` with y observed.

    The image may sit in a ``pyro.plate``, every image with its own y (``to_event`` on the channel); y may be several
    sites, sit in a plate of exposures, under ``poutine.mask`` or ``poutine.scale``.

    Args:
        model: a Pyro model, or one already conditioned with ``pyro.condition``.
        data: values of observed sites, as for ``pyro.condition``; tensors, arrays or numbers.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Raises:
        ModelError: when the model does not consist of one image site with a diffusion prior and
            observed sites whose channels sit on operators of the image; or when y has
            the wrong shape, holds values that are not finite or outside the channel's support,
            or cannot come from an image in the prior's units.
    """
    values = as_values(data)
    reader = _Reader()
    with reader, torch.enable_grad():
        trace = pyro.poutine.trace(pyro.condition(model, data=values)).get_trace(
            *model_args, **(model_kwargs or {})
        )
    sites = sample_sites(trace)
    refuse_unknown(values, sites)
    site = _image_site(sites)
    prior: DiffusionPrior = sites[site]["fn"]
    image, data_sets = sites[site]["value"], _data_sets(site, sites[site])
    _refuse_weighed_prior(site, sites[site])
    found = []
    for name in _observed_sites(sites, set(values)):
        channel = unwrapped(sites[name]["fn"])
        operator = operator_of(channel, reader.applied, image, data_sets, site, name)
        measured = measured_site(name, sites[name], operator, data_sets)
        found.append(checked(name, measured, prior))
    whole = joined(found)
    operator = whole.operator.to(device=prior.device, dtype=prior.dtype)
    y = whole.y.to(prior.device, prior.dtype)
    return Problem(
        site,
        prior.expand(()) if data_sets else prior,
        operator,
        whole.channel.with_location(torch.zeros_like(y)),
        ", ".join(o.name for o in whole.observations),
        y,
        whole.observations,
        _plate_of(sites[site]) if data_sets else None,
    )


def as_values(data: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """Values of sites as tensors.

    Raises:
        ModelError: for a value that is no array of numbers.
    """
    return {name: _as_tensor(name, value) for name, value in (data or {}).items()}


def sample_sites(trace: Any) -> dict[str, Any]:
    """The sample sites of a trace, without those of plates and without ``pyro.deterministic``."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and type(site["fn"]).__name__ != "_Subsample"
        and not site["infer"].get("_deterministic")
    }


def _as_tensor(name: str, value: Any) -> Tensor:
    try:
        return value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"data[{name!r}] is a {type(value).__name__} that is no array of numbers; give a tensor or an array."
        ) from error


def refuse_unknown(values: Mapping[str, Tensor], sites: Mapping[str, Any]) -> None:
    """Refuse values of sites that the model does not have, and a model in which nothing is observed."""
    unknown = sorted(set(values) - set(sites))
    if unknown:
        raise ModelError(
            f"data names the site {unknown[0]!r}, but the model has only {sorted(sites)}; "
            "correct the name in `data` or in `pyro.sample`."
        )
    if not any(s["is_observed"] for s in sites.values()):
        raise ModelError(
            f"nothing is observed: the latent sites are {sorted(sites)}; pass `data={{'y': y}}` or condition the "
            "model with pyro.condition."
        )


def _plate_of(site: Any) -> str:
    (frame,) = (f for f in site["cond_indep_stack"] if f.vectorized)
    return frame.name


def _data_sets(name: str, site: Any) -> torch.Size:
    """``(P,)`` for an image in a plate of P, ``()`` for one outside of plates."""
    frames = [f for f in site["cond_indep_stack"] if f.vectorized]
    shape = site["fn"].batch_shape
    if len(frames) > 1:
        raise ModelError(
            f"the image site {name!r} sits in {len(frames)} plates, {[f.name for f in frames]}; kernels take one: "
            "index the images of both in one plate."
        )
    if len(shape) != len(frames):
        raise ModelError(
            f"the image site {name!r} has the batch shape {tuple(shape)} and sits in {len(frames)} plates; put a "
            "batch of images in a pyro.plate of that size."
        )
    if frames and frames[0].full_size not in (None, shape[0]):
        raise ModelError(
            f"the image site {name!r} sees {shape[0]} of the {frames[0].full_size} images of the plate "
            f"{frames[0].name!r} (subsample_size); the posterior of images needs all of them: leave it out."
        )
    return shape


def _image_site(sites: Mapping[str, Any]) -> str:
    latent = {name: s["fn"] for name, s in sites.items() if not s["is_observed"]}
    images = [name for name, fn in latent.items() if isinstance(fn, DiffusionPrior)]
    if not images:
        observed = [n for n, s in sites.items() if isinstance(s["fn"], DiffusionPrior)]
        if observed:
            raise ModelError(
                f"the image site {observed[0]!r} is itself observed, so nothing is left to sample; "
                "condition on the measurements only."
            )
        found = {name: type(fn).__name__ for name, fn in latent.items()}
        raise ModelError(
            f"the model has no image site: its latent sites are {found or 'none'}; write "
            '`x = pyro.sample("x", prior)` with a prior such as load_prior("mnist") or GaussianPrior(...).'
        )
    if len(images) > 1:
        raise ModelError(
            f"the model has {len(images)} image sites, {images}; kernels sample one image: "
            "join them into one prior over the stacked image."
        )
    others = {name: type(fn).__name__ for name, fn in latent.items() if name != images[0]}
    if others:
        raise ModelError(
            f"besides the image {images[0]!r} the model has the latent sites {others}; the kernels sample the "
            "image alone: give these sites values through `data`."
        )
    return images[0]


def _refuse_weighed_prior(name: str, site: Mapping[str, Any]) -> None:
    masked = site["mask"] is not None and not bool(torch.as_tensor(site["mask"]).all())
    if masked or not bool((torch.as_tensor(site["scale"]) == 1).all()):
        raise ModelError(
            f"the image site {name!r} sits under poutine.{'mask' if masked else 'scale'}, which takes its prior away "
            "or changes its power; put the handler around the measurements only, for kernels keep the prior."
        )


def _observed_sites(sites: Mapping[str, Any], given: set[str]) -> list[str]:
    """Names of the sites that measure the image; sites with values of their own that it does not touch are left."""
    observed = [name for name, s in sites.items() if s["is_observed"]]
    channels = [name for name in observed if isinstance(unwrapped(sites[name]["fn"]), Channel)]
    for name in observed:
        if name in channels or isinstance(sites[name]["fn"], DiffusionPrior):
            continue
        kind = type(unwrapped(sites[name]["fn"])).__name__
        if _depends_on_image(sites[name]):
            raise ModelError(
                f"the observed site {name!r} has the distribution {kind}; "
                "kernels need a channel such as Gaussian(A(x), noise_std) or OneBit(A(x), noise_std)."
            )
        if name not in given:
            raise ModelError(
                f"the observed site {name!r}, a {kind}, does not depend on the image, so that it says nothing of it; "
                "take it out of the model, or give a parameter its value through `data`."
            )
    if not channels:
        raise ModelError(
            f"none of the observed sites {observed} has a channel; "
            "kernels need a channel such as Gaussian(A(x), noise_std) or OneBit(A(x), noise_std)."
        )
    return channels


def _depends_on_image(site: Any) -> bool:
    with torch.enable_grad():
        log_prob = site["fn"].log_prob(site["value"])
    return bool(log_prob.requires_grad)

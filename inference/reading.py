"""Reading a Pyro model into what a kernel needs: prior, operator, channel, measurements.

The model is run once under an effect handler.  The image site gets the prior's mean as a
placeholder (no random number is drawn), operators announce themselves as they are applied,
and the channel at the observed site says which tensor it was given; the operator whose output
that tensor is, is the A of ``y = A(x) + n``.  Everything else is refused in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyro
import torch
from pyro.distributions import Independent
from pyro.poutine.messenger import Messenger
from torch import Tensor

from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.models.channels import Channel, Gaussian
from bayes_ir.models.operators import Identity, LinearOperator, Operator
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["read_problem"]


class _Reader(Messenger):
    """Records operators and puts the prior's mean where an image would be drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.applied: list[tuple[Operator, Tensor, Tensor]] = []

    def _pyro_sample(self, msg: Any) -> None:
        if isinstance(msg["fn"], DiffusionPrior) and not msg["is_observed"] and msg["value"] is None:
            msg["value"] = msg["fn"].mean.clone()
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

    Args:
        model: a Pyro model, or one already conditioned with ``pyro.condition``.
        data: values of observed sites, as for ``pyro.condition``; tensors, arrays or numbers.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Raises:
        ModelError: when the model does not consist of one image site with a diffusion prior and
            one observed site whose channel sits on a linear operator of the image; or when y has
            the wrong shape, holds values that are not finite or outside the channel's support,
            or cannot come from an image in the prior's units.
    """
    values = {name: _as_tensor(name, value) for name, value in (data or {}).items()}
    reader = _Reader()
    with reader:
        trace = pyro.poutine.trace(pyro.condition(model, data=values)).get_trace(
            *model_args, **(model_kwargs or {})
        )
    sites: dict[str, Any] = {
        n: s for n, s in trace.nodes.items() if s["type"] == "sample" and not _is_subsample(s)
    }
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
    site = _image_site(sites)
    observed_site = _observed_site(sites)
    channel = _channel(sites[observed_site], observed_site)
    operator = _operator(channel, reader.applied, sites[site]["value"], site, observed_site)
    prior: DiffusionPrior = sites[site]["fn"]
    y = _measurements(sites[observed_site]["value"], operator, channel, prior, observed_site)
    operator = operator.to(device=prior.device, dtype=prior.dtype)
    y = y.to(prior.device, prior.dtype)
    return Problem(site, prior, operator, channel.with_location(torch.zeros_like(y)), observed_site, y)


def _is_subsample(site: Any) -> bool:
    return type(site["fn"]).__name__ == "_Subsample"


def _as_tensor(name: str, value: Any) -> Tensor:
    try:
        return value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"data[{name!r}] is a {type(value).__name__} that is no array of numbers; give a tensor or an array."
        ) from error


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


def _observed_site(sites: Mapping[str, Any]) -> str:
    observed = [name for name, s in sites.items() if s["is_observed"]]
    channels = [name for name in observed if isinstance(_unwrap(sites[name]["fn"]), Channel)]
    if len(observed) > 1:
        raise ModelError(
            f"the model has {len(observed)} observed sites, {observed}; kernels read one: "
            "stack the measurements into one operator and one channel."
        )
    if not channels:
        raise ModelError(
            f"the observed site {observed[0]!r} has the distribution {type(sites[observed[0]]['fn']).__name__}; "
            "kernels need a channel such as Gaussian(A(x), noise_std) or OneBit(A(x), noise_std)."
        )
    return channels[0]


def _unwrap(fn: Any) -> Any:
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return fn


def _channel(observed: Any, observed_site: str) -> Channel:
    if observed["mask"] is not None or observed["scale"] != 1.0:
        raise ModelError(
            f"the observed site {observed_site!r} sits under poutine.mask or poutine.scale, which the kernels do "
            "not read; drop the masked measurements from the operator (Mask) instead."
        )
    return _unwrap(observed["fn"])


def _operator(channel: Channel, applied: list, image: Tensor, site: str, observed_site: str) -> Operator:
    location = channel._origin
    if location is image:
        return Identity(image.shape).to(dtype=image.dtype, device=image.device)
    for operator, x, z in applied:
        if z is not location:
            continue
        if x is not image:
            raise ModelError(
                f"the operator {operator!r} at site {observed_site!r} was applied to something computed from "
                f"{site!r}, not to {site!r} itself; put that computation into the operator, or compose "
                "operators with A @ B."
            )
        return operator
    raise ModelError(
        f"site {observed_site!r}: its channel was not given the output of an operator applied to {site!r} "
        f"(operators applied: {[type(o).__name__ for o, _, _ in applied] or 'none'}); write "
        f"`{type(channel).__name__}(A({site}), ...)` with A an operator such as DenseOperator(matrix), "
        "without arithmetic in between."
    )


def _measurements(
    y: Tensor, operator: Operator, channel: Channel, prior: DiffusionPrior, name: str
) -> Tensor:
    if y.shape != operator.measurement_shape:
        raise ModelError(
            f"data[{name!r}] has shape {tuple(y.shape)}; {type(operator).__name__} measures shape "
            f"{tuple(operator.measurement_shape)}."
        )
    y = y.detach().to(torch.float64)
    if not y.isfinite().all():
        raise ModelError(
            f"data[{name!r}] holds {int((~y.isfinite()).sum())} values that are not finite, the first at index "
            f"{tuple((~y.isfinite()).nonzero()[0].tolist())}; leave missing measurements out of the operator."
        )
    try:
        channel.with_location(torch.zeros_like(y)).log_prob(y)
    except ValueError as error:
        raise ModelError(f"data[{name!r}]: {error}") from error
    _check_units(y, operator, channel, prior, name)
    return y


def _check_units(y: Tensor, operator: Operator, channel: Channel, prior: DiffusionPrior, name: str) -> None:
    """Refuse y that no image within the data range could explain: |y_m| <= |a_m| |x| + 10 sd."""
    if (
        prior.data_range is None
        or not isinstance(channel, Gaussian)
        or not isinstance(operator, LinearOperator)
    ):
        return
    low, high = prior.data_range
    largest = max(abs(low), abs(high)) * prior.event_shape.numel() ** 0.5
    gain = operator.gram_diagonal().double().sqrt() if operator.has_svd else torch.tensor(operator.norm())
    bound = gain * largest + 10 * torch.as_tensor(channel.noise_std).double()
    excess = (y.abs() - bound.to(y.device)).amax()
    if excess > 0:
        raise ModelError(
            f"data[{name!r}] reaches {float(y.abs().max()):g}, more than this operator can make of any image with "
            f"values in [{low:g}, {high:g}], the prior's units (at most {float(bound.max()):g}); "
            "rescale the measurements, for 8-bit data by 1/255."
        )

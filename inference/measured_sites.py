r"""What the observed sites of a Pyro model say of the image: operator, channel and measurements, put in a row.

Each site ``pyro.sample("y_k", channel_k(A_k(x)), obs=y_k)`` becomes a stretch of one measurement,

    A = (A_1, ..., A_K),    p(y | z) = prod_k p_k(y_k | z_k),

Gaussian sites one Gaussian channel with a noise per measurement.  What Pyro's handlers mean is kept:

    poutine.mask, .mask(m)   the masked measurements are left out, of operator, channel and y
    poutine.scale(s)         p(y | z)^s; of a Gaussian, up to a constant, the Gaussian of noise s^{-1/2} sigma
    plate around y           exposures of one z: as many copies of the operator

A model of one plain site stays as it is, with its own shapes and its operator's structure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Independent, MaskedDistribution
from torch import Tensor

from bayes_ir.inference.observations import Observation
from bayes_ir.inference.problem import ModelError
from bayes_ir.models.channels import Channel, Gaussian, StackedChannel
from bayes_ir.models.operators import Identity, LinearOperator, Mask, Operator, Stack

__all__ = ["Measured", "joined", "measured_site", "operator_of", "unwrapped"]


@dataclass(frozen=True, eq=False)
class Measured:
    """One or several observed sites: ``y ~ channel(A(x))``.

    Attributes:
        operator: A.
        channel: located anywhere, its arguments broadcasting against y.
        y: measurements (*data_sets, *operator.measurement_shape), as they came.
        observations: the sites they are of.
    """

    operator: Operator
    channel: Channel
    y: Tensor
    observations: tuple[Observation, ...]


def unwrapped(fn: Any) -> Any:
    """A distribution without the ``to_event`` and ``mask`` around it."""
    while isinstance(fn, (Independent, MaskedDistribution)):
        fn = fn.base_dist
    return fn


def measured_site(name: str, site: Any, operator: Operator, data_sets: torch.Size) -> Measured:
    """An observed site with a channel.

    Args:
        name: of the site.
        site: its message in the trace.
        operator: A, whose output its channel was given.
        data_sets: ``(P,)`` where the image sits in a plate of P, else ``()``.

    Raises:
        ModelError: for y of another shape than the model makes, or a mask or scale that cannot be kept.
    """
    channel, y, many, events = unwrapped(site["fn"]), site["value"], len(data_sets), site["fn"].event_dim
    whole = channel.batch_shape
    if y.shape != whole:
        of = f" for each of the {data_sets[0]} images of the plate" if data_sets else ""
        raise ModelError(
            f"data[{name!r}] has shape {tuple(y.shape)}; {type(operator).__name__} measures shape "
            f"{tuple(operator.measurement_shape)}{of}"
            f"{'' if whole[many:] == operator.measurement_shape else f', and the model makes {tuple(whole)} of it'}."
        )
    channel = _scaled(name, channel, site["scale"], events)
    shape = whole[many:]
    copies = shape.numel() // operator.measurement_shape.numel()
    kept = _kept(name, _masks(site), whole, many)
    if copies == 1 and kept is None and shape == operator.measurement_shape:
        return Measured(operator, channel, y, (Observation(name, shape),))
    if not isinstance(operator, LinearOperator):
        what = "poutine.mask" if copies == 1 else "a plate of exposures"
        raise ModelError(
            f"site {name!r}: {what} over {operator!r}, which is not linear, cannot be read; put the choice or the "
            "repetition into the operator."
        )
    row = Stack([operator] * copies)
    if kept is None:
        return Measured(row, channel.flat(shape), y.reshape(*data_sets, -1), (Observation(name, shape),))
    chosen = torch.zeros(shape.numel(), dtype=torch.bool)
    chosen[kept] = True
    some = Mask(chosen.to(operator.device), dtype=operator.dtype) @ row
    assert isinstance(some, LinearOperator)
    measured = y.reshape(*data_sets, -1)[..., kept]
    return Measured(some, channel.flat(shape, kept), measured, (Observation(name, shape, kept),))


def joined(sites: list[Measured]) -> Measured:
    """Several sites in a row.

    Raises:
        ModelError: for several sites of which one has an operator that is not linear.
    """
    if len(sites) == 1:
        return sites[0]
    for site in sites:
        if not isinstance(site.operator, LinearOperator):
            raise ModelError(
                f"site {site.observations[0].name!r}: {site.operator!r} is not linear, and the model observes "
                f"{len(sites)} sites; join the measurements of all of them in one operator and one channel."
            )
    rows = []
    for site in sites:
        shape = site.operator.measurement_shape
        rows.append((site.channel.flat(shape), site.y.reshape(*site.y.shape[: site.y.ndim - len(shape)], -1)))
    channels = [channel for channel, _ in rows]
    y = torch.cat([part.double() for _, part in rows], dim=-1)
    channel: Channel = StackedChannel(channels)
    if all(isinstance(part, Gaussian) for part in channels):
        channel = Gaussian(channel.location, channel.noise_std)
    operator = Stack([site.operator for site in sites])  # type: ignore[misc]
    return Measured(operator, channel, y, tuple(o for site in sites for o in site.observations))


def operator_of(
    channel: Channel, applied: list, image: Tensor, data_sets: torch.Size, site: str, observed_site: str
) -> Operator:
    """The operator whose output a channel was given.

    Args:
        channel: of the observed site.
        applied: (operator, x, z) of every application in the model.
        image: value of the image site.
        data_sets: ``(P,)`` where it sits in a plate of P, else ``()``.
        site: its name.
        observed_site: name of the observed one.

    Raises:
        ModelError: when the channel was given something else, or the operator something else than the image.
    """
    location = channel._origin
    if location is image:
        return Identity(image.shape[len(data_sets) :]).to(dtype=image.dtype, device=image.device)
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


def _scaled(name: str, channel: Channel, scale: Any, events: int) -> Channel:
    """``p(y | z)^s`` as a channel; s has no axes for the ``events`` that ``to_event`` took in."""
    if isinstance(scale, (int, float)) and scale == 1.0:
        return channel
    s = _over_events(torch.as_tensor(scale, dtype=torch.float64), events)
    if not isinstance(channel, Gaussian) or not bool((s > 0).all()):
        raise ModelError(
            f"the observed site {name!r} sits under poutine.scale({scale!r}): a positive power of a Gaussian channel "
            f"is one again, that of {type(channel).__name__} is no channel; leave the scale out, or mask what is not "
            "to count."
        )
    return Gaussian(channel.location, channel.noise_std.double() / s.sqrt())


def _over_events(value: Tensor, events: int) -> Tensor:
    return value.reshape(*value.shape, *(1,) * events) if value.ndim else value


def _masks(site: Any) -> list[tuple[Any, int]]:
    """Masks of ``poutine.mask`` and of ``Distribution.mask``, each with the number of axes it is the same along."""
    fn, found = site["fn"], [(site["mask"], site["fn"].event_dim)]
    while isinstance(fn, (Independent, MaskedDistribution)):
        if isinstance(fn, MaskedDistribution):
            found.append((fn._mask, fn.event_dim))
        fn = fn.base_dist
    return [(mask, events) for mask, events in found if mask is not None and mask is not True]


def _kept(name: str, masks: list[tuple[Any, int]], whole: torch.Size, many: int) -> Tensor | None:
    """Positions in the flat site that count, the same for all images of a plate; ``None`` for all."""
    if not masks:
        return None
    each = torch.ones((*whole[:many], whole[many:].numel()), dtype=torch.bool)
    for mask, events in masks:
        try:
            here = _over_events(torch.as_tensor(mask).bool(), events).expand(whole)
        except RuntimeError as error:
            raise ModelError(
                f"the observed site {name!r} sits under poutine.mask with a mask of shape {tuple(mask.shape)}; "
                f"expected one that broadcasts to its measurements, {tuple(whole)}."
            ) from error
        each = each.to(here.device) & here.reshape(each.shape)
    if many and not bool((each == each[:1]).all()):
        raise ModelError(
            f"the observed site {name!r} sits under a poutine.mask that differs between the images of its plate; give "
            "all images one mask, or sample images of different masks one by one."
        )
    kept = (each[0] if many else each).nonzero().squeeze(-1)
    if not len(kept):
        raise ModelError(f"poutine.mask leaves nothing of the observed site {name!r}; leave the site out.")
    return None if len(kept) == each.shape[-1] else kept

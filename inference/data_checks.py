"""Measurements checked at the door, against the channel they came through and the units of the prior."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bayes_ir.inference.measured_sites import Measured
from bayes_ir.inference.problem import ModelError
from bayes_ir.models.channels import Channel, Gaussian
from bayes_ir.models.operators import LinearOperator, Operator
from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["checked"]

_GAINS: WeakKeyDictionary[LinearOperator, Tensor] = WeakKeyDictionary()


def checked(name: str, measured: Measured, prior: DiffusionPrior) -> Measured:
    """The site itself.

    Args:
        name: of the site.
        measured: its operator, channel and y.
        prior: law of the image.

    Raises:
        ModelError: where y is not finite, outside the channel's support or in other units than the prior's.
    """
    y = measured.y.detach().to(torch.float64)
    if not y.isfinite().all():
        raise ModelError(
            f"data[{name!r}] holds {int((~y.isfinite()).sum())} values that are not finite, the first at index "
            f"{tuple((~y.isfinite()).nonzero()[0].tolist())}; leave missing measurements out of the operator, or mask "
            "them with pyro.poutine.mask."
        )
    try:
        measured.channel.with_location(torch.zeros_like(y)).log_prob(y)
    except ValueError as error:
        raise ModelError(f"data[{name!r}]: {error}") from error
    _check_units(y, measured.operator, measured.channel, prior, name)
    return measured


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
    if operator not in _GAINS:  # a Gibbs sampler reads the same model again and again
        known = operator.has_svd
        _GAINS[operator] = (
            operator.gram_diagonal().double().sqrt() if known else torch.tensor(operator.norm())
        )
    gain = _GAINS[operator]
    bound = gain * largest + 10 * torch.as_tensor(channel.noise_std).double()
    excess = (y.abs() - bound.to(y.device)).amax()
    if excess > 0:
        raise ModelError(
            f"data[{name!r}] reaches {float(y.abs().max()):g}, more than this operator can make of any image with "
            f"values in [{low:g}, {high:g}], the prior's units (at most {float(bound.max()):g}); "
            "rescale the measurements, for 8-bit data by 1/255."
        )

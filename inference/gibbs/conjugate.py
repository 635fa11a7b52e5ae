r"""A nuisance parameter from its exact conditional, where the rest of the model is conjugate to its prior.

Let the prior of one number be of an exponential family with statistics ``t_1, t_2``, and the rest of the log joint
density, as a function of it, be

    f(theta) = log p(y, x, theta) - log p(theta) = c + eta_1 t_1(theta) + eta_2 t_2(theta).

Then ``p(theta | x, y)`` is of the prior's family, with ``eta`` added to its parameters:

    prior                    t_1          t_2               for instance
    InverseGamma(a, b)       -log theta   -1 / theta        the variance of Gaussian noise, eta = (M / 2, |r|^2 / 2)
    Gamma(a, b)              log theta    -theta            its precision
    Beta(a, b)               log theta    log(1 - theta)    the share of a mixture of two
    Normal(m, s)             theta        -theta^2 / 2      a gain or an offset under Gaussian noise

Nothing need be said of the model: f is evaluated at four values, three of which tell ``c`` and ``eta`` and the fourth
whether the form holds at all.  So several sensors, masks, exposures and priors of the image whose scale is unknown are
served alike.

Source: Diaconis and Ylvisaker 1979 (conjugate families).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from bayes_ir.inference.gibbs.joint import JointModel, Theta
from bayes_ir.inference.problem import ModelError

__all__ = ["ConjugateUpdate", "is_conjugate"]

_ROUNDING = 1e-4  # of sums of log densities in single precision


class _Family(NamedTuple):
    """Statistics of a value, values to look at around one, and the conditional of added parameters."""

    statistics: Callable[[Tensor], tuple[Tensor, Tensor]]
    around: Callable[[Tensor, Any], Tensor]
    conditional: Callable[[Any, float, float], Any]
    of_scale: bool


def _factors(value: Tensor, prior: Any) -> Tensor:
    return value * torch.tensor([0.5, 0.8, 1.25, 2.0], dtype=torch.float64)


def _normal(prior: Any, eta_1: float, eta_2: float) -> Any:
    precision = prior.scale.double() ** -2 + eta_2
    mean = (prior.loc.double() * prior.scale.double() ** -2 + eta_1) / precision
    return dist.Normal(mean, precision.rsqrt())


_FAMILIES: dict[type, _Family] = {
    dist.InverseGamma: _Family(
        lambda v: (-v.log(), -1 / v),
        _factors,
        lambda prior, *eta: dist.InverseGamma(*_added(prior.concentration, prior.rate, eta)),
        True,
    ),
    dist.Gamma: _Family(
        lambda v: (v.log(), -v),
        _factors,
        lambda prior, *eta: dist.Gamma(*_added(prior.concentration, prior.rate, eta)),
        True,
    ),
    dist.Beta: _Family(
        lambda v: (v.log(), (1 - v).log()),
        lambda value, prior: torch.sigmoid(
            torch.logit(value) + torch.tensor([-1.0, -0.3, 0.3, 1.0], dtype=torch.float64)
        ),
        lambda prior, *eta: dist.Beta(*_added(prior.concentration1, prior.concentration0, eta)),
        False,
    ),
    dist.Normal: _Family(
        lambda v: (v, -(v**2) / 2),
        lambda value, prior: (
            value + prior.scale.double() * torch.tensor([-1.0, -0.3, 0.3, 1.0], dtype=torch.float64)
        ),
        _normal,
        False,
    ),
}


def _added(first: Tensor, second: Tensor, eta: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    return first.double() + eta[0], second.double() + eta[1]


def is_conjugate(joint: JointModel, name: str, x: Tensor, theta: Theta, alone: bool) -> bool:
    """Whether a site may be drawn from its exact conditional.

    Scales (inverse gamma, gamma) always, others only where no continuous site moves beside them: gain and offset, say,
    depend on each other so much that they should move together.

    Args:
        joint: the model.
        name: the site.
        x: an image.
        theta: values of all sites.
        alone: whether it is the only continuous site.
    """
    prior = joint.latents[name]
    family = _FAMILIES.get(type(prior))
    if family is None or prior.batch_shape or not (family.of_scale or alone):
        return False
    try:
        ConjugateUpdate(joint, name).conditional(x, theta)
    except (ModelError, ValueError):
        return False
    return True


class ConjugateUpdate:
    """One number from its exact conditional.

    Args:
        joint: the model.
        name: the site, with a prior of the table.
    """

    def __init__(self, joint: JointModel, name: str) -> None:
        self._joint, self._name = joint, name
        self._prior = joint.latents[name]
        self._family = _FAMILIES[type(self._prior)]

    def __call__(self, x: Tensor, theta: Theta) -> tuple[Theta, dict[str, float]]:
        """A new value, the others as they were; raises as :meth:`conditional`."""
        value = self.conditional(x, theta).sample()
        return theta | {self._name: value.to(theta[self._name])}, {}

    def conditional(self, x: Tensor, theta: Theta) -> Any:
        """The law of the site given the image and the other sites.

        Raises:
            ModelError: the rest of the model does not have the form that is conjugate to the prior.
        """
        return self._family.conditional(self._prior, *self._parameters(x, theta))

    def _parameters(self, x: Tensor, theta: Theta) -> tuple[float, float]:
        """``eta``, from f at four values around the present one."""
        now = theta[self._name].double()
        values = self._family.around(now, self._prior)
        rest = []
        for value in values:
            at = value.to(theta[self._name].dtype)
            own = self._prior.log_prob(at).double()
            rest.append(self._joint.log_joint(x, theta | {self._name: at}).double() - own)
        f, size = torch.stack(rest), max(1.0, float(torch.stack(rest).abs().max()))
        design = torch.stack([torch.ones_like(values), *self._family.statistics(values)], dim=1)
        found = torch.linalg.lstsq(design, f[:, None]).solution[:, 0]
        error = float((design @ found - f).abs().max())
        if not math.isfinite(error) or error > _ROUNDING * size:
            raise ModelError(
                f"the rest of the model is not conjugate to the prior of {self._name!r}, {type(self._prior).__name__}: "
                f"around {float(now):.4g} its log density is off by {error:.2g} from the form that would be; use "
                "BlockedGibbs(conjugate=False)."
            )
        return float(found[1]), float(found[2])

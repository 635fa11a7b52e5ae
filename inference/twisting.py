r"""Twists: what y says of ``x_t`` by expectation propagation, and moves that follow it with known weights.

A belief ``x_0 ~ N(x0_hat, V)`` given ``x_t`` turns the channel into Gaussian sites and an evidence,

    p(y | z) ~ prod_m exp(h_m z_m - tau_m z_m^2 / 2) = s(z),     psi(x_t) = int p(y | z) N(z; m, K) dz,

psi being the *twist*.  A sampler's transition ``x_s = kept x_t + clean x_0 + noise z`` with ``x_0`` drawn from the
belief is the move ``p(x_s | x_t)`` of the prior, a Gaussian of covariance ``clean^2 V + noise^2``.  With ``x_0`` from
the belief *given the sites*, ``N(x0_hat + V A^T r, V_y)``, it is ``q(x_s | x_t) = p(x_s | x_t) S(x_t, x_s) / S(x_t)``,

    S(x_t)       = int s(z) N(z; m, K) dz
    S(x_t, x_s)  = int s(z) N(z; m', K') dz        the law of z given x_s as well,
    mu' = mu + G (x_s - kept x_t - clean mu),      G = clean V (clean^2 V + noise^2)^-1,     V' = V - clean G V

so that ``p / q = S(x_t) / S(x_t, x_s)``, two integrals over measurements.  They use the same sites, right or not: the
ratio is exact.  A further shift of q by ``clean delta`` (the Jacobian's gain instead of ``V A^T``) moves ``x_s`` and
adds the ratio of p at the two places.

Moving from the mean instead, with noise alone, is the move ``N(kept x_t + clean x0_hat, noise^2)`` of a prior whose
levels lie close; then ``log p / q = -|d|^2 / 2 - d^T z`` with ``d = clean (x0_hat(x_t, y) - x0_hat) / noise``.

Source: twisted diffusion samplers, Wu et al. 2023 (arXiv 2306.17775), whose twist is ``p(y | x0_hat)`` and whose moves
are from means.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bayes_ir.inference.covariances import SharedCovariance
from bayes_ir.inference.denoising_posterior import Belief
from bayes_ir.inference.expectation_propagation import (
    Sites,
    expectation_propagation,
    log_evidence,
    log_site_integral,
    range_slope,
)
from bayes_ir.inference.predictive import predictive
from bayes_ir.inference.predictive_laws import Spectral
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Transition
from bayes_ir.inference.system import System
from bayes_ir.models.channels import Gaussian

__all__ = ["Moved", "Twist", "twist"]

_TOLERANCE = 1e-2  # a twist need not be the fixed point: the weights know which sites were used


class Moved(NamedTuple):
    """Where particles went, and ``log p / q`` of the move."""

    x: Tensor  # (B, *event_shape)
    log_ratio: Tensor  # (B,), float64


class Twist(NamedTuple):
    """What y says of a batch of beliefs about ``x_0``."""

    x_t: Tensor  # (B, *event_shape)
    x0_hat: Tensor
    shift: Tensor  # K r, what y adds to x0_hat
    pulled_slope: Tensor  # A^T r
    mean: Tensor  # m, (B, M)
    sites: Sites
    log_psi: Tensor  # (B,)

    def take(self, rows: Tensor) -> Twist:
        """The beliefs with these numbers."""
        return Twist(
            self.x_t[rows],
            self.x0_hat[rows],
            self.shift[rows],
            self.pulled_slope[rows],
            self.mean[rows],
            Sites(self.sites.h[rows], self.sites.tau[rows]),
            self.log_psi[rows],
        )

    def moved_from_draw(self, system: System, v: SharedCovariance, q: Transition, rng: Rng) -> Moved:
        """A move by ``q(x_s | x_t, x_0)`` with ``x_0`` drawn from the belief given the sites."""
        shape, dtype = self.x_t.shape[1:], self.x_t.dtype
        law = _law(system, v, self.x_t)
        tau = self.sites.tau
        e = v.root(rng.normal(*shape))
        pseudo = tau * system.apply(e) + tau.sqrt() * rng.normal(system.measurements).double()
        solved = law.pull(range_slope(law, pseudo, tau, _own(system, tau)), dtype)
        x_0 = self.x0_hat + v(self.pulled_slope) + e - v(solved)
        x = q.mean(self.x_t, x_0) + q.noise * rng.normal(*shape)

        gain = v.mapped(lambda u: q.clean * u / (q.clean**2 * u + q.noise**2), ("gain", q))
        left = v.mapped(lambda u: u * q.noise**2 / (q.clean**2 * u + q.noise**2), ("left", q))
        innovation = x - q.mean(self.x_t, self.x0_hat)
        then = system.mean(self.x0_hat + gain(innovation))
        log_ratio = log_site_integral(law, self.mean, self.sites)
        log_ratio = log_ratio - log_site_integral(_law(system, left, x), then, self.sites)

        delta = q.clean * (self.shift - v(self.pulled_slope))
        if not (q.noise > 0 and delta.any()):
            return Moved(x, log_ratio)
        precision = v.mapped(lambda u: 1 / (q.clean**2 * u + q.noise**2), ("precision", q))
        change = (precision(delta) * (innovation + delta / 2)).flatten(1).double().sum(1)
        return Moved(x + delta, log_ratio - change)

    def moved_from_mean(self, q: Transition, rng: Rng) -> Moved:
        """A move by ``q(x_s | x_t, x_0)`` from the mean of ``x_0`` given y."""
        z = rng.normal(*self.x_t.shape[1:])
        x = q.mean(self.x_t, self.x0_hat + self.shift) + q.noise * z
        d = (q.clean / q.noise * self.shift).flatten(1).double()
        return Moved(x, -(d * (d / 2 + z.flatten(1).double())).sum(1))


def twist(
    system: System, x_t: Tensor, belief: Belief, start: Sites | None = None, per_site: bool = False
) -> Twist:
    """The twist of a batch of beliefs, by expectation propagation; a Gaussian channel's is exact.

    Args:
        system: ``D^-1 A`` and the channel.
        x_t: the states that the beliefs are given, (B, *event_shape).
        belief: ``N(mu, V)`` given ``x_t``.
        start: sites to start from.
        per_site: own site variances instead of a shared one.

    Raises:
        ModelError: where ``A V A^T`` is too large to decompose.
    """
    law, mean = _law(system, belief.covariance, belief.mean), system.mean(belief.mean)
    if isinstance(system.channel, Gaussian):
        sites = Sites((system.y / system.noise).expand_as(mean), torch.ones_like(mean[:, :1]))
        slope = range_slope(law, sites.h - mean, sites.tau, _own(system, sites.tau))
    else:
        found = expectation_propagation(law, mean, start=start, per_site=per_site, tolerance=_TOLERANCE)
        # Sites that did not settle, or are no density, are replaced by none: the twist needs no particular sites.
        sound = (found.residual < 0.5) & (found.sites.tau >= 0).all(1)
        sites = Sites(*(torch.where(sound[:, None], site, 0.0) for site in found.sites))
        slope = torch.where(sound[:, None], found.range_slope, 0.0)
    pulled = law.pull(slope, belief.mean.dtype)
    shift = belief.gain(pulled)
    return Twist(x_t, belief.x0_hat, shift, pulled, mean, sites, log_evidence(law, mean, sites))


def _law(system: System, covariance: object, like: Tensor) -> Spectral:
    law = predictive(system, covariance, like, spectral=True)  # type: ignore[arg-type]
    assert isinstance(law, Spectral)
    return law


def _own(system: System, tau: Tensor) -> bool:
    """Whether sites have variances of their own."""
    return tau.shape[1] > 1 or system.measurements == 1

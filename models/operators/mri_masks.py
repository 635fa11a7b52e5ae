r"""Sampling masks of k-space for accelerated magnetic resonance imaging.

A mask is a bool tensor (H, W), True where k-space is sampled, with the constant term (DC) at (H // 2, W // 2) as
in :func:`to_kspace`.  Its acceleration R is points over sampled points, and every mask here holds *exactly*

    columns: round(W / R) full columns,      points: round(H W / R) points,

drawn without replacement.  (Masks of several released codes are drawn with replacement, and sample less than they say.)

The centre is always sampled: round(f W) columns, or a rectangle of round(f H) x round(f W) points, around DC and
DC at least.  The published fractions are f = 0.08 at R = 4 and f = 0.04 at R = 8; the default f = 0.32 / R goes
through both.

The other columns or points are drawn

    uniform_1d      with equal chance,
    gaussian_1d/2d  with weights exp(-|k|^2 / (2 spread^2)), k in units of the width (and height) of k-space,
    poisson_disk    as darts that keep their distance: |p - q| >= max(r(p), r(q)) for any two samples p, q that are
                    not both in the centre, with the radius r(k) = r_0 (1 + slope |k|), |k| = 1 amid an edge.

All numbers are drawn on the CPU in float64, so a seed gives one mask everywhere.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bayes_ir.models.operators._checks import as_shape, seeded_generator
from bayes_ir.models.operators._image_checks import as_positive
from bayes_ir.models.operators.poisson_darts import poisson_darts

__all__ = ["gaussian_1d", "gaussian_2d", "poisson_disk", "uniform_1d"]


def uniform_1d(
    shape: Any, acceleration: float, centre_fraction: float | None = None, seed: int = 0
) -> Tensor:
    """Columns with equal chance: phase-encoding lines of a Cartesian scan.

    Args:
        shape: (H, W) of k-space.
        acceleration: ``R >= 1``, columns over sampled columns.
        centre_fraction: ``f``, share of the columns that form the centre; by default ``0.32 / R``.
        seed: seed of the columns.

    Returns:
        The mask, bool, shape (H, W).

    Raises:
        TypeError: for a shape that is no tuple, or a seed that is no whole number.
        ValueError: for a shape that is not (H, W), ``R < 1`` or beyond W, or a centre that exceeds the columns.
    """
    where = "uniform_1d"
    plane = _plane(where, shape)
    return _columns(
        where, plane, acceleration, centre_fraction, torch.zeros(plane[1], dtype=torch.float64), seed
    )


def gaussian_1d(
    shape: Any,
    acceleration: float,
    centre_fraction: float | None = None,
    seed: int = 0,
    spread: float = 15 / 128,
) -> Tensor:
    """Columns with Gaussian weights, denser towards the centre.

    Args:
        shape: (H, W) of k-space.
        acceleration: ``R >= 1``, columns over sampled columns; published with 4 and 8.
        centre_fraction: ``f``, share of the columns that form the centre; by default ``0.32 / R``.
        seed: seed of the columns.
        spread: standard deviation of the weights, as a share of W.

    Returns:
        The mask, bool, shape (H, W).

    Raises:
        TypeError: for a shape that is no tuple, or a seed that is no whole number.
        ValueError: as :func:`uniform_1d`, or for a spread that is not positive.

    Source: Chung and Ye 2022, "Score-based diffusion models for accelerated MRI", for the spread.
    """
    where = "gaussian_1d"
    plane = _plane(where, shape)
    weights = -_square(plane[1]) / (2 * as_positive(where, "spread", spread) ** 2)
    return _columns(where, plane, acceleration, centre_fraction, weights, seed)


def gaussian_2d(
    shape: Any,
    acceleration: float,
    centre_fraction: float | None = None,
    seed: int = 0,
    spread: float = 15 / 128,
) -> Tensor:
    """Points with Gaussian weights: the two phase-encoding directions of a volume.

    Args:
        shape: (H, W) of k-space.
        acceleration: ``R >= 1``, points over sampled points; published with 8 and 15.
        centre_fraction: ``f``, share of each side that forms the central rectangle; by default ``0.32 / R``.
        seed: seed of the points.
        spread: standard deviation of the weights, as a share of each side.

    Returns:
        The mask, bool, shape (H, W).

    Raises:
        TypeError: for a shape that is no tuple, or a seed that is no whole number.
        ValueError: for a shape that is not (H, W), ``R < 1`` or beyond the number of points, a centre that exceeds
            the points, or a spread that is not positive.
    """
    where = "gaussian_2d"
    plane = _plane(where, shape)
    centre, budget = _centre_2d(where, plane, acceleration, centre_fraction)
    square = _square(plane[0])[:, None] + _square(plane[1])
    weights = -square / (2 * as_positive(where, "spread", spread) ** 2)
    chosen = _draw(weights.flatten(), centre.flatten(), budget, seeded_generator(where, seed))
    return chosen.unflatten(0, plane)


def poisson_disk(
    shape: Any,
    acceleration: float,
    centre_fraction: float | None = None,
    seed: int = 0,
    slope: float = 3.0,
    tolerance: float = 0.02,
) -> Tensor:
    """Points at random that keep their distance, denser towards the centre (a variable-density Poisson disk).

    The points of the grid are thrown as darts in random order until no more fit; ``r_0`` is searched so that slightly
    more fit than are wanted, and the last ones are left out.

    Args:
        shape: (H, W) of k-space.
        acceleration: ``R >= 1``, points over sampled points; published with 8 and 15.
        centre_fraction: ``f``, share of each side that forms the central rectangle; by default ``0.32 / R``.
        seed: seed of the order of the darts.
        slope: ``slope >= 0``, growth of the radius from DC to the middle of an edge; 0 for a uniform disk.
        tolerance: share of darts that may be left out.  It ends the search; where the grid is too coarse for it
            (a uniform disk has few different distances), the closest radius found is taken.

    Returns:
        The mask, bool, shape (H, W).

    Raises:
        TypeError: for a shape that is no tuple, or a seed that is no whole number.
        ValueError: for a shape that is not (H, W), ``R < 1`` or beyond the number of points, a centre that exceeds
            the points, a negative slope, or a tolerance that is not positive.

    Source: Vasanawala et al. 2011, "Practical parallel imaging compressed sensing MRI", for the pattern; dart
    throwing is Cook 1986, "Stochastic sampling in computer graphics".
    """
    where = "poisson_disk"
    plane = _plane(where, shape)
    centre, budget = _centre_2d(where, plane, acceleration, centre_fraction)
    if not 0 <= slope < math.inf:
        raise ValueError(f"{where}: expected slope >= 0, got {slope}.")
    tolerance = as_positive(where, "tolerance", tolerance)
    draws = torch.rand(plane.numel(), generator=seeded_generator(where, seed), dtype=torch.float64)
    draws[centre.flatten()] = -1.0  # the centre goes first
    profile = 1 + slope * (4 * (_square(plane[0])[:, None] + _square(plane[1]))).sqrt().numpy()
    steepest = 2 * slope / min(plane)  # of the profile, per point
    darts = poisson_darts(profile, steepest, draws.argsort().tolist(), int(centre.sum()), budget, tolerance)
    chosen = torch.zeros(plane.numel(), dtype=torch.bool)
    chosen[darts] = True
    return chosen.unflatten(0, plane)


def _plane(where: str, shape: Any) -> torch.Size:
    plane = as_shape(where, "shape", shape)
    if len(plane) != 2:
        raise ValueError(
            f"{where}: expected shape=(H, W), got {tuple(plane)}; coils and channels share one mask."
        )
    return plane


def _square(n: int) -> Tensor:
    """Squared distance from DC, as a share of k-space: from 0 to 1/4."""
    return ((torch.arange(n, dtype=torch.float64) - n // 2) / n).square()


def _fraction(where: str, acceleration: float, centre_fraction: float | None) -> float:
    if not 1 <= acceleration < math.inf:
        raise ValueError(
            f"{where}: expected acceleration >= 1 (points over sampled points), got {acceleration}."
        )
    fraction = 0.32 / acceleration if centre_fraction is None else centre_fraction
    if not 0 <= fraction <= 1:
        raise ValueError(f"{where}: expected 0 <= centre_fraction <= 1, got {centre_fraction}.")
    return fraction


def _middle(n: int, fraction: float) -> Tensor:
    """The ``round(fraction n)`` places around DC, one at least."""
    count = max(round(fraction * n), 1)
    place = torch.arange(n) - (n // 2 - count // 2)
    return (place >= 0) & (place < count)


def _budget(where: str, things: str, total: int, acceleration: float, centre: Tensor, fraction: float) -> int:
    budget, core = round(total / acceleration), int(centre.sum())
    if budget < 1:
        raise ValueError(f"{where}: acceleration={acceleration} leaves none of the {total} {things}.")
    if core > budget:
        raise ValueError(
            f"{where}: a centre of {core} {things} (centre_fraction={fraction:g}) exceeds the {budget} of {total} "
            f"that acceleration={acceleration} allows; try a smaller centre_fraction."
        )
    return budget


def _columns(
    where: str, plane: torch.Size, acceleration: float, fraction: float | None, weights: Tensor, seed: int
) -> Tensor:
    fraction = _fraction(where, acceleration, fraction)
    centre = _middle(plane[1], fraction)
    budget = _budget(where, "columns", plane[1], acceleration, centre, fraction)
    return _draw(weights, centre, budget, seeded_generator(where, seed)).expand(plane).clone()


def _centre_2d(
    where: str, plane: torch.Size, acceleration: float, fraction: float | None
) -> tuple[Tensor, int]:
    fraction = _fraction(where, acceleration, fraction)
    centre = _middle(plane[0], fraction)[:, None] & _middle(plane[1], fraction)
    return centre, _budget(where, "points", plane.numel(), acceleration, centre, fraction)


def _draw(log_weights: Tensor, centre: Tensor, budget: int, generator: torch.Generator) -> Tensor:
    """Centre and others without replacement: the largest ``log w + Gumbel noise`` (Efraimidis and Spirakis 2006)."""
    uniform = torch.rand(len(centre), generator=generator, dtype=torch.float64)
    keys = log_weights - (-uniform.log()).log()
    keys[centre] = math.inf
    chosen = torch.zeros_like(centre)
    chosen[keys.argsort(descending=True)[:budget]] = True
    return chosen

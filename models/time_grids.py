r"""Grids of times for a sampler: descending, float64, from the noisiest to the least noisy.

With ``r(t) = b(t) / a(t)`` the noise ratio, ``u_i = i / (n - 1)`` and ``i = 0 .. n - 1``, a grid is
a power of time or of the noise ratio that changes in equal steps,

    uniform      t_i       = t_high + u_i (t_low - t_high)
    quadratic    t_i^(1/2) = t_high^(1/2) + u_i (t_low^(1/2) - t_high^(1/2))
    root         (t_high - t_i)^2 = u_i (t_high - t_low)^2
    geometric    log r_i   = log r_high + u_i (log r_low - log r_high)
    karras       r_i^(1/rho) = r_high^(1/rho) + u_i (r_low^(1/rho) - r_high^(1/rho)),   rho = 7

with ``t_i = r^-1(r_i)``, or a subset of the whole steps of a discrete process (``ddim``).  The
bounds are ``t_max`` and ``t_min`` of the process, brought inside ``noise_range = (low, high)``, a
range of ``r``, where one is given.  Both bounds are on the grid; the last step, to the clean
image, is the sampler's.

Sources: Song, Meng and Ermon 2021 (DDIM), appendix D.2 (uniform, quadratic, ddim); Song and Ermon
2020 (NCSNv2), section 3 (geometric); Karras et al. 2022, equation 5 (karras); Zhu et al. 2023
(DiffPIR), arXiv 2305.08995, whose released code has the grid root.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bayes_ir.models.diffusion import DDPM, Diffusion

__all__ = [
    "GRIDS",
    "ddim_grid",
    "geometric_grid",
    "karras_grid",
    "quadratic_grid",
    "root_grid",
    "uniform_grid",
]

NoiseRange = tuple[float, float]


def uniform_grid(diffusion: Diffusion, steps: int, *, noise_range: NoiseRange | None = None) -> Tensor:
    """Times in equal steps, shape (steps,), float64, descending.

    Args:
        diffusion: forward process the times belong to.
        steps: number of times, at least 2.
        noise_range: smallest and largest noise ratio ``b / a`` to visit.

    Raises:
        ValueError: for fewer than two steps, or when no time of the process lies in ``noise_range``.
    """
    high, low = _time_bounds(diffusion, steps, noise_range, "uniform_grid")
    return _between(high, low, steps)


def quadratic_grid(diffusion: Diffusion, steps: int, *, noise_range: NoiseRange | None = None) -> Tensor:
    """Times whose square roots are in equal steps, denser at low noise; as :func:`uniform_grid`."""
    high, low = _time_bounds(diffusion, steps, noise_range, "quadratic_grid")
    return _with_ends(_between(high.sqrt(), low.sqrt(), steps) ** 2, high, low)


def root_grid(diffusion: Diffusion, steps: int, *, noise_range: NoiseRange | None = None) -> Tensor:
    """Squared distances from the noisiest time in equal steps, denser at low noise; as :func:`uniform_grid`."""
    high, low = _time_bounds(diffusion, steps, noise_range, "root_grid")
    return _with_ends(high - _between(torch.zeros_like(low), (high - low) ** 2, steps).sqrt(), high, low)


def geometric_grid(diffusion: Diffusion, steps: int, *, noise_range: NoiseRange | None = None) -> Tensor:
    """Noise ratios in equal proportion, the NCSN schedule; as :func:`uniform_grid`.

    Raises:
        ValueError: also when the noise ratio at ``t_max`` is infinite and no ``noise_range`` bounds it.
    """
    high, low = _time_bounds(diffusion, steps, noise_range, "geometric_grid")
    r_high, r_low = _ratio_bounds(diffusion, high, low, "geometric_grid")
    ratios = _between(r_high.log(), r_low.log(), steps).exp()
    return _with_ends(diffusion.time_at(ratios), high, low)


def karras_grid(
    diffusion: Diffusion, steps: int, *, rho: float = 7.0, noise_range: NoiseRange | None = None
) -> Tensor:
    """Noise ratios whose ``1/rho`` powers are in equal steps; as :func:`geometric_grid`.

    Args:
        diffusion: forward process the times belong to.
        steps: number of times, at least 2.
        rho: exponent; 1 is uniform in the noise ratio, infinity would be :func:`geometric_grid`.
        noise_range: smallest and largest noise ratio ``b / a`` to visit.
    """
    if not rho > 0:
        raise ValueError(f"karras_grid: rho must be positive, got {rho}; the published value is 7.")
    high, low = _time_bounds(diffusion, steps, noise_range, "karras_grid")
    r_high, r_low = _ratio_bounds(diffusion, high, low, "karras_grid")
    ratios = _between(r_high ** (1 / rho), r_low ** (1 / rho), steps) ** rho
    return _with_ends(diffusion.time_at(ratios), high, low)


def ddim_grid(
    diffusion: DDPM, steps: int, *, both_ends: bool = False, noise_range: NoiseRange | None = None
) -> Tensor:
    """Whole steps of a DDPM, as the DDIM and DDRM codes pick them; float64, descending.

    With stride ``s = T // steps`` the published indices are ``{0, s, 2s, ...}`` below ``T``, so
    20 of 1000 steps start at index 950, not at 999.  Time here counts steps, so index ``i`` is
    time ``i + 1``.  Where ``steps`` does not divide ``T`` the published set, and this one, has
    more than ``steps`` members.

    Args:
        diffusion: the discrete process.
        steps: number of times, 1 to ``T``.
        both_ends: instead take exactly ``steps`` indices evenly spaced from 0 to ``T - 1``.
        noise_range: leave out the times whose noise ratio ``b / a`` is outside.

    Raises:
        TypeError: for a process that has no whole steps.
        ValueError: when ``steps`` is not between 1 and ``T`` (2 and ``T`` with ``both_ends``), or no
            time is left.
    """
    if not isinstance(diffusion, DDPM):
        raise TypeError(
            f"ddim_grid: got {diffusion!r}, which has no whole steps; expected a DDPM. "
            "Use uniform_grid for a continuous process."
        )
    fewest = 2 if both_ends else 1
    if not fewest <= steps <= diffusion.steps:
        raise ValueError(f"ddim_grid: expected {fewest} to {diffusion.steps} steps, got {steps}.")
    if both_ends:
        index = torch.linspace(0, diffusion.steps - 1, steps, dtype=torch.float64).round()
    else:
        index = torch.arange(0, diffusion.steps, diffusion.steps // steps, dtype=torch.float64)
    times = index.flip(0) + 1
    if noise_range is not None:
        ratio = diffusion.ratio(times)
        times = times[(ratio >= noise_range[0]) & (ratio <= noise_range[1])]
    if times.numel() == 0:
        raise ValueError(f"ddim_grid: none of the {steps} steps has a noise ratio within {noise_range}.")
    return times


GRIDS: dict[str, Callable[..., Tensor]] = {
    "ddim": ddim_grid,
    "geometric": geometric_grid,
    "karras": karras_grid,
    "quadratic": quadratic_grid,
    "root": root_grid,
    "uniform": uniform_grid,
}


def _time_bounds(
    diffusion: Diffusion, steps: int, noise_range: NoiseRange | None, name: str
) -> tuple[Tensor, Tensor]:
    if steps < 2:
        raise ValueError(f"{name}: a grid has at least 2 times, its two ends; got steps={steps}.")
    high = torch.tensor(diffusion.t_max, dtype=torch.float64)
    low = torch.tensor(diffusion.t_min, dtype=torch.float64)
    if noise_range is not None:
        if not 0 < noise_range[0] < noise_range[1]:
            raise ValueError(f"{name}: expected a noise_range 0 < low < high, got {noise_range}.")
        low = torch.maximum(low, diffusion.time_at(noise_range[0]))
        high = torch.minimum(high, diffusion.time_at(noise_range[1]))
    if not low < high:
        raise ValueError(
            f"{name}: {diffusion!r} visits noise ratios {float(diffusion.ratio(diffusion.t_min)):.3g} to "
            f"{float(diffusion.ratio(diffusion.t_max)):.3g}, none of them within noise_range {noise_range}."
        )
    return high, low


def _ratio_bounds(diffusion: Diffusion, high: Tensor, low: Tensor, name: str) -> tuple[Tensor, Tensor]:
    r_high, r_low = diffusion.ratio(high), diffusion.ratio(low)
    if not r_high.isfinite():
        raise ValueError(
            f"{name}: {diffusion!r} has no signal left at t_max, so its noise ratio is infinite there; "
            "give noise_range=(low, high), for example the noise_range of the prior."
        )
    return r_high, r_low


def _between(start: Tensor, end: Tensor, steps: int) -> Tensor:
    return _with_ends(
        start + torch.arange(steps, dtype=torch.float64) / (steps - 1) * (end - start), start, end
    )


def _with_ends(grid: Tensor, start: Tensor, end: Tensor) -> Tensor:
    # Powers and logarithms round; the ends are exactly the bounds (RectifiedFlow must not pass t = 1).
    grid[0], grid[-1] = start, end
    return grid

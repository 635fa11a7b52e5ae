r"""Principal modes of posterior variation: the directions in which the draws differ most.

With the covariance of the draws C = (1 / (n - 1)) sum_j (x_j - m)(x_j - m)^T,

    C v_k = s_k^2 v_k          v_k a mode (unit norm), s_k the sd of the draws along it, s_k^2 / tr C its share

C has N x N entries and is never made. A randomised range finder works with N x l numbers, l = k + oversampling: from
random columns Q, each pass over the draws gives

    Y = C Q = (1 / (n - 1)) sum_j (x_j - m) ((x_j - m)^T Q)

whose Ritz pairs (V = Q W, Q^T Y = W diag(s^2) W^T) are the estimate, with the residual |C v - s^2 v| known at no cost;
Q is then made orthonormal from Y W, which turns it towards the leading modes by a factor s_k^2 / s_(l+1)^2 per pass. An
eigenvalue is off by no more than its residual, and by its square over the gap to the next where they are apart.

Source: Halko, Martinsson and Tropp 2011 (10.1137/090771806), algorithm 4.4 with a Rayleigh-Ritz step.
"""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr

from bayes_ir.analysis.draws import map_of, moments, plates_first, posterior_draws
from bayes_ir.analysis.left_out import announced
from bayes_ir.analysis.streaming import finite_blocks

__all__ = ["UnsettledModesWarning", "principal_modes"]


class UnsettledModesWarning(UserWarning):
    """The passes over the draws did not separate the wanted modes from the others."""


def principal_modes(
    posterior: xr.DataTree,
    k: int = 6,
    *,
    passes: int = 8,
    tolerance: float = 1e-3,
    oversampling: int = 10,
    seed: int = 0,
    var_name: str | None = None,
) -> xr.Dataset:
    """The k leading modes of posterior variation as images, the sd along each, and their shares of the variance.

    Args:
        posterior: what `bir.sample` or `open_posterior` gave.
        k: number of modes, less than the number of finite draws and no more than there are pixels.
        passes: most passes over the draws, after the one for the mean; they end as soon as the modes are settled.
        tolerance: residual |C v - s^2 v| / s_1^2 at which a mode is settled.
        oversampling: further columns that are carried along.
        seed: of the random first columns.
        var_name: name of the image site; needed only when there are several.

    Returns:
        `mode` (mode, *event) of unit norm, its largest entry positive; `sd`, `share` and `residual` over `mode`; `mean`
        (*event). Attribute `passes`: how often the draws were read.

    Raises:
        ValueError: k is out of range, the posterior has a plate, there are fewer than two finite draws, or all are
            alike.
    """
    draws, plates = plates_first(posterior_draws(posterior, var_name))
    if plates:
        raise ValueError(
            f"principal_modes: the draws have the plate {plates[0]!r} of {draws.sizes[plates[0]]} images, each with "
            f"modes of its own; give the draws of one, posterior['posterior'][{draws.name!r}].isel({plates[0]}=0)"
        )
    centre = moments(draws)
    size, count = centre.mean.size, centre.used
    if count < 2:
        raise ValueError("principal_modes: one finite draw does not vary; draw at least two, better 100")
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= min(count - 1, size):
        raise ValueError(
            f"principal_modes: k must be an integer from 1 to {min(count - 1, size)} (finite draws less one, or "
            f"pixels), got {k!r}"
        )
    if passes < 1 or oversampling < 0:
        raise ValueError(
            f"principal_modes: passes must be at least 1 and oversampling at least 0, got {passes!r}, {oversampling!r}"
        )
    total = float((centre.sd**2).sum())
    if not (centre.sd > 1e-14 * np.abs(centre.mean)).any():  # less is what rounding makes of equal draws
        raise ValueError("principal_modes: the draws are all alike, there is no variation to take apart")
    mean = centre.mean.values.ravel()
    columns = min(k + oversampling, size)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, columns)))[0]
    reads = 1
    for _ in range(passes):
        reads += 1
        image = _covariance_times(draws, mean, basis) / (count - 1)
        ritz = basis.T @ image
        values, vectors = np.linalg.eigh((ritz + ritz.T) / 2)
        values, vectors = values[::-1], vectors[:, ::-1]
        modes, turned = basis @ vectors, image @ vectors
        residual = np.linalg.norm(turned - modes * values, axis=0)[:k] / values[0]
        if residual.max() <= tolerance:
            break
        basis = np.linalg.qr(turned)[0]
    else:
        warnings.warn(
            f"principal_modes: after {passes} passes the residual of a mode is {residual.max():.2g} of the largest "
            f"variance, wanted {tolerance:g}: modes of nearly equal variance; give more passes or oversampling",
            UnsettledModesWarning,
            stacklevel=2,
        )
    values, modes = np.clip(values[:k], 0, None), modes[:, :k]
    modes = modes * np.sign(modes[np.abs(modes).argmax(axis=0), np.arange(k)])
    images = modes.T.reshape(k, *centre.mean.shape)
    found = xr.Dataset(
        {
            "mode": map_of(draws, images, count, {"mode": np.arange(k)}).rename("mode"),
            "sd": ("mode", np.sqrt(values)),
            "share": ("mode", values / total),
            "residual": ("mode", residual),
            "mean": centre.mean,
        },
        attrs=centre.mean.attrs | {"passes": reads},
    )
    return announced(found)


def _covariance_times(draws: xr.DataArray, mean: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """sum_j (x_j - m) ((x_j - m)^T Q), in one pass."""
    image = np.zeros_like(basis)
    for block in finite_blocks(draws):
        x = block.reshape(len(block), -1)
        x -= mean
        image += x.T @ (x @ basis)
    return image

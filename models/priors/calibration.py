r"""How far a denoiser is from the truth: the mean covariance of the denoising posterior.

With ``x_t / a = x_0 + r eps`` at the noise ratio ``r = b / a``, and in an orthonormal basis ``q_1 .. q_R``,

    v_i(r) = E[(q_i^T (x_0 - x0_hat(x_t)))^2],

the expectation over images and noise.  Then ``V(r) = sum_i v_i q_i q_i^T``, with one more number for what an
incomplete basis leaves out, is the covariance of its form that maximises ``E log N(x_0; x0_hat(x_t), V)``; for an
exact denoiser ``v_i`` is the diagonal of ``E[Cov(x_0 | x_t)]``.

An exact denoiser is the best estimator in every direction, better than ``x_t / a`` and than the mean of the prior,
so its ``v_i(r) <= min(r^2, Var(q_i^T x_0))``.  A learned one may exceed both; what is kept is its error as measured.

Source: Bao et al. 2022 (arXiv 2201.06503) for a scalar; Peng et al. 2024 (arXiv 2402.02149) for orthonormal bases.
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from bayes_ir.models.diffusion import VarianceExploding
from bayes_ir.models.priors.bases import Basis, make_basis, moved_basis

if TYPE_CHECKING:
    from bayes_ir.models.priors.base import DiffusionPrior

__all__ = ["Calibration", "calibrate", "fit_calibration", "noise_levels", "positive"]

Prior = TypeVar("Prior", bound="DiffusionPrior")


@dataclass(frozen=True, eq=False)
class Calibration:
    """Variances ``v_i(r)`` of a denoiser's error, tabulated over the noise ratio.

    Attributes:
        basis: the ``q_i``; ``None`` for a scalar, ``V = v I``.
        ratios: noise ratios ``r = b / a``, ascending, (L,), float64, in units of the data.
        variances: ``v_i(r)``, positive, (L, R), float64, in squared units of the data; R = 1 for a scalar.
        rest: variance in every direction orthogonal to an incomplete basis, (L,); zeros where nothing is left out.

    Raises:
        ValueError: when the shapes do not fit, the ratios do not ascend or a variance is not positive.
    """

    basis: Basis | None
    ratios: Tensor
    variances: Tensor
    rest: Tensor

    def __post_init__(self) -> None:
        levels, rank = self.ratios.numel(), 1 if self.basis is None else self.basis.rank
        got = tuple(tuple(t.shape) for t in (self.ratios, self.variances, self.rest))
        if levels < 2 or got != ((levels,), (levels, rank), (levels,)):
            raise ValueError(
                f"Calibration: got ratios, variances and rest of shapes {got}; expected (L,), (L, {rank}) and (L,) "
                "with L >= 2."
            )
        if not (self.ratios[0] > 0 and (self.ratios.diff() > 0).all() and self.ratios.isfinite().all()):
            raise ValueError(
                f"Calibration: ratios must be positive, finite and ascend; got {self.ratios.tolist()}."
            )
        smallest = 0.0 if self.basis is not None and not self.basis.complete else -1e-300
        for name, v, bound in (("variances", self.variances, 0.0), ("rest", self.rest, smallest)):
            if not ((v > bound) & v.isfinite()).all():
                raise ValueError(
                    f"Calibration: {name} must be positive and finite; got values from {float(v.min()):g} to "
                    f"{float(v.max()):g}."
                )

    def at(self, ratio: Tensor | float) -> tuple[Tensor, Tensor]:
        """``v_i`` and the variance on the complement at a noise ratio, float64.

        Linear between the levels in ``log v`` against ``log r``.  Below the first level ``v`` falls as ``r^2``,
        since there ``x_t`` tells all; above the last one, where it tells nothing, it stays.  Values are not cut at
        ``r^2``: an exact denoiser keeps below it, a learned one need not.

        Args:
            ratio: ``r = b / a``, a number or a tensor (*batch,), from 0 to infinity.

        Returns:
            Tensors of shapes (*batch, R) and (*batch,).
        """
        r = torch.as_tensor(ratio, dtype=torch.float64, device=self.ratios.device)
        low, high = self.ratios[0], self.ratios[-1]
        inside = r.clamp(low, high)
        right = torch.searchsorted(self.ratios, inside.contiguous()).clamp(1, len(self.ratios) - 1)
        start, end = self.ratios[right - 1].log(), self.ratios[right].log()
        part = (inside.log() - start) / (end - start)
        below = (r / low).clamp(max=1) ** 2

        def between(v: Tensor, part: Tensor, below: Tensor) -> Tensor:
            return below * v[right - 1] ** (1 - part) * v[right] ** part

        return between(self.variances, part[..., None], below[..., None]), between(self.rest, part, below)

    def at_level(self, ratio: float) -> tuple[Tensor, float]:
        """:meth:`at` of one noise ratio, (R,) and a number that no device is asked for."""
        return self._between(self.variances, ratio), self._between(self._numbers[1], ratio)

    def scalar_at(self, ratio: float) -> float:
        """``v`` of a scalar calibration at one noise ratio."""
        return self._between(self._numbers[1], ratio)

    def _between(self, table: Any, ratio: float) -> Any:
        """The interpolation of :meth:`at` between the rows of a table."""
        ratios, _ = self._numbers
        inside = min(max(ratio, ratios[0]), ratios[-1])
        right = max(bisect_left(ratios, inside), 1)
        part = math.log(inside / ratios[right - 1]) / math.log(ratios[right] / ratios[right - 1])
        below = min(ratio / ratios[0], 1.0) ** 2
        return below * table[right - 1] ** (1 - part) * table[right] ** part

    @cached_property
    def _numbers(self) -> tuple[list[float], list[float]]:
        """The ratios, and the rest or, of a scalar, its variances, off the device."""
        single = self.variances[:, 0] if self.basis is None else self.rest
        return self.ratios.tolist(), single.tolist()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Calibration:
        """The same calibration on another device; ``dtype`` is that of the basis, the variances stay float64.

        Where nothing changes it is the calibration itself.
        """
        basis = None if self.basis is None else moved_basis(self.basis, device, dtype)
        tables = {name: getattr(self, name).to(device) for name in ("ratios", "variances", "rest")}
        if basis is self.basis and all(v is getattr(self, name) for name, v in tables.items()):
            return self
        moved = copy.copy(self)
        moved.__dict__.update(tables, basis=basis)
        return moved


def fit_calibration(
    prior: DiffusionPrior,
    images: Tensor,
    bases: Sequence[str] = ("scalar", "dct", "pca"),
    levels: int = 24,
    seed: int = 0,
    batch_size: int = 256,
    components: Tensor | None = None,
) -> dict[str, Calibration]:
    r"""Calibrations of any prior's denoiser from images it was not trained on.

    At each of ``levels`` noise ratios, geometric over ``prior.noise_range``, every image is noised once and denoised
    once; ``v_i(r)`` is the mean of ``(q_i^T (x_0 - x0_hat))^2`` over the n images, of relative standard error
    ``(2 / n)^{1/2}`` where errors are normal.  All bases share the ``levels * n`` network evaluations.

    Args:
        prior: whose denoiser.
        images: held-out images (n, *event_shape) in the prior's units.
        bases: of ``"scalar"``, ``"pixel"``, ``"dct"`` and ``"pca"``.
        levels: number of noise ratios, at least 2.
        seed: of the noise.
        batch_size: images denoised at once; the noise does not depend on it.
        components: orthonormal columns (N, R) of the basis ``"pca"``, by default the ``min(N, 256)`` leading
            eigenvectors of the covariance of ``images``.

    Raises:
        ValueError: for an unknown basis, fewer than 2 levels, or images that are fewer than 2, of another shape, not
            finite or in other units.
    """
    _check_images(prior, images)
    ratios = noise_levels(prior.noise_range, levels)
    chosen = {name: make_basis(name, prior.event_shape, images, components, prior.device) for name in bases}
    process = VarianceExploding(*prior.noise_range)
    noised, rng = prior.with_diffusion(process), torch.Generator().manual_seed(seed)
    rows: dict[str, list[Tensor]] = {name: [] for name in chosen}
    for ratio in ratios:
        sums = dict.fromkeys(chosen, torch.zeros((), dtype=torch.float64, device=prior.device))
        for batch in images.split(batch_size):
            eps = torch.stack([torch.randn(prior.event_shape, generator=rng) for _ in batch])
            x, eps = (v.to(prior.device, prior.dtype) for v in (batch, eps))
            with torch.no_grad():
                error = x.double() - noised.denoise(x + float(ratio) * eps, process.time_at(ratio)).double()
            for name, basis in chosen.items():
                sums[name] = sums[name] + _energies(error, basis)
        for name in chosen:
            rows[name].append(sums[name] / len(images))
    return {name: _tabulated(chosen[name], ratios, torch.stack(rows[name])) for name in chosen}


def calibrate(prior: Prior, images: Tensor | None = None, *, seed: int = 0, **settings: Any) -> Prior:
    """A copy of a prior that carries calibrations fitted by :func:`fit_calibration`.

    Without images, 512 draws of the prior stand in for them.  That assumes that the denoiser is exact for the law of
    these draws, the images that are to be restored being like them: where the prior is wrong about real images, its
    true errors are larger than the fitted ones.  Drawing costs ``512 (2 sample_steps - 1)`` network evaluations.

    Args:
        prior: a learned prior, such as a :class:`~bayes_ir.models.priors.NetworkPrior`.
        images: held-out images (n, *event_shape) in the prior's units.
        seed: of the noise, and of the draws.
        settings: further arguments of :func:`fit_calibration`.

    Raises:
        ValueError: as :func:`fit_calibration`.

    Example:
        >>> prior = calibrate(prior, test_images, bases=("scalar", "dct"))  # doctest: +SKIP
    """
    if images is None:
        devices = [prior.device] if prior.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            images = prior.sample((512,))
    other = copy.copy(prior)
    other.calibrations = {**prior.calibrations, **fit_calibration(prior, images, seed=seed, **settings)}
    return other


def noise_levels(noise_range: tuple[float, float], levels: int) -> Tensor:
    """Noise ratios from end to end of ``noise_range`` at equal factors, (levels,), float64."""
    if levels < 2:
        raise ValueError(f"calibrate: expected at least 2 levels, got {levels}.")
    low, high = noise_range
    return low * (high / low) ** torch.linspace(0, 1, levels, dtype=torch.float64)


def positive(variances: Tensor, ratios: Tensor) -> Tensor:
    """Variances (L, ...) raised to ``1e-12 r^2``, for directions in which images do not vary at all."""
    floor = 1e-12 * ratios.reshape(-1, *(1,) * (variances.ndim - 1)) ** 2
    return torch.maximum(variances, floor)


def _energies(error: Tensor, basis: Basis | None) -> Tensor:
    """Sums over images of ``|e|^2`` and of the squared coefficients of ``e``, (1 + R,)."""
    total = error.square().sum().reshape(1)
    if basis is None:
        return torch.cat([total, total / error[0].numel()])
    return torch.cat([total, basis.analyse(error).square().sum(0)])


def _tabulated(basis: Basis | None, ratios: Tensor, energies: Tensor) -> Calibration:
    """The calibration of mean energies (L, 1 + R)."""
    total, variances = energies[:, 0], energies[:, 1:]
    ratios, rest = ratios.to(energies.device), torch.zeros_like(total)
    if basis is not None and not basis.complete:
        left_out = basis.event_shape.numel() - basis.rank
        rest = positive((total - variances.sum(1)) / left_out, ratios)
    return Calibration(basis, ratios, positive(variances, ratios), rest)


def _check_images(prior: DiffusionPrior, images: Tensor) -> None:
    if images.ndim != 1 + len(prior.event_shape) or images.shape[1:] != prior.event_shape or len(images) < 2:
        raise ValueError(
            f"calibrate: got images of shape {tuple(images.shape)}; expected (n, "
            f"{', '.join(map(str, prior.event_shape))}) with n >= 2, hundreds for a use."
        )
    if not images.isfinite().all():
        raise ValueError("calibrate: the images hold values that are not finite.")
    if prior.data_range is not None:
        low, high = prior.data_range
        least, most, margin = float(images.min()), float(images.max()), (high - low) / 2
        if least < low - margin or most > high + margin:
            raise ValueError(
                f"calibrate: the images reach from {least:g} to {most:g}; expected the prior's units, "
                f"[{low:g}, {high:g}]. Rescale them, 8-bit data by 1/255."
            )

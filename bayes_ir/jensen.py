"""How far the likelihood score that guides a reverse path is off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch

from bayes_ir.arguments import image_dtype, natural, usable_device
from bayes_ir.inference import (
    DPS,
    Calibrated,
    DenoisingPosterior,
    Flat,
    Isotropic,
    Kernel,
    Point,
    Problem,
    Tweedie,
    read_problem,
)
from bayes_ir.inference.jensen import Effort, Reason, check_linear, gap_at, ingredients
from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.rng import Rng
from bayes_ir.jensen_points import jensen_states
from bayes_ir.progress import progress_bar
from bayes_ir.provenance import problem_settings, settings_of, versions

if TYPE_CHECKING:
    import xarray

__all__ = ["jensen_gap"]


def jensen_gap(
    model: Callable,
    data: Mapping[str, Any] | None = None,
    *,
    kernel: Kernel | None = None,
    points: Any = None,
    levels: int | Sequence[float] = 10,
    draws: int = 4,
    denoising_posteriors: Sequence[DenoisingPosterior] | None = None,
    seed: int = 0,
    nested: bool = False,
    wanted_error: float = 0.1,
    least_ess: float = 50.0,
    inner_draws: int = 3840,
    inner_steps: int = 48,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
) -> xarray.DataTree:
    r"""How far the likelihood of ``x_t`` and its score are from what a denoising posterior makes of them.

    A guided sampler needs ``grad_{x_t} log p(y | x_t)``, ``p(y | x_t) = E[p(y | x_0) | x_t]``; DPS puts
    ``p(y | E[x_0 | x_t])`` for it (:class:`~bayes_ir.inference.Point`), other methods other Gaussians for
    ``p(x_0 | x_t)``. Here both are known: in closed form for mixture priors with Gaussian noise, by the probabilities
    of cells for one-bit and quantized data, else by nested sampling of ``p(x_0 | x_t)`` with stated errors.

    The states ``x_t`` lie on the reverse path of a kernel, or are ``a x_0 + b eps`` of given images (a truth, posterior
    draws), or of draws of the prior, which in general contradict the data. The same eps serves every level.

    The bound of theorem 1 of the DPS paper stands beside the gap with its ingredients. It says little: it bounds a gap
    of likelihoods, goes to zero with the noise, where DPS is worst, and as printed does not hold there; see
    :mod:`bayes_ir.inference.jensen.bound`. Judge by ``relative_error``.

    Args:
        model: Pyro model of one image, measured by a linear operator through any channel.
        data: values of the observed sites.
        kernel: walk its reverse path; its denoising posterior is compared too.
        points: images x_0, (*event_shape) or (B, *event_shape), instead of a kernel.
        levels: number of noise levels, spread along the path or, for images, over the prior's ``noise_range`` by equal
            factors; or for images the ratios ``b / a`` themselves.
        draws: paths of the kernel, or draws of the prior.
        denoising_posteriors: by default Flat, Point, Isotropic, Tweedie and, where the prior carries a calibration,
            Calibrated.
        seed: seed of everything that is drawn.
        nested: sample even where the answer is known, to try the estimator out.
        wanted_error: standard error of ``log p(y | x_t)`` at which sampling stops, nats.
        least_ess: effective number of inner draws below which the answer is NaN and ``reason`` says so.
        inner_draws: most inner draws per state; for cells the proposals of the heaviest component.
        inner_steps: noise levels of the reverse process that makes inner draws of a learned prior; too few make them
            too narrow, and the score with them, an error that no standard error tells: double them to see.
        device: torch device, by default that of the prior.
        dtype: floating point type of the images, by default that of the prior.
        progress: show a progress bar.
        model_args: positional arguments of the model.
        model_kwargs: keyword arguments of the model.

    Returns:
        DataTree with the group ``jensen_gap`` over ``time``, ``draw`` and ``denoising_posterior``;
        :func:`bayes_ir.analysis.jensen_verdicts` puts it in words and :func:`bayes_ir.analysis.plot_jensen_gap` in a
        picture.

    Raises:
        ModelError: for a model that cannot be read, an operator that is not linear, or a kernel without a path.
        ValueError: for arguments out of range.
    """
    from bayes_ir.analysis.jensen import jensen_tree

    draws, seed = natural("jensen_gap", "draws", draws, 1), natural("jensen_gap", "seed", seed, 0)
    effort = Effort(wanted_error, least_ess, inner_draws, inner_steps)
    problem = read_problem(model, data, model_args, model_kwargs)
    problem = problem.to(device=usable_device(device), dtype=image_dtype(dtype))
    check_linear(problem)
    of_kernel = _posterior_of(kernel)
    compared = _compared(problem, denoising_posteriors, of_kernel)
    steps, ladder, states = jensen_states(problem, kernel, points, levels, draws, seed, progress)
    figures = []
    with progress_bar("jensen gap", len(ladder) * len(states[0]), progress) as on_state:
        for number, (level, x_t) in enumerate(zip(ladder, states, strict=True)):
            rng = Rng(seed, 0, number, 2, draws=1, device=problem.device, dtype=problem.dtype)
            x_t = x_t.to(problem.device)
            figures.append(
                gap_at(
                    problem, compared, x_t, level, effort=effort, nested=nested, rng=rng, on_state=on_state
                )
            )
    attrs = problem_settings(problem) if kernel is None else settings_of(problem, kernel)
    attrs |= {"seed": seed, "nested": nested} | versions()
    if of_kernel is not None:
        attrs["kernel_denoising_posterior"] = _label(of_kernel)
    attrs |= {"wanted_error": wanted_error, "least_ess": least_ess, "inner_steps": inner_steps}
    pairs = [(level.a, level.b) for level in ladder]
    reasons = {reason.name.lower(): int(reason) for reason in Reason if reason.name}
    parts = {f"bound_{name}": value for name, value in ingredients(problem)._asdict().items()}
    return jensen_tree(steps, pairs, list(compared), figures, parts, reasons, attrs)


def _label(denoising_posterior: DenoisingPosterior) -> str:
    """Its name with the settings that are not the default ones."""
    settings = [
        f"{f.name}={getattr(denoising_posterior, f.name)!r}"
        for f in fields(denoising_posterior)  # type: ignore[arg-type]
        if getattr(denoising_posterior, f.name) != f.default
    ]
    return type(denoising_posterior).__name__ + (f"({', '.join(settings)})" if settings else "")


def _posterior_of(kernel: Kernel | None) -> DenoisingPosterior | None:
    if isinstance(kernel, DPS):
        return Point()
    return kernel.denoising_posterior if isinstance(kernel, GuidedKernel) else None


def _compared(
    problem: Problem, asked: Sequence[DenoisingPosterior] | None, of_kernel: DenoisingPosterior | None
) -> dict[str, DenoisingPosterior]:
    """What is compared, by label."""
    if asked is None:
        chosen: list[DenoisingPosterior] = [Flat(), Point(), Isotropic(), Tweedie()]
        try:
            problem.prior.calibration("pca")
            chosen.insert(3, Calibrated())
        except ValueError:
            pass  # a prior that was never calibrated: compared without
    else:
        chosen = list(asked)
        for q in chosen:
            if not isinstance(q, DenoisingPosterior):
                raise ValueError(
                    f"jensen_gap: denoising_posteriors holds a {type(q).__name__}; expected instances such as Point()."
                )
        if not chosen:
            raise ValueError("jensen_gap: denoising_posteriors is empty; leave it out for the usual ones.")
    if of_kernel is not None and of_kernel not in chosen:
        chosen.append(of_kernel)
    return {_label(q): q for q in chosen}

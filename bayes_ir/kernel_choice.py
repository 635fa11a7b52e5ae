"""Which kernel draws: the one that was asked for, or the best-measured one that serves the problem."""

from __future__ import annotations

from typing import Any

from bayes_ir.inference import (
    DAPS,
    DPS,
    QCSSGM,
    AnnealedLangevin,
    Exact,
    GuidedDiffusion,
    Kernel,
    Problem,
    QCSSGMPlus,
)
from bayes_ir.models import Gaussian

__all__ = ["chosen_kernel", "default_kernel"]


def default_kernel(problem: Problem) -> Kernel:
    """The best-measured kernel that serves a problem.

    ``Exact()`` where independent exact draws can be had, else ``GuidedDiffusion()`` where the prior is calibrated and
    A linear, else annealed Langevin dynamics; ``DPS()`` or ``DAPS()`` where A is not linear.
    """
    langevin = AnnealedLangevin() if isinstance(problem.channel, Gaussian) else QCSSGMPlus()
    linear: list[Kernel] = [Exact(), GuidedDiffusion(), langevin, QCSSGM()]
    candidates = linear if problem.operator.linear else [DPS(), DAPS()]
    for kernel in candidates[:-1]:
        try:
            kernel.check(problem)
        except ValueError:
            continue
        return kernel
    return candidates[-1]


def chosen_kernel(kernel: Any, problem: Problem, progress: bool) -> Kernel:
    """The kernel that was asked for, or the default one, which is told where there is progress to show.

    Raises:
        TypeError: for anything but a kernel.
    """
    if kernel is None:
        kernel = default_kernel(problem)
        if progress:
            from rich.console import Console

            said = f"kernel: {kernel!r}, the default for {type(problem.channel).__name__}"
            Console(soft_wrap=True, highlight=False, markup=False).print(said)
    if isinstance(kernel, type) and issubclass(kernel, Kernel):
        raise TypeError(
            f"sample: kernel is the class {kernel.__name__}; pass an instance, {kernel.__name__}()."
        )
    if not isinstance(kernel, Kernel):
        raise TypeError(
            f"sample: kernel is a {type(kernel).__name__}; expected a kernel such as QCSSGMPlus()."
        )
    return kernel

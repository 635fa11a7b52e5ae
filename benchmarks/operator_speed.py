"""What operators cost: apply, adjoint and one DMPS solve, as multiples of one FFT of the same images.

    python benchmarks/operator_speed.py

Images of 64 x 64 and 256 x 256, batches of 1 and 16, float32 apply and adjoint, two threads; every figure is the
median of repeated calls, timed in turn with ``torch.fft.fft2`` of the same batch.  The solve is
``A^T (sigma^2 I + v A A^T)^-1 r`` with sigma = 0.05 and v = 1, in float64 as the kernels do it; for an operator
without decomposition at this size, "CG iteration" is one of its conjugate-gradient iterations and "CG iterations" is
how many the solve takes.  "largest tensor" is that of any operation in an apply, an adjoint and a solve (or
iteration), as a multiple of the batch: no matrix is formed.
If deepinv can be imported, the operators it has are timed beside ours.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from _results import write_results
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bayes_ir.inference.system import SpectralSystem, measurement_system
from bayes_ir.models import (
    BicubicDownsampling,
    BlockAverage,
    Blur,
    CircularBlur,
    Colorization,
    Gaussian,
    GaussianDownsampling,
    LinearOperator,
    Mask,
    MultiCoilMRI,
    Radon,
    RowOrthogonalSensing,
    SeparableBlur,
    SingleCoilMRI,
    SpatiallyVaryingBlur,
    SubsampledDCT,
    SubsampledDFT,
    WalshHadamardSensing,
    bayer_mask,
    motion_kernel,
    mri_masks,
    random_mask,
    simulated_sensitivities,
)


def operators(side: int) -> dict[str, Callable[[], LinearOperator]]:
    grey, colour = (1, side, side), (3, side, side)

    def columns() -> Tensor:
        return mri_masks.uniform_1d((side, side), 4, 0.08, seed=0)

    return {
        "inpainting, 50 %": lambda: Mask(random_mask(grey, 0.5)),
        "demosaicing": lambda: Mask(bayer_mask(colour)),
        "block average, 4": lambda: BlockAverage(grey, 4),
        "bicubic, 4": lambda: BicubicDownsampling(grey, 4),
        "Gaussian downsampling, 4": lambda: GaussianDownsampling(grey, 4),
        "separable Gaussian blur": lambda: SeparableBlur.gaussian(grey, std=3.0),
        "circular motion blur": lambda: CircularBlur(motion_kernel(25), grey),
        "motion blur, reflecting": lambda: Blur(motion_kernel(25), grey, boundary="reflect"),
        "spatially varying blur": lambda: SpatiallyVaryingBlur.from_seed(grey, seed=0),
        "colorization": lambda: Colorization(colour),
        "Walsh-Hadamard, 25 %": lambda: WalshHadamardSensing(grey),
        "sign-flipped DCT, 25 %": lambda: RowOrthogonalSensing(side * side // 4, grey, seed=0),
        "subsampled DCT, 25 %": lambda: SubsampledDCT(grey, 0.25),
        "subsampled DFT, 25 %": lambda: SubsampledDFT(grey, 0.25),
        "single-coil MRI, x4": lambda: SingleCoilMRI(columns()),
        "multi-coil MRI, x4, 8 coils": lambda: MultiCoilMRI(
            columns(), simulated_sensitivities(8, (side, side), seed=0)
        ),
        "CT, 60 angles": lambda: Radon(grey, angles=60),
    }


class _Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for part in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(part, Tensor):
                self.numbers = max(self.numbers, part.untyped_storage().nbytes() // part.element_size())
        return result


def multiple(call: Callable[[], object], images: Tensor) -> float:
    """Median time of a call over that of an FFT, timed in turn."""

    def fft() -> Tensor:
        return torch.fft.fft2(images)

    call(), fft()
    ours, theirs, started = [], [], time.perf_counter()
    while len(ours) < 5 or (time.perf_counter() - started < 0.4 and len(ours) < 200):
        for times, function in ((ours, call), (theirs, fft)):
            before = time.perf_counter()
            function()
            times.append(time.perf_counter() - before)
        if time.perf_counter() - started > 20:
            break
    return statistics.median(ours) / statistics.median(theirs)


def measure(operator: LinearOperator, batch: int) -> dict[str, float]:
    x = torch.randn(batch, *operator.event_shape, generator=torch.Generator().manual_seed(0))
    z = operator(x)
    system = measurement_system(operator, Gaussian(z[0], 0.05), z[0])
    residual, v = system.residual(torch.zeros_like(x)), torch.tensor(1.0, dtype=torch.float64)

    def solve() -> Tensor:
        return system.pulled_solve(residual, v, x.dtype).image

    def iteration() -> Tensor:
        r = residual.unflatten(-1, operator.measurement_shape)
        return r + v * system.whitened.forward(system.whitened.adjoint(r))

    decomposed = isinstance(system, SpectralSystem)
    last = solve if decomposed else iteration
    with _Largest() as largest:
        operator(x), operator.adjoint(z), last()
    figures = {
        "apply": multiple(lambda: operator(x), x),
        "adjoint": multiple(lambda: operator.adjoint(z), x),
        "solve" if decomposed else "CG iteration": multiple(last, x),
        "largest tensor": largest.numbers / x.numel(),
    }
    if not decomposed and batch == 1 and x.shape[-1] == 64:
        figures["CG iterations"] = float(system.pulled_solve(residual, v, x.dtype).info["cg_iterations"][0])
    return figures


def peers(side: int) -> dict[str, Any]:
    """The same operators of deepinv, where it has them; none if it cannot be imported."""
    try:
        from deepinv import physics
    except ImportError as error:
        print(f"deepinv is left out: {error}")
        return {}
    grey = (1, side, side)
    return {
        "inpainting, 50 %": physics.Inpainting(grey, mask=random_mask(grey, 0.5).float()),
        "circular motion blur": physics.BlurFFT(grey, filter=motion_kernel(25).float()[None, None]),
        "bicubic, 4": physics.Downsampling(filter="bicubic", img_size=grey, factor=4),
        "single-coil MRI, x4": physics.MRI(mri_masks.uniform_1d((side, side), 4, 0.08, seed=0).float()),
        "CT, 60 angles": physics.Tomography(angles=60, img_width=side, circle=False),
    }


def measure_peer(theirs: Any, shape: tuple[int, ...], batch: int) -> dict[str, float]:
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    y = theirs.A(x)
    return {
        "apply": multiple(lambda: theirs.A(x), x),
        "adjoint": multiple(lambda: theirs.A_adjoint(y), x),
    }


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="measure the operators whose name contains this")
    only = parser.parse_args().only or ""
    torch.set_num_threads(2)
    rows: list[dict[str, Any]] = []
    for side in (64, 256):
        deepinv = peers(side)
        for name, build in operators(side).items():
            if only not in name:
                continue
            operator = build()
            for batch in (1, 16):
                row: dict[str, Any] = {"operator": name, "side": side, "batch": batch}
                row |= {k: round(v, 2) for k, v in measure(operator, batch).items()}
                if name in deepinv:
                    figures = measure_peer(deepinv[name], tuple(operator.event_shape), batch)
                    row |= {f"deepinv, {k}": round(v, 2) for k, v in figures.items()}
                rows.append(row)
                print(row, flush=True)
    if not only:
        write_results("operator_speed", rows)


if __name__ == "__main__":
    main()

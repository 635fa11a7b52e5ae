"""Restoration of digits by DMPS and annealed Langevin under every linear operator, beside the pseudo-inverse.

    python benchmarks/restoration_tasks.py

Sixteen MNIST test digits per task, prior "mnist", Gaussian noise 0.05, posterior mean of 4 draws per digit: PSNR of the
mean (mean over digits) and of the pseudo-inverse ``A^+ y``, in dB.  Nothing in the kernels knows which
operator it is given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from _results import write_results
from torch import Tensor

from bayes_ir.inference import DMPS, AnnealedLangevin, Kernel, Problem
from bayes_ir.inference.run import draw_block
from bayes_ir.models import (
    BicubicDownsampling,
    BlockAverage,
    Blur,
    CircularBlur,
    Diagonal,
    Gaussian,
    GaussianDownsampling,
    GaussianSensing,
    Identity,
    LinearOperator,
    Mask,
    MultiCoilMRI,
    Radon,
    RowOrthogonalSensing,
    SeparableBlur,
    SingleCoilMRI,
    SpatiallyVaryingBlur,
    Stack,
    SubsampledDCT,
    SubsampledDFT,
    WalshHadamardSensing,
    box_mask,
    load_prior,
    motion_kernel,
    mri_masks,
    random_mask,
    simulated_sensitivities,
)
from bayes_ir.problems import test_digits

SHAPE, NOISE = (1, 28, 28), 0.05


def real_to_complex(x: Tensor) -> Tensor:
    """A real image as a complex one, two channels."""
    return torch.cat([x, torch.zeros_like(x)], dim=-3)


def padded(x: Tensor) -> Tensor:
    """28 x 28 pixels in the middle of 32 x 32."""
    return torch.nn.functional.pad(x, (2, 2, 2, 2))


TASKS: dict[str, Callable[[], LinearOperator]] = {
    "denoising": lambda: Identity(SHAPE),
    "inpainting, box of 12": lambda: Mask(box_mask(SHAPE, 12, seed=0)),
    "inpainting, 20 % seen": lambda: Mask(random_mask(SHAPE, 0.2)),
    "super-resolution, blocks of 4": lambda: BlockAverage(SHAPE, 4),
    "super-resolution, bicubic 4": lambda: BicubicDownsampling(SHAPE, 4),
    "super-resolution, Gaussian 4": lambda: GaussianDownsampling(SHAPE, 4),
    "separable Gaussian blur, sd 2": lambda: SeparableBlur.gaussian(SHAPE, std=2.0),
    "circular motion blur": lambda: CircularBlur(motion_kernel(11), SHAPE),
    "motion blur, reflecting": lambda: Blur(motion_kernel(11), SHAPE, boundary="reflect"),
    "spatially varying blur": lambda: SpatiallyVaryingBlur.from_seed(SHAPE, seed=0),
    "Gaussian sensing, M = 200": lambda: GaussianSensing(200, SHAPE, seed=0),
    "sign-flipped DCT, 25 %": lambda: RowOrthogonalSensing(196, SHAPE, seed=0),
    "subsampled DCT, 25 %": lambda: SubsampledDCT(SHAPE, 0.25),
    "subsampled DFT, 25 %": lambda: SubsampledDFT(SHAPE, 0.25),
    "single-coil MRI, x4": lambda: SingleCoilMRI(
        mri_masks.uniform_1d((28, 28), 4, 0.08, seed=0), event_shape=SHAPE
    ),
    "multi-coil MRI, x4, 4 coils": lambda: (
        MultiCoilMRI(
            mri_masks.uniform_1d((28, 28), 4, 0.08, seed=0), simulated_sensitivities(4, (28, 28), seed=0)
        )
        @ LinearOperator.from_function(real_to_complex, SHAPE)
    ),
    "Walsh-Hadamard, 25 % of 32 x 32": lambda: (
        WalshHadamardSensing((1, 32, 32)) @ LinearOperator.from_function(padded, SHAPE)
    ),
    "CT, 10 angles": lambda: Radon(SHAPE, angles=10),
    "two sensors": lambda: Stack([BlockAverage(SHAPE, 7), Mask(random_mask(SHAPE, 0.1))]),
    "flat field after blur": lambda: (
        Diagonal(0.5 + torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)))
        @ SeparableBlur.gaussian(SHAPE, std=1.0)
    ),
}


def psnr(estimate: Tensor, truth: Tensor) -> Tensor:
    return -10 * (estimate - truth).square().flatten(-3).mean(-1).log10()


def measure(operator: LinearOperator, kernel: Kernel, truth: Tensor, draws: int) -> tuple[float, float]:
    rng = torch.Generator().manual_seed(1)
    prior = load_prior("mnist")
    means, inverses = [], []
    for image in truth:
        z = operator(image)
        y = z + NOISE * torch.randn(z.shape, generator=rng)
        problem = Problem("x", prior, operator, Gaussian(torch.zeros_like(y), NOISE), "y", y)
        kernel.check(problem)
        means.append(draw_block(problem, kernel, 0, 0, 0, draws, seed=0).draws.mean(0))
        inverses.append(operator.pinv(y))
    return float(psnr(torch.stack(means), truth).mean()), float(psnr(torch.stack(inverses), truth).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--digits", type=int, default=16)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100)
    given = parser.parse_args()
    truth = test_digits()[0][: given.digits]
    kernels: list[Kernel] = [
        DMPS(steps=given.steps),
        AnnealedLangevin(levels=given.steps, steps_per_level=1),
    ]
    rows = []
    for name, build in TASKS.items():
        operator = build()
        row: dict[str, object] = {"task": name, "operator": repr(operator)}
        for kernel in kernels:
            mean, inverse = measure(operator, kernel, truth, given.draws)
            row |= {"pseudo-inverse": round(inverse, 2), type(kernel).__name__: round(mean, 2)}
        rows.append(row)
        print(row, flush=True)
    write_results(
        "restoration_tasks",
        {"digits": given.digits, "draws": given.draws, "kernels": [repr(k) for k in kernels], "tasks": rows},
    )


if __name__ == "__main__":
    main()

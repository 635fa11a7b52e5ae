"""What a plate of images costs beside as many draws of one image: nothing but the data are different.

    python benchmarks/plate_cost.py

Sixteen test digits in a plate, 4 draws each, beside 64 draws of one of them, under the prior "mnist": the network sees
64 images a call either way.  Processor time of one thread, the two in turn, three times; the ratio of the medians.
"""

from __future__ import annotations

import time
from statistics import median

import torch
from _results import write_results

from bayes_ir.inference import GuidedDiffusion, Kernel, Problem, QCSSGMPlus
from bayes_ir.inference.run import draw_block
from bayes_ir.models import Channel, Gaussian, LinearOperator, Mask, OneBit, load_prior, random_mask
from bayes_ir.models.operators import GaussianSensing
from bayes_ir.problems import test_digits

IMAGES, DRAWS, NOISE = 16, 4, 0.1
SHAPE = (1, 28, 28)


def seconds(problem: Problem, kernel: Kernel, draws: int) -> float:
    started = time.process_time()
    draw_block(problem, kernel, 0, 0, 0, draws, seed=0)
    return time.process_time() - started


def main() -> None:
    torch.set_num_threads(1)
    prior, digits = load_prior("mnist"), test_digits()[0][:IMAGES]
    rng = torch.Generator().manual_seed(0)
    cases: dict[str, tuple[LinearOperator, type[Channel], Kernel]] = {
        "inpainting, GuidedDiffusion": (Mask(random_mask(SHAPE, 0.5)), Gaussian, GuidedDiffusion(steps=16)),
        "400 signs, GuidedDiffusion": (
            GaussianSensing(measurements=400, event_shape=SHAPE, seed=0),
            OneBit,
            GuidedDiffusion(steps=16),
        ),
        "400 signs, QCSSGMPlus": (
            GaussianSensing(measurements=400, event_shape=SHAPE, seed=0),
            OneBit,
            QCSSGMPlus(levels=16, steps_per_level=1),
        ),
    }
    rows = []
    for name, (operator, channel, kernel) in cases.items():
        z = operator(digits)
        y = z + NOISE * torch.randn(z.shape, generator=rng)
        y = y if channel is Gaussian else y.sign()
        plate = Problem(
            "x", prior, operator, channel(torch.zeros_like(y), noise_std=NOISE), "y", y, plate="digits"
        )
        one = plate.data_set(0)
        seconds(plate, kernel, 1), seconds(one, kernel, 1)
        times = [(seconds(plate, kernel, DRAWS), seconds(one, kernel, IMAGES * DRAWS)) for _ in range(3)]
        ratio = median(t for t, _ in times) / median(t for _, t in times)
        rows.append({"case": name, "plate / one image": ratio})
        print(name, f"{ratio:.3f}", flush=True)
    write_results("plate_cost", {"images": IMAGES, "draws of each": DRAWS, "rows": rows})


if __name__ == "__main__":
    main()

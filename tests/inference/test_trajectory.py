"""A reverse path: the same as that of the draws, with the beliefs of its levels."""

import pytest
import torch
from jensen_case import F64, mixture, normal, problem

from bayes_ir.inference import (
    DAPS,
    DDIM,
    DPS,
    Ancestral,
    Exact,
    GuidedDiffusion,
    MCGDiff,
    ModelError,
    PiGDM,
    Point,
    RePaint,
    SplitGibbs,
    Tweedie,
    TwistedSMC,
)
from bayes_ir.inference.jensen.exact import denoising_law, exact_references
from bayes_ir.inference.run import draw_block
from bayes_ir.inference.trajectory import frame_numbers, trace_trajectory

KERNELS = [
    GuidedDiffusion(steps=6),
    GuidedDiffusion(denoising_posterior=Tweedie(), steps=6, drawn=False),
    PiGDM(sampler=DDIM(steps=6)),
    DPS(steps=6),
    DAPS(levels=4, langevin_steps=3),
    RePaint(steps=6, jump_length=2, jump_samples=2),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: type(k).__name__)
def test_looking_does_not_change_the_draws(kernel):
    p = problem(mixture())
    found = trace_trajectory(p, kernel, draws=3, seed=5)
    block = draw_block(p, kernel, 0, 0, 0, 3, seed=5)
    assert torch.equal(found.x[-1], block.draws)
    assert len(found.levels) == len(found.steps) == len(found.x) == kernel.length(p) + 1
    assert found.levels[-1].b == 0


def test_frames_hold_the_denoised_and_the_conditioned_mean():
    """With Tweedie() on a Gaussian prior the kernel's mean is E[x_0 | x_t, y] itself."""
    p = problem()
    kernel = GuidedDiffusion(denoising_posterior=Tweedie(), sampler=Ancestral(steps=8, grid="karras"))
    found = trace_trajectory(p, kernel, draws=2, seed=0, frames=4)
    assert len(found.steps) == 4
    assert found.steps[0] == 0
    assert found.steps[-1] == 8
    for k, level in enumerate(found.levels[:-1]):
        law = denoising_law(p.prior, found.x[k], level)
        torch.testing.assert_close(found.denoised[k], law.mean)
        shift = torch.stack([r.delta for r in exact_references(p, law)])
        torch.testing.assert_close(found.conditioned[k], law.mean + shift, rtol=1e-6, atol=1e-7)


def test_a_kernel_without_a_conditioned_mean_has_none():
    assert trace_trajectory(problem(), DPS(steps=4), draws=1, seed=0).conditioned is None


def test_frames_are_spread_from_end_to_end():
    assert frame_numbers(5, None) == [0, 1, 2, 3, 4]
    assert frame_numbers(9, 4) == [0, 4, 8]
    assert frame_numbers(3, 50) == [0, 1, 2]
    with pytest.raises(ValueError, match="2 frames at least"):
        frame_numbers(5, 1)


@pytest.mark.parametrize("kernel", [Exact(), SplitGibbs()], ids=lambda k: type(k).__name__)
def test_a_kernel_without_levels_is_refused(kernel):
    with pytest.raises(ModelError, match="walks no path of noise levels"):
        trace_trajectory(problem(), kernel, draws=1, seed=0)


@pytest.mark.parametrize("kernel", [TwistedSMC(), MCGDiff()], ids=lambda k: type(k).__name__)
def test_a_kernel_of_particles_is_refused(kernel):
    with pytest.raises(ModelError, match="clouds of particles"):
        trace_trajectory(problem(), kernel, draws=1, seed=0)


def test_a_plate_is_refused():
    p = problem().with_data(normal(2, 3).to(F64))
    with pytest.raises(ModelError, match="plate of 2"):
        trace_trajectory(p, GuidedDiffusion(denoising_posterior=Point()), draws=1, seed=0)

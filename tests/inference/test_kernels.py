"""Samplers and kernels: contract, stability, reproducibility, and agreement with closed forms."""

import math
from itertools import pairwise

import pyro
import pytest
import torch

from bayes_ir import inference, models
from bayes_ir.inference import (
    DAPS,
    DDIM,
    DDNM,
    DDRM,
    DDS,
    DMPS,
    DPS,
    ILVR,
    MCG,
    QCSSGM,
    SNIPS,
    Ancestral,
    AnnealedLangevin,
    BoxProjection,
    DDNMPlus,
    DiffPIR,
    Exact,
    Flat,
    GuidedDiffusion,
    Isotropic,
    Langevin,
    MCGDiff,
    ModelError,
    MomentMatching,
    PiGDM,
    Point,
    PredictorCorrector,
    Projected,
    QCSSGMPlus,
    RePaint,
    ScoreSDE,
    SplitGibbs,
    Tweedie,
    TwistedSMC,
    exact_posterior,
    read_problem,
)
from bayes_ir.inference.kernels.base import Kernel
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import block_plan, draw_block, draw_blocks
from bayes_ir.inference.samplers import Level, Visit
from bayes_ir.models import (
    DDPM,
    DenseOperator,
    Gaussian,
    GaussianMixturePrior,
    GaussianPrior,
    OneBit,
    RectifiedFlow,
    VarianceExploding,
    VariancePreserving,
)

F64 = torch.float64
SHORT = [
    AnnealedLangevin(levels=20, steps_per_level=2),
    AnnealedLangevin(levels=20, steps_per_level=2, inflated=True),
    DMPS(steps=20),
    DMPS(steps=20, diffusion=RectifiedFlow()),
    DPS(steps=20),
    GuidedDiffusion(steps=20),
    GuidedDiffusion(denoising_posterior=Isotropic(with_jacobian=True), steps=20, drawn=False),
    GuidedDiffusion(denoising_posterior=Point(), sampler=Ancestral(steps=20)),
    GuidedDiffusion(denoising_posterior=Tweedie(), steps=20),
    GuidedDiffusion(denoising_posterior=Flat(), sampler=Langevin(levels=20, steps_per_level=1), drawn=False),
    PiGDM(steps=20),
    MomentMatching(steps=20),
    MomentMatching(steps=20, diagonal=True),
    DPS(steps=20, weight="likelihood"),
    DDRM(steps=20),
    DDNM(sampler=DDIM(steps=20, eta=0.85)),
    DDNMPlus(steps=20),
    DDS(steps=20),
    DDS(steps=20, gamma=1.0),
    DiffPIR(steps=20),
    DiffPIR(steps=20, drawn=True),
    DAPS(levels=20, langevin_steps=5),
    DAPS(levels=20, exact=True),
    SNIPS(levels=20, steps_per_level=2),
    ILVR(steps=20),
    MCG(steps=20),
    RePaint(steps=10, jump_length=3, jump_samples=2),
    ScoreSDE(sampler=PredictorCorrector(steps=10)),
    Projected(projection=BoxProjection(), steps=20),
    MCGDiff(steps=20, particles=10),
    TwistedSMC(steps=20, particles=10),
    SplitGibbs(sweeps=10, last_sweeps=5),
    QCSSGM(levels=20, steps_per_level=2),
    QCSSGMPlus(levels=20, steps_per_level=2),
    QCSSGMPlus(levels=20, steps_per_level=2, per_site=True),
    Exact(),
]


def _gaussian(n=5, seed=0):
    rng = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, generator=rng, dtype=F64)
    return GaussianPrior(
        torch.randn(n, generator=rng, dtype=F64), root @ root.T / n + 0.1 * torch.eye(n, dtype=F64)
    )


def _problem(prior=None, channel=lambda z: Gaussian(z, 0.3), m=3):
    prior = prior or _gaussian()
    rng = torch.Generator().manual_seed(1)
    operator = DenseOperator(torch.randn(m, prior.event_shape.numel(), generator=rng, dtype=F64), dtype=F64)

    def model():
        x = pyro.sample("x", prior)
        pyro.sample("y", channel(operator(x)))

    return read_problem(model, {"y": torch.tensor([1.0, -1.0, 1.0], dtype=F64)[:m]})


@pytest.mark.parametrize("kernel", SHORT, ids=repr)
def test_contract(kernel):
    problem = _problem()
    assert eval(repr(kernel), vars(inference) | vars(models) | {"inf": math.inf}) == kernel
    assert kernel.citation
    kernel.check(problem)
    rng = Rng(0, draws=7, dtype=F64)
    state, steps = kernel.init(problem, rng), 0
    while not state.done:
        state, info = kernel.step(problem, state, rng)
        assert info["nfe"].shape == (7,)
        steps += 1
    assert steps == kernel.length(problem)
    assert state.x.shape == (7, 5) and state.x.isfinite().all()


@pytest.mark.parametrize("kernel", SHORT, ids=repr)
def test_draws_are_a_function_of_the_block(kernel):
    problem = _problem()
    settings = {"draws": 5, "chains": 2, "seed": 3, "block_size": 2}
    blocks = {(b.chain, b.index): b.draws for b in draw_blocks(problem, kernel, **settings)}
    assert len(blocks) == 6 and [len(blocks[0, i]) for i in range(3)] == [2, 2, 1]
    torch.rand(3)  # the global generator plays no part
    for chain, index, start, count in reversed(block_plan(5, 2, 2)):
        again = draw_block(problem, kernel, chain, index, start, count, seed=3)
        assert torch.equal(again.draws, blocks[chain, index])
    assert not torch.equal(blocks[0, 0], blocks[1, 0])
    assert not torch.equal(blocks[0, 0], blocks[0, 1])


# Particles of a cloud take part in each other's resampling.
@pytest.mark.parametrize(
    "kernel", [k for k in SHORT if not isinstance(k, (Exact, MCGDiff, TwistedSMC))], ids=repr
)
def test_a_draw_does_not_depend_on_its_neighbours(kernel):
    problem = _problem()
    rng_states = [Rng(0, draws=4, dtype=F64) for _ in range(2)]
    plain = kernel.init(problem, rng_states[0])
    pushed = kernel.init(problem, rng_states[1])
    pushed.x[0] += 1e3
    for _ in range(10):
        plain, _ = kernel.step(problem, plain, rng_states[0])
        pushed, _ = kernel.step(problem, pushed, rng_states[1])
    torch.testing.assert_close(pushed.x[1:], plain.x[1:], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel", [AnnealedLangevin(), DMPS()], ids=repr)
def test_gaussian_kernels_refuse_one_bit_data(kernel):
    with pytest.raises(ModelError, match=r"Gaussian channel.*QCSSGMPlus\(\), which serves every"):
        kernel.check(_problem(channel=lambda z: OneBit(z, 0.1)))


def _refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_settings_out_of_range_are_refused():
    _refused(lambda: Langevin(step_size=2.0), "2 is the limit of stability")
    _refused(lambda: Langevin(levels=1), "levels >= 2")
    _refused(lambda: DDIM(eta=1.5), "0 <= eta <= 1")
    _refused(lambda: Ancestral(grid="fine"), "a grid of")
    _refused(lambda: Ancestral(steps=1), "steps >= 2")
    _refused(lambda: QCSSGMPlus(damping=1.0), "0 <= damping < 1")


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("noise", [1e-3, 1.0])
def test_langevin_is_stable_at_any_scale(scale, noise):
    """Steps follow from the curvature, so that neither the units nor the noise level can make it diverge."""
    prior = GaussianPrior(torch.zeros(5, dtype=F64), scale**2 * torch.eye(5, dtype=F64))
    problem = _problem(prior, lambda z: OneBit(z, noise * scale))
    for kernel in (QCSSGM(levels=60, steps_per_level=2), QCSSGMPlus(levels=60, steps_per_level=2)):
        draws = draw_block(problem, kernel, 0, 0, 0, 64, seed=0).draws
        assert draws.isfinite().all()
        assert draws.abs().max() < 10 * scale


def test_divergence_is_reported_and_never_returned_as_numbers():
    class Broken(GaussianPrior):
        def _denoised_mean(self, x_t, a, b):
            x0_hat = super()._denoised_mean(x_t, a, b)
            x0_hat[0] = torch.nan
            return x0_hat

    problem = _problem(Broken(torch.zeros(5, dtype=F64), torch.eye(5, dtype=F64)))
    block = draw_block(problem, QCSSGMPlus(levels=5, steps_per_level=1), 0, 0, 0, 3, seed=0)
    assert block.stats["diverging"].tolist() == [True, False, False]
    assert block.draws[0].isnan().all() and block.draws[1:].isfinite().all()
    assert block.log_likelihood["y"][0].isnan().all() and block.stats["log_lik"][1:].isfinite().all()


PROCESSES = [VarianceExploding(0.01, 30.0), VariancePreserving(), DDPM(), RectifiedFlow()]


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize(
    "sampler",
    [
        Ancestral(steps=300),
        DDIM(steps=300),
        DDIM(steps=300, eta=1.0),
        Langevin(levels=300, steps_per_level=1),
    ],
    ids=repr,
)
def test_samplers_reproduce_a_gaussian_prior(sampler, process):
    """2,000 unconditional draws: standard errors of mean and sd are 2.2 % and 1.6 % of the sd; four of them."""
    prior = _gaussian(3).with_diffusion(process)
    rng = Rng(0, draws=2000, dtype=F64)
    schedule = sampler.schedule(prior)
    x, before = sampler.start(prior, schedule[0], rng), None
    none = torch.zeros((), dtype=F64)
    for now, then in pairwise(schedule):
        visit = Visit(x, prior.denoise(x, now.t), now)
        x, before = sampler.move(visit, before, then, none, rng), visit
    sd = prior.variance.sqrt()
    assert ((x.mean(0) - prior.mean) / sd).abs().max() < 0.09
    assert (x.std(0) / sd - 1).abs().max() < 0.065 + 0.03  # and 3 % for the steps of a 300-step path


def test_ancestral_is_ddim_with_full_noise():
    prior = _gaussian(3).with_diffusion(DDPM())
    schedule = Ancestral(steps=10).schedule(prior)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    x0_hat = prior.denoise(x, schedule[3].t)
    none = torch.zeros((), dtype=F64)
    moved = [
        sampler.move(Visit(x, x0_hat, schedule[3]), None, schedule[4], none, Rng(1, draws=4, dtype=F64))
        for sampler in (Ancestral(steps=10), DDIM(steps=10, eta=1.0))
    ]
    torch.testing.assert_close(*moved, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("orthonormal", [True, False])
def test_qcs_sgm_plus_under_a_gaussian_channel_is_dmps(orthonormal):
    """The flat posterior in closed form, whatever the path; QCS-SGM too where A A^T is diagonal."""
    rows = torch.randn(3, 5, generator=torch.Generator().manual_seed(2), dtype=F64)
    operator = DenseOperator(torch.linalg.qr(rows.T)[0].T if orthonormal else rows, dtype=F64)
    prior = _gaussian()

    def model():
        pyro.sample("y", Gaussian(operator(pyro.sample("x", prior)), 0.3))

    problem = read_problem(model, {"y": torch.tensor([1.0, -1.0, 1.0], dtype=F64)})
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(3), dtype=F64)
    found = []
    for kernel in (DMPS(), QCSSGMPlus(), QCSSGM()):
        law = problem.prior.with_diffusion(kernel.process(problem.prior))
        t = law.diffusion.time_at(0.7)
        now = Level(float(t), *map(float, law.diffusion.coefficients(t)))
        state = PathState(now.a * x, [now, Level(0.0, 1.0, 0.0)])
        found.append(kernel.condition(problem, law, state, Rng(0, draws=4, dtype=F64)).x0_hat)
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)
    same = torch.allclose(found[2], found[0], rtol=1e-9, atol=1e-9)
    assert same == orthonormal


def test_exact_posterior_by_brute_force():
    """Weights, means and evidence of a mixture posterior in two dimensions against a grid."""
    prior = GaussianMixturePrior(
        torch.tensor([0.3, 0.7], dtype=F64),
        torch.tensor([[-1.0, 0.5], [1.0, -0.5]], dtype=F64),
        torch.stack([0.2 * torch.eye(2, dtype=F64), torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=F64)]),
    )
    problem = _problem(prior, lambda z: Gaussian(z, 0.8), m=1)
    posterior, log_evidence = exact_posterior(problem)
    axis = torch.linspace(-6, 6, 1201, dtype=F64)
    grid = torch.cartesian_prod(axis, axis)
    log_joint = prior.log_prob(grid) + problem.log_likelihood(grid).sum(-1)
    mass = log_joint.exp() * (axis[1] - axis[0]) ** 2
    assert float(log_evidence) == pytest.approx(float(mass.sum().log()), abs=1e-8)
    mean = (mass[:, None] * grid).sum(0) / mass.sum()
    torch.testing.assert_close(posterior.mean, mean, rtol=1e-7, atol=1e-8)
    centred = grid - mean
    covariance = (mass[:, None, None] * centred[:, :, None] * centred[:, None, :]).sum(0) / mass.sum()
    torch.testing.assert_close(posterior.covariance_matrix, covariance, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        posterior.log_prob(grid[::1000]), (log_joint - log_evidence)[::1000], rtol=1e-8, atol=1e-8
    )


def test_exact_draws_have_the_exact_moments():
    problem = _problem()
    posterior, _ = exact_posterior(problem)
    draws = draw_block(problem, Exact(), 0, 0, 0, 20_000, seed=0).draws
    sd = posterior.variance.sqrt()
    # standard errors: 0.7 % of the sd for the mean, 0.5 % for the sd; four of them
    assert ((draws.mean(0) - posterior.mean) / sd).abs().max() < 0.029
    assert (draws.std(0) / sd - 1).abs().max() < 0.02


def test_kernels_are_found_by_the_registry():
    exported = {n for n in inference.__all__ if isinstance(getattr(inference, n), type)}
    known = {type(k).__name__ for k in SHORT} | {"ComposedKernel", "GuidedKernel", "Kernel", "PathKernel"}
    assert {n for n in exported if issubclass(getattr(inference, n), Kernel)} == known

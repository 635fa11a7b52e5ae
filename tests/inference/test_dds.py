"""DDS: a step against conjugate gradients written out, its limits, complex images, its error on Gaussians."""

import math

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import DDIM, Ancestral, Langevin, ModelError, exact_posterior, read_problem
from bayes_ir.inference.kernels.dds import DDS
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.inference.samplers.renoising import Renoise
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, MultiCoilMRI, OneBit, Operator
from bayes_ir.models.operators.multi_coil_mri import simulated_sensitivities

F64 = torch.float64
N, M, NOISE, S2 = 6, 3, 0.3, 0.6


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def problem(operator=None, channel=lambda z: Gaussian(z, NOISE), y=None, dtype=F64):
    operator = operator or DenseOperator(normal(M, N, seed=3) / math.sqrt(M))
    mean = normal(*operator.event_shape, seed=2)
    covariance = S2 * torch.eye(mean.numel(), dtype=F64)
    prior = GaussianPrior(mean, covariance, event_shape=operator.event_shape)

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior))))

    y = normal(*operator.measurement_shape, seed=4) if y is None else y
    return read_problem(model, {"y": y}).to(dtype=dtype)


def on_the_way(p, kernel, draws=3, k=7, steps=20):
    """A state in the middle of the path, with its level, the next one and the denoised mean there."""
    prior = p.prior.with_diffusion(kernel.process(p.prior))
    schedule = DDIM(steps=steps).schedule(prior)
    x = kernel.sampler.start(prior, schedule[k], Rng(5, draws=draws, dtype=p.dtype))
    state = PathState(x, schedule, k)
    return state, *state.levels, prior.denoise(x, schedule[k].t), prior


def cg(apply, b, x, iterations):
    """The textbook's algorithm from x, for real symmetric and for Hermitian systems."""
    r = b - apply(x)
    p = r
    for _ in range(iterations):
        hp = apply(p)
        alpha = np.vdot(r, r) / np.vdot(p, hp)
        x, new = x + alpha * p, r - alpha * hp
        p = new + np.vdot(new, new) / np.vdot(r, r) * p
        r = new
    return x


@pytest.mark.parametrize("gamma", [0.7, "noiseless"])
def test_a_step_is_the_paper_s(gamma):
    p = problem()
    kernel = DDS(gamma=gamma, cg_iterations=2)
    state, now, then, x0_hat, _ = on_the_way(p, kernel)
    moved, info = kernel.step(p, state, Rng(7, draws=3, dtype=F64))
    z, a_mat, y = Rng(7, draws=3, dtype=F64).normal(N).numpy(), p.operator.matrix.numpy(), p.y.numpy()
    a, b, a_next, b_next = (float(v) for v in (now.a, now.b, then.a, then.b))
    c = 0.85 * b_next / b * math.sqrt(b**2 - (a / a_next) ** 2 * b_next**2)
    for i in range(3):
        start = x0_hat[i].numpy()
        if gamma == "noiseless":
            solved = cg(lambda v: a_mat.T @ (a_mat @ v), a_mat.T @ y, start, 2)
        else:
            right = start + gamma * a_mat.T @ y
            solved = cg(lambda v: v + gamma * a_mat.T @ (a_mat @ v), right, start, 2)
        eps = (state.x[i].numpy() - a * solved) / b
        wanted = a_next * solved + math.sqrt(b_next**2 - c**2) * eps + c * z[i]
        np.testing.assert_allclose(moved.x[i].numpy(), wanted, rtol=1e-9, atol=1e-9)
    assert torch.equal(info["nfe"], torch.ones(3, dtype=torch.int64))
    assert (info["cg_iterations"] == 2).all() and (info["cg_residual"] > 1e-6).all()


@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_bayes_is_the_posterior_mean_of_an_isotropic_gaussian(dtype):
    noise = torch.tensor([0.1, 0.3, 0.6], dtype=F64)
    p = problem(channel=lambda z: Gaussian(z, noise.to(z.dtype)), dtype=dtype)
    kernel = DDS(gamma="bayes", cg_iterations=20)
    state, now, _, x0_hat, prior = on_the_way(p, kernel)
    found = kernel.condition(p, prior, state, Rng(0, draws=3, dtype=dtype)).x0_hat.double().numpy()
    q = float(now.b / now.a) ** 2
    r2 = S2 * q / (S2 + q)
    a_mat = p.operator.matrix.double().numpy()
    precision = np.eye(N) / r2 + a_mat.T @ np.diag(noise**-2) @ a_mat
    right = x0_hat.double().numpy() / r2 + a_mat.T @ (p.y.double().numpy() / noise.numpy() ** 2)
    tolerance = 1e-9 if dtype == F64 else 1e-4
    np.testing.assert_allclose(found, np.linalg.solve(precision, right.T).T, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("gamma", ["noiseless", 1e7])
def test_the_noiseless_limit_is_the_rectification_of_ddnm(gamma):
    p = problem()
    kernel = DDS(gamma=gamma, cg_iterations=30)
    state, _, _, x0_hat, prior = on_the_way(p, kernel)
    found = kernel.condition(p, prior, state, Rng(0, draws=3, dtype=F64)).x0_hat.numpy()
    a_mat, x = p.operator.matrix.numpy(), x0_hat.numpy()
    wanted = x + (p.y.numpy() - x @ a_mat.T) @ np.linalg.pinv(a_mat).T
    np.testing.assert_allclose(found, wanted, atol=1e-9 if gamma == "noiseless" else 1e-5)


@pytest.mark.parametrize("iterations", [3, 200])
def test_complex_images_of_several_coils(iterations):
    """Real conjugate gradients on two channels are the Hermitian ones; many of them the dense complex solution."""
    h, w, coils, gamma = 6, 5, 3, 4.0
    mask = torch.rand(h, w, generator=torch.Generator().manual_seed(1)) < 0.4
    s = simulated_sensitivities(coils, (h, w), seed=0)
    p = problem(MultiCoilMRI(mask, s, dtype=F64))
    kernel = DDS(gamma=gamma, cg_iterations=iterations)
    state, _, _, x0_hat, prior = on_the_way(p, kernel, draws=2)
    found = kernel.condition(p, prior, state, Rng(0, draws=2, dtype=F64)).x0_hat.numpy()

    def centred(n):
        i = np.arange(n) - n // 2
        return np.exp(-2j * np.pi * np.outer(i, i) / n) / math.sqrt(n)

    sampled = np.kron(centred(h), centred(w))[mask.numpy().ravel()]
    a_mat = np.concatenate([sampled * s[c].numpy().ravel() for c in range(coils)])
    y = p.y.numpy()
    y = (y[:, 0] + 1j * y[:, 1]).ravel()
    for i in range(2):
        start = (x0_hat[i, 0] + 1j * x0_hat[i, 1]).numpy().ravel()
        right = start + gamma * a_mat.conj().T @ y
        if iterations == 3:
            wanted = cg(lambda v: v + gamma * a_mat.conj().T @ (a_mat @ v), right, start, 3)
        else:
            wanted = np.linalg.solve(np.eye(h * w) + gamma * a_mat.conj().T @ a_mat, right)
        np.testing.assert_allclose((found[i, 0] + 1j * found[i, 1]).ravel(), wanted, rtol=1e-8, atol=1e-8)


def errors(p, kernel, draws):
    """Errors of the means in exact sds, and ratios of the sds along the right singular vectors of A."""
    found = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws
    exact, _ = exact_posterior(p)
    v = torch.linalg.svd(p.operator.matrix).Vh
    sd = (v @ exact.covariance_matrix.double() @ v.T).diagonal().sqrt()
    return ((found.mean(0) - exact.mean) @ v.T / sd).abs().max(), (found @ v.T).std(0) / sd


def test_bayes_is_exact_for_a_white_gaussian_prior_and_the_published_weight_is_not():
    """400 steps leave 0.03; a gamma of 1 is far above r^2 / sigma^2 once the noise is low."""
    draws = 2000
    mean, ratio = errors(problem(), DDS(gamma="bayes", steps=400), draws)
    assert mean < 4 / math.sqrt(draws) + 0.03
    assert (ratio - 1).abs().max() < 4 / math.sqrt(2 * draws) + 0.03
    _, published = errors(problem(), DDS(gamma=1.0, steps=50), 500)
    assert published[0] < 0.2  # where the data are best
    assert (published[M:] - 1).abs().max() < 0.2  # where there are none


def test_the_last_draw_has_the_covariance_of_the_conditional():
    p, draws = problem(), 20_000
    kernel = DDS(gamma="bayes", cg_iterations=10)
    state, now, _, _, prior = on_the_way(p, kernel, draws=draws)
    rng = Rng(3, draws=draws, dtype=F64)
    spread = kernel.condition(p, prior, state, rng).spread(rng)
    q = (now.b / now.a) ** 2
    a_mat = p.operator.matrix
    wanted = torch.linalg.inv(torch.eye(N) * (1 / S2 + 1 / q) + a_mat.T @ a_mat / NOISE**2)
    assert (torch.cov(spread.T) - wanted).abs().max() < 5 * wanted.max() * math.sqrt(2 / draws)


@pytest.mark.parametrize(
    "sampler", [Ancestral(steps=50), Langevin(levels=50, steps_per_level=2), Renoise(steps=50)], ids=repr
)
def test_it_composes_with_every_sampler(sampler):
    mean, ratio = errors(problem(), DDS(gamma="bayes", sampler=sampler), 500)
    assert mean < 0.3 and (ratio - 1).abs().max() < 0.35


def test_a_draw_does_not_depend_on_its_neighbours_and_the_repr_can_be_typed_back():
    p = problem()
    for kernel in (DDS(), DDS(gamma=1.0, cg_iterations=3, steps=7), DDS(gamma="noiseless")):
        assert eval(repr(kernel)) == kernel
        kernel.check(p)
        state, *_ = on_the_way(p, kernel, k=19)  # the last step, with its draw
        pushed = PathState(state.x.clone(), state.schedule, state.k)
        pushed.x[0] += 1e3
        one, two = (kernel.step(p, s, Rng(1, draws=3, dtype=F64))[0].x for s in (state, pushed))
        torch.testing.assert_close(one[1:], two[1:], rtol=1e-12, atol=1e-12)


class _Absolute(Operator):
    def forward(self, x):
        return x.abs()


def test_refusals():
    with pytest.raises(ModelError, match=r"needs a linear operator.*use DPS\(\) or DAPS\(\)"):
        DDS().check(problem(_Absolute((N,), (N,), dtype=F64)))
    with pytest.raises(ModelError, match="DDS needs a Gaussian channel; site 'y' has OneBit"):
        DDS().check(problem(channel=lambda z: OneBit(z, NOISE), y=torch.ones(M, dtype=F64)))
    for wrong in ({"gamma": 0.0}, {"gamma": math.inf}, {"gamma": "ml"}, {"cg_iterations": 0}):
        with pytest.raises(ValueError, match="DDS: expected a positive gamma, 'bayes' or 'noiseless'"):
            DDS(**wrong)

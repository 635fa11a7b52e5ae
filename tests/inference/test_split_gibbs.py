"""Split Gibbs: a sweep written out, what the two couplings leave alone, and the exact posterior of three channels."""

import math

import numpy as np
import pyro
import pytest
import torch
from scipy.special import log_ndtr
from scipy.stats import kstest, truncnorm

from bayes_ir import inference
from bayes_ir.inference import Calibrated, Exact, Isotropic, ModelError, SplitGibbs, Tweedie, read_problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.inference.truncated_normal import truncated_normal
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit, Operator, Poisson, Quantized

F64 = torch.float64
N, M = 8, 4
CHANNELS = {
    "gaussian": (lambda z: Gaussian(z, 0.3), [1.0, -0.5, 0.2, 0.8]),
    "one-bit": (lambda z: OneBit(z, 0.3, 0.1), [1.0, -1.0, 1.0, 1.0]),
    "quantized": (lambda z: Quantized(z, 0.3, bits=3, step=0.5), [0.75, -0.25, 0.25, 1.75]),
}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def problem(name="gaussian", matrix=None, channel=None, y=None):
    i = torch.arange(N)
    prior = GaussianPrior(normal(N, seed=1), 0.8 ** (i[:, None] - i).abs().double())
    operator = matrix if isinstance(matrix, Operator) else DenseOperator(normal(M, N, seed=2) / 2)
    law, data = CHANNELS[name]

    def model() -> None:
        pyro.sample("y", (channel or law)(operator(pyro.sample("x", prior))))

    return read_problem(model, {"y": torch.tensor(y or data, dtype=F64)})


def distance(x, exact):
    """Largest errors of the means in standard deviations and of the standard deviations."""
    sd = exact.std(0)
    return float(((x.mean(0) - exact.mean(0)) / sd).abs().max()), float((x.std(0) / sd - 1).abs().max())


@pytest.mark.parametrize("rho", [2.0, 0.3, 0.02])
def test_a_sweep_is_what_it_says(rho):
    """z from the Gaussian posterior whose noise is ``D^2 - rho^2 A A^T`` where that is positive; x from ``x0_hat``."""
    p = problem()
    kernel = SplitGibbs(rho_max=rho, rho_min=rho, denoising_posterior=Isotropic())
    state = kernel.init(p, Rng(0, draws=3, dtype=F64))
    found, info = kernel.step(p, state, Rng(7, draws=3, dtype=F64))
    rng = Rng(7, draws=3, dtype=F64)
    first, second = rng.normal(N).numpy(), rng.normal(N).numpy()
    u, s, vt = np.linalg.svd(p.operator.matrix.numpy() / 0.3)
    data, x = u.T @ p.y.numpy() / 0.3, state.x.numpy()
    z = np.zeros((3, N))
    for i in range(N):
        mean, variance, scale = x @ vt[i], rho**2, s[i] if i < M else 0.0
        if scale:
            left = 1 - rho**2 * scale**2
            if left > 0:
                variance = 1 / (1 / rho**2 + scale**2 / left)
                mean = variance * (mean / rho**2 + scale * data[i] / left)
            else:
                mean, variance = data[i] / scale, 0.0
        z += np.outer(mean + math.sqrt(variance) * (first @ vt[i]), vt[i])
    np.testing.assert_allclose(found.z.numpy(), z, rtol=1e-8, atol=1e-8)
    covariance, mu = p.prior.components.basis[0], p.prior.mean.numpy()
    covariance = ((covariance * p.prior.components.variances[0]) @ covariance.T).numpy()
    x0_hat = mu + (z - mu) @ np.linalg.solve(covariance + rho**2 * np.eye(N), covariance)
    spread = math.sqrt(rho**2 / (1 + rho**2))  # the prior's variances are one
    np.testing.assert_allclose(found.x.numpy(), x0_hat + spread * second, rtol=1e-6, atol=1e-6)
    assert info["nfe"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", CHANNELS)
def test_the_exact_coupling_leaves_the_posterior_alone(name):
    """4,000 exact draws, then 30 sweeps at the default rho_min: errors of 4,000 draws, four standard errors."""
    p = problem(name)
    before, again = (draw_block(p, Exact(), 0, 0, 0, 4000, seed=s).draws for s in (1, 2))
    rho = 1 / float(p.system.svd.singular_values[0])
    kernel = SplitGibbs(rho_max=rho, rho_min=rho, sweeps=30, last_sweeps=0)
    rng = Rng(3, draws=4000, dtype=F64)
    state = kernel.init(p, rng)
    state.x.copy_(before)
    while not state.done:
        state, _ = kernel.step(p, state, rng)
    mean, sd = distance(state.x, again)
    assert mean < 4 * math.sqrt(2 / 4000) and sd < 4 * math.sqrt(1 / 4000)
    assert (state.x - before).abs().mean() > 0.2  # they have moved


@pytest.mark.parametrize("name", ["gaussian", "one-bit"])
def test_the_published_coupling_adds_its_noise(name):
    """Orthonormal rows: the posterior under a noise of variance ``0.3^2 + rho^2``."""
    rows = DenseOperator(torch.linalg.qr(normal(N, M, seed=2))[0].T.contiguous())
    rho, law = 0.4, {"gaussian": lambda z: Gaussian(z, 0.5), "one-bit": lambda z: OneBit(z, 0.5, 0.1)}[name]
    kernel = SplitGibbs(coupling="published", rho_max=rho, rho_min=rho, sweeps=60, last_sweeps=0)
    x = draw_block(problem(name, rows), kernel, 0, 0, 0, 4000, seed=1).draws
    mean, sd = distance(x, draw_block(problem(name, rows, law), Exact(), 0, 0, 0, 4000, seed=2).draws)
    assert mean < 4 * math.sqrt(2 / 4000) and sd < 4 * math.sqrt(1 / 4000)


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("coupling", ["exact", "published"])
def test_against_the_exact_posterior(name, coupling):
    """Defaults, 2,000 draws; the published coupling leaves a tenth more noise."""
    p = problem(name)
    x = draw_block(p, SplitGibbs(coupling=coupling), 0, 0, 0, 2000, seed=1)
    mean, sd = distance(x.draws, draw_block(p, Exact(), 0, 0, 0, 8000, seed=2).draws)
    assert mean < 0.15 and sd < 0.1
    assert (x.stats["nfe"] == 240).all()


def test_truncated_normals():
    u = torch.rand(2000, generator=torch.Generator().manual_seed(0), dtype=F64)
    for low, high in ((-1.0, 0.5), (3.0, 3.5), (-math.inf, -20.0), (6.0, math.inf), (-math.inf, math.inf)):
        draws = truncated_normal(torch.tensor(low, dtype=F64), torch.tensor(high, dtype=F64), u).numpy()
        assert (draws >= low).all() and (draws <= high).all()
        assert kstest(draws, truncnorm(low, high).cdf).pvalue > 1e-3
    far = truncated_normal(torch.tensor(-math.inf, dtype=F64), torch.tensor(-60.0, dtype=F64), u).numpy()
    np.testing.assert_allclose(log_ndtr(far) - log_ndtr(-60.0), np.log1p(-u.numpy()), rtol=1e-6, atol=1e-9)
    ends = torch.tensor([0.0, 1 - 2.0**-53], dtype=F64)
    for low, high in ((-math.inf, math.inf), (40.0, math.inf), (1e5, 1e5 + 1e-6)):
        bounds = torch.tensor(low, dtype=F64), torch.tensor(high, dtype=F64)
        assert truncated_normal(*bounds, ends).isfinite().all()


def test_draws_do_not_see_each_other():
    p, kernel = problem("one-bit"), SplitGibbs(sweeps=10, last_sweeps=2, inner_steps=3)
    ends = []
    for push in (0.0, 1e3):
        rng = Rng(0, draws=4, dtype=F64)
        state = kernel.init(p, rng)
        state.x[0] += push
        while not state.done:
            state, _ = kernel.step(p, state, rng)
        ends.append(state.x)
    torch.testing.assert_close(ends[0][1:], ends[1][1:])
    assert draw_block(p.to(dtype=torch.float32), kernel, 0, 0, 0, 3, seed=1).draws.dtype == torch.float32


def test_settings_and_refusals():
    kernel = SplitGibbs(coupling="published", rho_max=2.0, rho_min=0.1, denoising_posterior=Calibrated())
    assert eval(repr(kernel), vars(inference)) == kernel
    for wrong in ({"sweeps": 1}, {"inner_steps": 0}, {"likelihood_sweeps": 0}, {"last_sweeps": -1}):
        with pytest.raises(ValueError, match="expected sweeps >= 2, last_sweeps >= 0, inner_steps >= 1"):
            SplitGibbs(**wrong)
    for wrong in ({"coupling": "tight"}, {"denoising_posterior": Tweedie()}):
        with pytest.raises(ValueError, match="expected coupling 'exact' or 'published' and a denoising_post"):
            SplitGibbs(**wrong)
    with pytest.raises(ValueError, match="expected 0 < rho_min <= rho_max, got 2"):
        SplitGibbs(rho_min=2.0, rho_max=1.0)
    counts = problem(channel=lambda z: Poisson(z, peak=10.0, background=1.0), y=[1.0, 2.0, 0.0, 3.0])
    with pytest.raises(ModelError, match=r"site 'y' has Poisson. Use DAPS"):
        SplitGibbs().check(counts)

    class Large(DenseOperator):
        has_svd = False

    class Absolute(Operator):
        def forward(self, x):
            return x[..., :M].abs()

    large = problem(matrix=Large(normal(M, N, seed=2)))
    with pytest.raises(ModelError, match=r"needs the singular value.*coupling='published'"):
        SplitGibbs().check(large)
    SplitGibbs(coupling="published").check(large)
    with pytest.raises(ModelError, match=r"which is not linear. Use DAPS"):
        SplitGibbs().check(problem(matrix=Absolute((N,), (M,), dtype=F64)))

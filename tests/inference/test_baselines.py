"""Baselines: each against an independent solution, or its formula written out in numpy."""

import inspect
import math
import warnings

import numpy as np
import pyro
import pytest
import torch
from scipy.optimize import lsq_linear
from skimage.restoration import denoise_tv_chambolle

from bayes_ir.inference import ModelError, read_problem
from bayes_ir.inference.baselines import (
    admm_tv,
    baselines,
    filtered_back_projection,
    hqs_map,
    pnp_admm,
    pseudo_inverse,
    total_variation,
)
from bayes_ir.inference.baselines.total_variation import differences, differences_adjoint, variation
from bayes_ir.models import (
    CircularBlur,
    DenseOperator,
    Gaussian,
    GaussianPrior,
    Identity,
    OneBit,
    PhaseRetrieval,
    Radon,
    gaussian_kernel,
)

F64 = torch.float64
NOISE = 0.3


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def problem(operator, y, noise=NOISE, prior=None, channel=Gaussian):
    n = operator.event_shape.numel()
    if prior is None:
        prior = GaussianPrior(torch.zeros(n), torch.eye(n), event_shape=operator.event_shape)

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior.to(dtype=operator.dtype))), noise))

    return read_problem(model, {"y": y})


def linear_problem(n=6, m=4, noise=NOISE):
    root = normal(n, n, seed=1)
    prior = GaussianPrior(normal(n, seed=2), root @ root.T / n + 0.2 * torch.eye(n, dtype=F64))
    return problem(DenseOperator(normal(m, n, seed=3)), normal(m, seed=4), noise, prior)


def moments(p):
    """Matrix over noise, data over noise, prior mean and covariance, in numpy."""
    noise = np.broadcast_to(p.channel.noise_std.numpy(), p.y.shape)
    matrix = p.operator.to_matrix().numpy() / noise[:, None]
    return matrix, p.y.numpy() / noise, p.prior.mean.numpy(), p.prior.components.covariance_matrix.numpy()


def blocks(*shape: int) -> torch.Tensor:
    x = torch.zeros(shape, dtype=F64)
    x[..., 2:5, 3:6] = 1
    x[..., 4:7, 1:4] = 0.5
    return x


@pytest.mark.parametrize("solver", [total_variation, admm_tv])
def test_variation_of_a_signal_by_its_dual(solver):
    """The dual of min |y - x|^2 / (2 sigma^2) + w |G x|_1 is min |y - G^T p|^2, |p| <= w sigma^2."""
    n, weight = 15, 4.0
    y = normal(n, seed=5) + torch.arange(n).div(5, rounding_mode="floor")
    found = solver(problem(Identity((n,), dtype=F64), y), weight, tolerance=1e-8, iterations=10_000)
    g = np.diff(np.eye(n), axis=0)
    bound = weight * NOISE**2
    p = lsq_linear(g.T, y.numpy(), (-bound, bound), method="bvls", tol=1e-14).x
    np.testing.assert_allclose(found, y.numpy() - g.T @ p, atol=1e-6)
    assert len(np.unique((y.numpy() - g.T @ p).round(6))) < n  # the solution is piecewise constant


@pytest.mark.parametrize("solver", [total_variation, admm_tv])
def test_variation_of_an_image_by_projected_gradients(solver):
    """With A^T A = H invertible the dual is min |A^T y - G^T p| in the norm of H^-1, |p| <= w at every pixel."""
    shape, weight = (1, 4, 5), 6.0
    p = problem(DenseOperator(normal(30, 20, seed=6) / 4, event_shape=shape), normal(30, seed=7))
    found = solver(p, weight, tolerance=1e-7, iterations=20_000)
    a, y, _, _ = moments(p)
    g = np.array([differences(e.reshape(shape)).numpy().reshape(2, -1) for e in torch.eye(20, dtype=F64)])
    g = np.moveaxis(g, 0, -1)  # (axes, pixels, N)
    h, pulled, dual = np.linalg.inv(a.T @ a), a.T @ y, np.zeros((2, 20))
    step = 1 / (8 * np.linalg.eigvalsh(h)[-1])
    for _ in range(20_000):
        dual = dual + step * g @ (h @ (pulled - np.einsum("akn,ak->n", g, dual)))
        dual /= np.maximum(np.linalg.norm(dual, axis=0) / weight, 1)
    exact = h @ (pulled - np.einsum("akn,ak->n", g, dual))
    np.testing.assert_allclose(found.flatten(), exact, atol=1e-5 * np.abs(exact).max())
    assert variation(found) < 0.7 * variation(p.operator.pinv(p.y))


def test_the_two_solvers_agree_and_with_scikit_image():
    truth = blocks(2, 9, 8)
    y = truth + 0.1 * normal(2, 9, 8, seed=8)
    p = problem(Identity((2, 9, 8), dtype=F64), y, 0.1)
    found = [solver(p, 5.0, tolerance=1e-7, iterations=5000) for solver in (total_variation, admm_tv)]
    theirs = denoise_tv_chambolle(y.numpy(), weight=5.0 * 0.1**2, eps=0, max_num_iter=3000, channel_axis=0)
    for image in found:
        torch.testing.assert_close(image, torch.from_numpy(theirs), rtol=0, atol=2e-4)
    torch.testing.assert_close(*found, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "operator",
    [
        DenseOperator(normal(40, 64, seed=9) / 6, event_shape=(1, 8, 8)),
        DenseOperator(Radon((1, 8, 8), 7, dtype=F64).to_matrix(), event_shape=(1, 8, 8)),
        CircularBlur(gaussian_kernel(3, 1.0), (1, 8, 8), dtype=F64),
    ],
    ids=["fewer measurements than pixels", "tomography", "blur"],
)
def test_the_two_solvers_agree_under_every_operator(operator):
    truth = blocks(1, 8, 8)
    noise = 0.05 * torch.linspace(1, 2, operator.measurement_shape.numel(), dtype=F64)
    noise = noise.reshape(operator.measurement_shape)
    y = operator(truth) + noise * normal(*operator.measurement_shape, seed=10)
    p = problem(operator, y, noise)
    one, two = total_variation(p, 10.0, tolerance=1e-6), admm_tv(p, 10.0, tolerance=1e-6)
    assert (one - two).norm() < 1e-4 * one.norm()
    assert (one - truth).norm() < 0.5 * (pseudo_inverse(p) - truth).norm()


def test_differences_have_their_transpose():
    for shape in ((7,), (2, 4, 5)):
        x = normal(*shape, seed=1)
        g = normal(*differences(x).shape, seed=2)
        torch.testing.assert_close((differences(x) * g).sum(), (x * differences_adjoint(g)).sum())


def test_plug_and_play_finds_the_posterior_mean_of_a_gaussian():
    """Its denoiser is the proximal operator of the prior, so the fixed point is the minimum, whatever rho."""
    p = linear_problem(noise=torch.linspace(0.2, 0.5, 4, dtype=F64))
    a, y, mean, covariance = moments(p)
    for weight, rho in ((1.0, None), (1.0, 5.0), (0.4, 2.0), (3.0, 30.0)):
        precision = weight * np.linalg.inv(covariance)
        exact = np.linalg.solve(a.T @ a + precision, a.T @ y + precision @ mean)
        found = pnp_admm(p, weight=weight, rho=rho, iterations=5000, tolerance=1e-10)
        np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-7)


def test_plug_and_play_written_out():
    p = linear_problem()
    a, y, mean, covariance = moments(p)
    rho, weight, growth, eye = 3.0, 0.7, 1.2, np.eye(6)
    v, u = mean, np.zeros(6)
    for _ in range(4):
        x = np.linalg.solve(a.T @ a + rho * eye, a.T @ y + rho * (v - u))
        v = mean + covariance @ np.linalg.solve(covariance + weight / rho * eye, x + u - mean)
        u, rho = u + x - v, rho * growth
    with pytest.warns(RuntimeWarning, match=r"pnp_admm: after 4 iterations .* raise `iterations`"):
        found = pnp_admm(p, weight=weight, rho=3.0, growth=growth, iterations=4)
    np.testing.assert_allclose(found, x, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 5])
def test_half_quadratic_splitting_written_out(steps):
    p = linear_problem()
    a, y, mean, covariance = moments(p)
    z, eye = mean, np.eye(6)
    for level in np.geomspace(0.8, 0.05, steps):
        mu = 0.23 / level**2
        x = np.linalg.solve(a.T @ a + mu * eye, a.T @ y + mu * z)
        z = mean + covariance @ np.linalg.solve(covariance + level**2 * eye, x - mean)
    np.testing.assert_allclose(hqs_map(p, steps=steps, highest=0.8, lowest=0.05), z, rtol=1e-9)


def test_linear_inverses():
    p = linear_problem()
    matrix = p.operator.to_matrix().numpy()
    np.testing.assert_allclose(pseudo_inverse(p), np.linalg.pinv(matrix) @ p.y.numpy(), rtol=1e-9)
    cut = np.linalg.pinv(matrix, rcond=0.7) @ p.y.numpy()
    np.testing.assert_allclose(pseudo_inverse(p, rcond=0.7), cut, rtol=1e-9)
    radon = Radon((1, 8, 8), 12, dtype=F64)
    q = problem(radon, radon(blocks(1, 8, 8)))
    assert torch.equal(filtered_back_projection(q, filter="hann"), radon.fbp(q.y, "hann"))


def test_registry():
    functions = baselines()
    assert (
        next(iter(functions)) == "pseudo_inverse" and functions["admm_tv"] is admm_tv and len(functions) == 6
    )
    radon = Radon((1, 8, 8), 12)
    dense = DenseOperator(radon.to_matrix(), event_shape=(1, 8, 8))
    scan = problem(radon, radon(blocks(1, 8, 8).float()), 0.2)
    image = problem(dense, scan.y.flatten(), 0.2)
    for name, function in functions.items():
        assert "A point estimate, not a posterior draw." in inspect.getdoc(function), name
        needed: dict = {"weight": 2.0} if name in ("total_variation", "admm_tv") else {}
        if "iterations" in inspect.signature(function).parameters:
            needed["iterations"] = 20
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # twenty iterations
            found = function(scan if name == "filtered_back_projection" else image, **needed)
        assert found.shape == (1, 8, 8) and found.dtype == torch.float32 and found.isfinite().all()


@pytest.mark.parametrize("name", list(baselines()))
def test_refuses_other_models(name):
    needed = {"weight": 1.0} if name in ("total_variation", "admm_tv") else {}
    function = baselines()[name]
    one_bit = problem(DenseOperator(normal(3, 4)), torch.ones(3, dtype=F64), channel=OneBit)
    with pytest.raises(ModelError, match=rf"{name} needs a Gaussian channel; site 'y' has OneBit"):
        function(one_bit, **needed)
    operator = PhaseRetrieval((1, 4, 4), dtype=F64)
    y = operator(normal(1, 4, 4))
    with pytest.raises(ModelError, match=rf"{name} needs a linear operator.*not linear"):
        function(problem(operator, y), **needed)


def test_refuses_settings():
    p = linear_problem()
    for call, said in (
        (lambda: total_variation(p, -1.0), "total_variation: expected weight > 0, got -1"),
        (lambda: admm_tv(p, 1.0, rho=0.0), "admm_tv: expected rho > 0"),
        (lambda: admm_tv(p, 0.0), "admm_tv: expected weight > 0"),
        (lambda: pnp_admm(p, rho=math.inf), "pnp_admm: expected rho > 0"),
        (lambda: pnp_admm(p, growth=0.9), "pnp_admm: expected growth >= 1, got 0.9"),
        (lambda: pnp_admm(p, rho=1e9), r"pnp_admm: sqrt\(weight / rho\) is 3.162e-05, .*made for noise from"),
        (lambda: hqs_map(p, highest=1e4), "hqs_map: highest is 1e.04, .*made for noise"),
        (lambda: hqs_map(p, highest=0.1, lowest=0.2), "hqs_map: expected lowest <= highest"),
        (lambda: hqs_map(p, steps=0), "hqs_map: expected steps > 0"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    with pytest.raises(ModelError, match="needs the operator Radon, and this model has DenseOperator"):
        filtered_back_projection(p)
    matrix = problem(DenseOperator(normal(3, 4), event_shape=(2, 2)), normal(3))
    with pytest.raises(
        ModelError, match=r"admm_tv needs images \(C, H, W\) or signals.*event_shape is \(2, 2\)"
    ):
        admm_tv(matrix, 1.0)

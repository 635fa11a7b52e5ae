import math

import pytest
import torch

from bayes_ir.models.diffusion import (
    DDPM,
    RectifiedFlow,
    VarianceExploding,
    VariancePreserving,
    denoised_from_noise,
    denoised_from_score,
    denoised_from_velocity,
    noise_from_denoised,
    score_from_denoised,
    velocity_from_denoised,
)

PROCESSES = [
    VarianceExploding(0.01, 50.0),
    VariancePreserving(),
    DDPM(),
    DDPM(50, 1e-3, 0.3),
    RectifiedFlow(),
]


def inner_times(process, n=23):
    """Times strictly inside the process and, for DDPM, off its whole steps where it is not smooth."""
    return process.t_min + (process.t_max - process.t_min) * (torch.arange(n, dtype=torch.float64) + 0.37) / n


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
class TestEveryProcess:
    def test_coefficients_are_float64_and_shaped_as_t(self, process):
        t = inner_times(process, 6).reshape(2, 3).float()
        a, b = process.coefficients(t)
        assert a.dtype == b.dtype == torch.float64
        assert a.shape == b.shape == (2, 3)
        assert process.coefficients(float(t[0, 0]))[1].shape == ()

    def test_noise_ratio_grows_with_time(self, process):
        assert (process.ratio(inner_times(process)).diff() > 0).all()

    def test_time_at_inverts_ratio(self, process):
        t = torch.cat([torch.tensor([process.t_min], dtype=torch.float64), inner_times(process)])
        torch.testing.assert_close(process.time_at(process.ratio(t)), t, rtol=1e-9, atol=1e-10)

    def test_derivatives_agree_with_finite_differences(self, process):
        t = inner_times(process)
        h = 1e-5 * (process.t_max - process.t_min)
        up, down = process.coefficients(t + h), process.coefficients(t - h)
        for exact, plus, minus in zip(process.derivatives(t), up, down, strict=True):
            # Central differences: relative error of order h^2 times the third derivative.
            torch.testing.assert_close(exact, (plus - minus) / (2 * h), rtol=1e-5, atol=1e-9)

    def test_conversions_invert_each_other(self, process):
        t = inner_times(process)[:, None]
        (a, b), (a_dot, b_dot) = process.coefficients(t), process.derivatives(t)
        rng = torch.Generator().manual_seed(0)
        x_t, x0_hat = torch.randn(2, len(t), 7, dtype=torch.float64, generator=rng)
        noise = noise_from_denoised(x_t, x0_hat, a, b)
        score = score_from_denoised(x_t, x0_hat, a, b)
        velocity = velocity_from_denoised(x_t, x0_hat, a, b, a_dot, b_dot)
        # Each conversion loses about b/a digits: float64 leaves 1e-16 * 50^2 here.
        tolerance = {"rtol": 1e-9, "atol": 1e-9}
        torch.testing.assert_close(denoised_from_noise(x_t, noise, a, b), x0_hat, **tolerance)
        torch.testing.assert_close(denoised_from_score(x_t, score, a, b), x0_hat, **tolerance)
        torch.testing.assert_close(
            denoised_from_velocity(x_t, velocity, a, b, a_dot, b_dot), x0_hat, **tolerance
        )
        torch.testing.assert_close(score, -noise / b, **tolerance)

    def test_true_noise_and_velocity_come_from_the_clean_image(self, process):
        t = inner_times(process)[:, None]
        (a, b), (a_dot, b_dot) = process.coefficients(t), process.derivatives(t)
        rng = torch.Generator().manual_seed(1)
        x_0, eps = torch.randn(2, len(t), 5, dtype=torch.float64, generator=rng)
        x_t = a * x_0 + b * eps
        torch.testing.assert_close(noise_from_denoised(x_t, x_0, a, b), eps, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(
            velocity_from_denoised(x_t, x_0, a, b, a_dot, b_dot),
            a_dot * x_0 + b_dot * eps,
            rtol=1e-8,
            atol=1e-8,
        )


def test_variance_exploding_has_its_ends():
    process = VarianceExploding(0.02, 30.0)
    torch.testing.assert_close(process.ratio([0.0, 1.0]), torch.tensor([0.02, 30.0], dtype=torch.float64))


@pytest.mark.parametrize("process", [VariancePreserving(), DDPM()], ids=repr)
def test_variance_is_preserved(process):
    a, b = process.coefficients(inner_times(process))
    torch.testing.assert_close(a**2 + b**2, torch.ones_like(a), rtol=1e-12, atol=0)


def test_ddpm_is_the_product_of_its_steps():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    a, _ = DDPM().coefficients(torch.arange(1.0, 1001.0))
    torch.testing.assert_close(a**2, (1 - betas).cumprod(0), rtol=1e-12, atol=0)


def test_continuous_process_is_the_limit_of_the_discrete_one():
    # -2 log a is sum -log(1 - beta_i) against the integral of beta: half the difference is at most
    # sum beta^2 / 4 (the logarithm; 0.034 at the end) plus half the last step (the sum for the integral).
    s = torch.linspace(0.05, 1.0, 20, dtype=torch.float64)
    continuous = VariancePreserving(0.1, 20.0).coefficients(s)[0].log()
    discrete = DDPM().coefficients(1000 * s)[0].log()
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    last = (1000 * s).round().long() - 1
    bound = 1.02 * (betas**2).cumsum(0)[last] / 4 + betas[last] / 2
    assert ((continuous - discrete).abs() < bound).all()


def test_rectified_flow_reaches_pure_noise_at_an_infinite_ratio():
    assert RectifiedFlow().ratio(1.0) == math.inf
    assert RectifiedFlow().time_at(math.inf) == 1.0
    assert RectifiedFlow().time_at(0.0) == 0.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: VarianceExploding(0.0, 1.0), "0 < noise_min < noise_max"),
        (lambda: VarianceExploding(2.0, 1.0), "noise_max=1.0"),
        (lambda: VariancePreserving(1.0, 0.5), "beta_max=0.5"),
        (lambda: DDPM(steps=1), "steps=1"),
        (lambda: DDPM(beta_end=1.5), "beta_end=1.5"),
    ],
)
def test_impossible_parameters_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()

import math
import random

import mpmath
import pytest
import torch
from channel_protocol import double

from bayes_ir.models.channels.box import box, half_line, log_box

INF = math.inf
ACCURACY = 2e-11


def exact(alpha, gamma):
    """``log Z``, ``d`` and ``q`` by the textbook formulas, in 60 digits."""
    with mpmath.workdps(60):
        a, g = mpmath.mpf(alpha), mpmath.mpf(gamma)

        def cdf(x):
            return mpmath.erfc(-x / mpmath.sqrt(2)) / 2

        phi_a, phi_g = (mpmath.npdf(x) if mpmath.isfinite(x) else mpmath.mpf(0) for x in (a, g))
        with_a, with_g = (x * p if p else p for x, p in ((a, phi_a), (g, phi_g)))
        left_out = cdf(a) + cdf(-g)
        z = cdf(-a) - cdf(-g) if a > 0 else cdf(g) - cdf(a)
        log_z = mpmath.log1p(-left_out) if left_out < 0.1 else mpmath.log(z)
        d, k = (phi_a - phi_g) / z, (with_a - with_g) / z
        return log_z, d, d * d - k


def relative_errors(alpha, gamma):
    found = box(double(alpha), double(gamma))
    errors = []
    for value, truth in zip(found, exact(alpha, gamma), strict=True):
        # what float64 cannot hold counts as found if it comes out as nothing
        errors.append(float(abs(value.item() / truth - 1)) if abs(truth) > 1e-290 else abs(value.item()))
    return errors


def random_cells(kind, count=40):
    rng = random.Random(kind)
    for _ in range(count):
        a = rng.choice(
            [rng.uniform(-60, 60), rng.gauss(0, 2), rng.choice([-1, 1]) * 10 ** rng.uniform(-8, 3)]
        )
        if kind == "half-lines":
            yield rng.choice([(a, INF), (-INF, a)])
        else:
            width = {
                "tiny": rng.uniform(-8, -2),
                "moderate": rng.uniform(-2, 1),
                "wide": rng.uniform(1, 2.5),
            }[kind]
            yield a, a + 10**width


@pytest.mark.parametrize("kind", ["tiny", "moderate", "wide", "half-lines"])
def test_box_against_sixty_digits(kind):
    cells = list(random_cells(kind))
    assert max(max(relative_errors(*cell)) for cell in cells) < ACCURACY


@pytest.mark.parametrize(
    ("alpha", "gamma"),
    [
        (50.0, 51.0),
        (-51.0, -50.0),
        (50.0, 50.0 + 2**-27),
        (-1e-8, 1e-8),
        (-1.0, 1.0 + 1e-9),
        (0.0, 1e-8),
        (0.0, INF),
        (-INF, 1e-12),
        (-3.0, 37.0),
        (-8.3, 9.1),
        (300.0, 1e4),
        (1e4, INF),
        (-INF, -1e4),
        # on both sides of every border between the regimes
        (-1.0, 0.9999999),
        (-1.0, 1.0000001),
        (0.0, 1.9999999),
        (0.0, 2.0000001),
        (9.9, 10.0999),
        (9.9, 10.1001),
        (15.9999999, INF),
        (16.0000001, INF),
        (15.9999999, 16.3),
        (-16.0000001, -15.5),
    ],
)
def test_box_at_the_hard_places(alpha, gamma):
    assert max(relative_errors(alpha, gamma)) < ACCURACY


def test_the_whole_line_says_nothing():
    assert [term.item() for term in box(double(-INF), double(INF))] == [0, 0, 0]


def test_box_mirrors_to_the_bit():
    torch.manual_seed(0)
    alpha = 30 * torch.randn(500, dtype=torch.float64)
    gamma = alpha + 10 ** (3 * torch.randn(500, dtype=torch.float64) - 2)
    here, there = box(alpha, gamma), box(-gamma, -alpha)
    assert torch.equal(here.log_z, there.log_z)
    assert torch.equal(here.d, -there.d)
    assert torch.equal(here.q, there.q)
    assert ((here.q >= 0) & (here.q <= 1 + 1e-15)).all()


def test_box_passes_nan_on():
    for cell in (box(double(math.nan), double(1.0)), box(double(0.0), double(math.nan))):
        assert all(term.isnan() for term in cell)


def test_half_line_is_a_box_without_an_end():
    u = torch.cat(
        [-torch.logspace(-6, 4, 60, dtype=torch.float64), torch.logspace(-6, 4, 60, dtype=torch.float64)]
    )
    for mine, theirs in zip(half_line(u), box(-u, torch.full_like(u, INF)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=ACCURACY, atol=1e-290)


@pytest.mark.parametrize("u", [-1e4, -50.0, -16.0000001, -15.9999999, -5.0, -1.0, -1e-9, 0.0, 2.0, 8.0, 30.0])
def test_half_line_against_sixty_digits(u):
    found = [term.item() for term in half_line(double(u))]
    assert found == pytest.approx([float(truth) for truth in exact(-u, INF)], rel=ACCURACY)


def test_half_line_far_inside_says_nothing():
    assert [term.item() for term in half_line(double(1e4))] == [0, 0, 0]


def test_gradients_of_log_box():
    cells = [
        (-0.4, 0.3),
        (1.0, 1.001),
        (8.0, 9.0),
        (-9.0, -7.5),
        (-3.0, 4.0),
        (-INF, -2.0),
        (0.5, INF),
        (-INF, INF),
    ]
    lower, upper = double(*cells).unbind(-1)
    mean, scale = torch.full_like(lower, 0.1).requires_grad_(), torch.full_like(lower, 0.8).requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: log_box(m, s, lower, upper), (mean, scale))
    finite = slice(0, 5)
    bounds = lower[finite].clone().requires_grad_(), upper[finite].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: log_box(double(0.1), double(0.8), a, b), bounds)


def test_gradient_of_log_box_in_the_far_tail():
    mean = double(-80.0, 0.0, 70.0).requires_grad_()
    (gradient,) = torch.autograd.grad(log_box(mean, double(1.0), double(10.0), double(10.01)).sum(), mean)
    truth = [float(exact(10.0 - m, 10.01 - m)[1]) for m in mean.tolist()]
    assert gradient.tolist() == pytest.approx(truth, rel=1e-11)


def test_second_derivatives_of_log_box_are_refused():
    mean = double(0.3).requires_grad_()
    log_z = log_box(mean, double(1.0), double(0.0), double(1.0)).sum()
    with pytest.raises(NotImplementedError, match=r"create_graph=True asks for second ones.*curvature"):
        torch.autograd.grad(log_z, mean, create_graph=True)

import math

import pytest
import torch
from channel_protocol import double
from scipy import optimize, stats

from bayes_ir.models.channels import Quantized


@pytest.mark.parametrize("bits", range(1, 9))
def test_uniform_code_book(bits):
    step, half = 0.7, 2 ** (bits - 1)
    channel = Quantized(double(0.0), 0.1, bits=bits, step=step)
    expected_thresholds = [(k - half) * step for k in range(1, 2 * half)]
    expected_codes = [(k + 0.5 - half) * step for k in range(2 * half)]
    assert channel.thresholds.tolist() == pytest.approx(expected_thresholds, rel=1e-15)
    assert channel.codes.tolist() == pytest.approx(expected_codes, rel=1e-15)
    lower, upper = channel.cells(channel.codes)
    assert lower.tolist() == [-math.inf, *channel.thresholds.tolist()]
    assert upper.tolist() == [*channel.thresholds.tolist(), math.inf]


def test_equally_spaced_thresholds_are_the_uniform_quantiser():
    uniform = Quantized(double(0.0), 0.1, bits=2, step=0.5)
    spaced = Quantized(double(0.0), 0.1, thresholds=[-0.5, 0.0, 0.5])
    assert torch.equal(uniform.thresholds, spaced.thresholds) and torch.equal(uniform.codes, spaced.codes)


def test_codes_of_a_single_threshold():
    assert Quantized(double(0.0), 0.1, thresholds=[0.3]).codes.tolist() == pytest.approx([-0.2, 0.8])


def test_a_value_on_a_threshold_falls_into_the_cell_above():
    channel = Quantized(double(0.0), 0.1, bits=2, step=1.0)
    assert channel.quantise(double(-9.0, -1.0, -1e-12, 0.0, 0.99, 1.0, 9.0)).tolist() == [
        -1.5,
        -0.5,
        -0.5,
        0.5,
        0.5,
        1.5,
        1.5,
    ]


def test_cells_keep_the_shape_and_follow_the_dtype_of_z():
    channel = Quantized(torch.zeros(2, 3), 0.1, bits=4, step=0.3)
    y = channel.sample((5,))
    lower, upper = channel.cells(y)
    assert lower.shape == upper.shape == y.shape and lower.dtype == torch.float32
    assert ((lower <= y) & (y < upper)).all()


@pytest.mark.parametrize("step", [1e-3, 0.3, 12.0])
def test_measurements_stored_in_float32_are_recognised(step):
    channel = Quantized(double(0.0), 0.1, bits=8, step=step)
    lower, _ = channel.cells(channel.codes.float())
    assert torch.equal(lower, channel.cells(channel.codes)[0])


def test_float32_far_from_zero_is_recognised():
    channel = Quantized(double(0.0), 0.1, thresholds=double(1000.0, 1000.01, 1000.02))
    lower, _ = channel.cells(channel.codes.float())
    assert lower.tolist() == [-math.inf, 1000.0, 1000.01, 1000.02]


@pytest.mark.parametrize("bits", range(1, 9))
def test_step_with_the_least_mean_squared_error(bits):
    def error(step):
        k = torch.arange(-(2 ** (bits - 1)), 2 ** (bits - 1), dtype=torch.float64)
        lower, upper, code = k * step, (k + 1) * step, (k + 0.5) * step
        lower[0], upper[-1] = -math.inf, math.inf
        # E[(n - c)^2; cell] = (1 + c^2) P + [(2 c - n) phi(n)] from lower to upper
        edge = [
            torch.tensor(stats.norm.pdf(e)) * torch.where(e.isinf(), 0.0, 2 * code - e)
            for e in (lower, upper)
        ]
        mass = torch.tensor(stats.norm.cdf(upper) - stats.norm.cdf(lower))
        return float(((1 + code**2) * mass + edge[1] - edge[0]).sum())

    best = optimize.minimize_scalar(error, bounds=(0.01, 3), method="bounded", options={"xatol": 1e-7}).x
    assert Quantized.step_for(1.0, bits) == pytest.approx(best, abs=6e-5)
    assert Quantized.step_for(2.5, bits) == 2.5 * Quantized.step_for(1.0, bits)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (
            double(0.25, 0.3),
            r"cells: y contains 0.3 \(1 of 2 entries\), expected one of the 8 code values from -1.75 to 1.75",
        ),
        (
            double(0.0, 1.0, 2.0, 3.0),
            r"y contains 0, 1, 2, \.\.\. \(4 of 4 entries\).*channel\.codes\[index\].*quantise",
        ),
        (double(2.25), r"y contains 2.25 \(1 of 1 entries\)"),
        (double(0.25 + 6e-5), r"y contains 0.25006"),
        (double(math.nan), r"y contains nan"),
    ],
)
def test_refuses_values_outside_of_the_code_book(y, said):
    channel = Quantized(torch.zeros(()), 0.1, bits=3, step=0.5)
    with pytest.raises(ValueError, match=said):
        channel.cells(y)
    with pytest.raises(ValueError, match=said.replace("cells", "log_prob")):
        channel.log_prob(y)
    channel.cells(double(0.25 + 4e-5))


@pytest.mark.parametrize(
    ("design", "said"),
    [
        ({}, r"got no code book, expected either both bits and step or thresholds alone"),
        ({"bits": 2}, r"got bits, expected either both"),
        ({"step": 0.5}, r"got step, expected either both"),
        ({"bits": 2, "step": 0.5, "thresholds": [0.0]}, r"got bits and step and thresholds, expected"),
        (
            {"bits": 0, "step": 0.5},
            r"bits is 0, expected a whole number from 1 to 8.*noise_std\^2 \+ step\^2 / 12",
        ),
        ({"bits": 9, "step": 0.5}, r"bits is 9, expected"),
        ({"bits": 2.5, "step": 0.5}, r"bits is 2.5, expected"),
        ({"bits": 2, "step": 0.0}, r"step is 0, expected a finite number above 0.*step_for"),
        ({"bits": 2, "step": -1.0}, r"step is -1, expected"),
        ({"bits": 2, "step": math.nan}, r"step is nan, expected"),
        (
            {"thresholds": [0.0, 0.5, 0.5]},
            r"thresholds 1 and 2 are 0.5 and 0.5, expected strictly increasing.*sort",
        ),
        ({"thresholds": [1.0, 0.5]}, r"thresholds 0 and 1 are 1 and 0.5, expected strictly increasing"),
        ({"thresholds": [0.0, math.inf]}, r"thresholds contains inf \(1 of 2 entries\), expected finite"),
        ({"thresholds": [[0.0, 1.0]]}, r"thresholds have shape \(1, 2\), expected \(J,\)"),
        ({"thresholds": []}, r"thresholds have shape \(0,\), expected \(J,\)"),
        ({"thresholds": double(1.0, 1.0 + 1e-9)}, r"room between them in torch.float32.*float64"),
    ],
)
def test_refuses_designs(design, said):
    with pytest.raises(ValueError, match=f"^Quantized: .*{said}" if design else said):
        Quantized(torch.zeros(3), 0.1, **design)


def test_thresholds_can_be_learned():
    thresholds = double(-0.3, 0.4).requires_grad_()
    z = double(-0.2, 0.1, 0.6)

    def likelihood(thresholds):
        return Quantized(z, 0.5, thresholds=thresholds).log_prob(
            Quantized(z, 0.5, thresholds=thresholds).codes[[0, 1, 2]]
        )

    assert torch.autograd.gradcheck(likelihood, (thresholds,))

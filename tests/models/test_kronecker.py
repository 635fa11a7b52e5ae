"""Products over channels, rows and columns against numpy's kron."""

import time

import numpy as np
import pytest
import torch
from operator_case import OperatorCase, close, normal
from torch.utils._python_dispatch import TorchDispatchMode

from bayes_ir.models.operators.channel_mixing import ChannelMixing, Colorization
from bayes_ir.models.operators.kronecker import Kronecker, KroneckerSVD
from bayes_ir.models.operators.separable_blur import SeparableBlur
from bayes_ir.models.operators.super_resolution import BicubicDownsampling, BlockAverage, GaussianDownsampling

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(3, 5)) + 2 * np.eye(3, 5)
COLUMNS = RNG.normal(size=(4, 6)) + 2 * np.eye(4, 6)
CHANNELS = RNG.normal(size=(2, 3)) + 2 * np.eye(2, 3)


class KroneckerCase(OperatorCase):
    rows, columns, channels, shape = ROWS, COLUMNS, CHANNELS, (3, 5, 6)

    def build(self, dtype=torch.float64):
        return Kronecker(self.rows, self.columns, self.channels, self.shape, dtype)

    def truth(self, operator):
        factors = (self.channels, self.rows, self.columns)
        c, h, w = (
            np.eye(n) if f is None else np.asarray(f) for f, n in zip(factors, self.shape, strict=True)
        )
        return np.kron(c, np.kron(h, w))


class TestKronecker(KroneckerCase):
    pass


class TestTall(KroneckerCase):
    rows, columns, channels, shape = ROWS.T, COLUMNS, CHANNELS.T, (2, 3, 6)


class TestWithoutChannels(KroneckerCase):
    channels = None


class TestWithoutRows(KroneckerCase):
    rows = None


class TestColumnsOnly(KroneckerCase):
    rows, channels = None, None


class TestTiedSingularValues(KroneckerCase):
    """Every product of the singular values (3, 2, 2) and (3, 2, 2, 1) occurs, 4 and 6 several times."""

    rows = np.linalg.qr(RNG.normal(size=(3, 3)))[0] * [2, 3, 2] @ np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    columns = (
        np.linalg.qr(RNG.normal(size=(4, 4)))[0] * [1, 2, 3, 2] @ np.linalg.qr(RNG.normal(size=(4, 4)))[0]
    )
    channels, shape = None, (3, 3, 4)


class TestRankDeficient(KroneckerCase):
    """Rank 2 of 3 rows, 2 of 4 columns and 1 of 2 channels."""

    rows = np.array([[1, 2, 0, 1, 0], [0, 1, 1, 0, 2], [1, 3, 1, 1, 2]])
    columns = RNG.normal(size=(4, 2)) @ RNG.normal(size=(2, 6))
    channels = np.array([[1, 2, 3], [-2, -4, -6]])

    def test_rank(self, operator):
        assert operator.svd.rank == self.build(torch.float32).svd.rank == 4


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_coefficients_belong_to_their_singular_values_for_every_channel(order):
    # Singular values laid out channel by channel for coefficients laid out otherwise are the mistake of DDRM's blur.
    mixing = np.diag([5.0, 1.0, 0.2])[list(order)]
    operator = Kronecker(np.diag([1.0, 0.7]), np.diag([1.0, 0.9, 0.1]), mixing, dtype=torch.float64)
    x, svd = normal(2, 3, 2, 3), operator.svd
    close(svd.left(svd.singular_values * svd.right_adjoint(x)), operator(x))
    for k in range(svd.rank):
        c = torch.eye(svd.rank, dtype=torch.float64)[k]
        close(operator(svd.right(c)), svd.singular_values[k] * svd.left(c))


def test_sizes_follow_from_the_factors():
    operator = Kronecker(ROWS, COLUMNS, dtype=torch.float64)
    assert operator.event_shape == (1, 5, 6) and operator.measurement_shape == (1, 3, 4)
    x = normal(1, 5, 6)
    close(operator(x)[0], ROWS @ x[0].numpy() @ COLUMNS.T)
    assert Kronecker(ROWS, COLUMNS, CHANNELS).event_shape == (3, 5, 6)
    text = "rows=<3 x 5>, columns=None, channels=<2 x 3>, event_shape=(3, 5, 7), dtype=torch.float64"
    assert repr(Kronecker(ROWS, None, CHANNELS, (3, 5, 7), torch.float64)) == f"Kronecker({text})"


def test_plain_numbers_keep_their_digits():
    close(Kronecker([[0.1, 0.2]], [[1, 2]], dtype=torch.float64).rows, [[0.1, 0.2]], 1e-17)


@pytest.mark.parametrize("decomposed_before", [False, True])
def test_rank_does_not_depend_on_what_was_cached(decomposed_before):
    operator = Kronecker(np.diag([1, 1e-3, 1e-9]), np.diag([1, 1e-5]), dtype=torch.float64)
    if decomposed_before:
        assert operator.svd.rank == 6
    single = operator.to(dtype=torch.float32)
    assert single.svd.rank == 3  # 1, 1e-3 and 1e-5, but not 1e-8
    assert single.svd.order.shape == (3,)
    assert single.to(dtype=torch.float64).svd.rank == 3  # no new digits
    assert operator.svd.rank == 6
    assert operator.to(device="cpu").svd.rank == 6


def test_rounding_errors_of_the_entries_are_no_measurements():
    narrow = torch.as_tensor(TestRankDeficient.columns).float()
    assert torch.linalg.svdvals(narrow.double())[2] > 1e-9  # float32 entries have made it full rank
    assert Kronecker(narrow, narrow, dtype=torch.float64).svd.rank == 4


def test_nothing_observed_has_rank_zero():
    operator = Kronecker(np.zeros((2, 3)), np.ones((2, 3)))
    assert operator.svd.rank == 0
    assert torch.equal(operator.pinv(torch.ones(4, 1, 2, 2)), torch.zeros(4, 1, 3, 3))
    assert torch.equal(operator.svd.gram_diagonal(), torch.zeros(1, 2, 2))


def test_factors_may_be_learned():
    rows = torch.as_tensor(ROWS).requires_grad_()
    operator, x = Kronecker(rows, COLUMNS, dtype=torch.float64), normal(1, 5, 6)
    (gradient,) = torch.autograd.grad(operator(x).sum(), rows)
    close(gradient, (x[0].numpy() @ COLUMNS.T).sum(-1)[None].repeat(3, axis=0))
    assert not operator.svd.u_rows.requires_grad and not operator.svd.singular_values.requires_grad


class Largest(TorchDispatchMode):
    """The size of the largest tensor that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for part in made if isinstance(made, tuple | list) else [made]:
            if isinstance(part, torch.Tensor):
                self.numbers = max(self.numbers, part.untyped_storage().nbytes() // part.element_size())
        return made


PHOTO = (3, 256, 256)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SeparableBlur.gaussian(PHOTO, std=3.0),
        lambda: SeparableBlur.uniform(PHOTO, 9, boundary="circular"),
        lambda: BlockAverage(PHOTO, 4),
        lambda: BicubicDownsampling(PHOTO, 4),
        lambda: GaussianDownsampling(PHOTO, 8),
        lambda: Colorization(PHOTO),
        lambda: ChannelMixing(PHOTO, CHANNELS),
    ],
)
def test_a_photograph_takes_memory_linear_in_its_pixels(make):
    start = time.process_time()
    with Largest() as largest:
        operator = make()
        x = torch.ones(PHOTO)
        z = operator(x)
        operator.adjoint(z), operator.pinv(z), operator.solve(z), operator.gram_diagonal()
        assert isinstance(operator.svd, KroneckerSVD) and operator.structured
        operator.svd.gram_diagonal()
    assert largest.numbers <= x.numel()
    assert time.process_time() - start < 5  # seconds of processor time; it takes 0.1


NAN = [[1.0, float("nan")]]
REFUSED = [
    (lambda: Kronecker(None, None), ValueError, "expected at least one factor, got None for all three"),
    (lambda: Kronecker(None, COLUMNS), ValueError, "rows=None or columns=None .* give event_shape"),
    (lambda: Kronecker(None, None, CHANNELS), ValueError, "give event_shape too"),
    (lambda: Kronecker(ROWS[0], COLUMNS), ValueError, r"rows to be a matrix, got shape \(5,\)"),
    (lambda: Kronecker(np.zeros((0, 3)), COLUMNS), ValueError, r"rows to be a matrix, got shape \(0, 3\)"),
    (
        lambda: Kronecker(ROWS, COLUMNS * 1j),
        TypeError,
        "expected real numbers in columns, got torch.complex128",
    ),
    (lambda: Kronecker(ROWS, NAN), ValueError, "1 of the 2 numbers in columns are not finite"),
    (lambda: Kronecker("blur", COLUMNS), TypeError, "rows to be an array of numbers, got 'blur'"),
    (lambda: Kronecker([[1], [1, 2]], COLUMNS), TypeError, "rows to be an array of numbers"),
    (lambda: Kronecker(ROWS, COLUMNS, event_shape=(5, 6)), ValueError, r"got \(5, 6\); try \(1, 5, 6\)"),
    (lambda: Kronecker(ROWS, COLUMNS, event_shape=5), TypeError, "expected event_shape to be a tuple"),
    (
        lambda: Kronecker(ROWS, COLUMNS, None, (1, 6, 5)),
        ValueError,
        r"rows of shape \(3, 5\) .* expected \(3, 6\)",
    ),
    (
        lambda: Kronecker(ROWS, COLUMNS, CHANNELS, (1, 5, 6)),
        ValueError,
        r"channels of shape .* expected \(2, 1\)",
    ),
    (lambda: Kronecker(ROWS, torch.ones(2, 6, device="meta")), ValueError, "one device, got cpu and meta"),
    (lambda: Kronecker(ROWS, COLUMNS, dtype=torch.int64), TypeError, "expected a real floating dtype"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=f"^Kronecker: .*{words}"):
        make()

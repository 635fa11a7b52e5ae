"""Ranks, caches and precision of the decompositions."""

import pytest
import torch
from operator_case import close, normal

from bayes_ir.models.operators import DenseOperator, IllConditionedSensing


def singular(values, dtype=torch.float64):
    """A matrix with these singular values."""
    n = len(values)
    u, v = torch.linalg.qr(normal(n, n, seed=1))[0], torch.linalg.qr(normal(n, n, seed=2))[0]
    return (u * torch.tensor(values, dtype=torch.float64) @ v.mT).to(dtype)


def test_rounding_errors_are_no_measurements():
    rank_two = singular([3.0, 1.0, 0.0, 0.0], torch.float32)
    rounded = torch.linalg.svdvals(rank_two.double())
    assert rounded[2] > 1e-10  # float32 entries have made it full rank
    for operator in (
        DenseOperator(rank_two),
        DenseOperator(rank_two).to(dtype=torch.float64),
        DenseOperator(rank_two.double(), dtype=torch.float32).to(dtype=torch.float64),
        DenseOperator(rank_two, dtype=torch.float64),
        DenseOperator(singular([3.0, 1.0, 0.0, 0.0])).to(dtype=torch.float32).to(dtype=torch.float64),
    ):
        assert operator.svd.rank == 2
        assert operator.pinv(torch.ones(4, dtype=operator.dtype)).abs().max() < 5


@pytest.mark.parametrize("decomposed_before", [False, True])
def test_rank_does_not_depend_on_what_was_cached(decomposed_before):
    operator = DenseOperator(singular([1.0, 1e-3, 1e-9]))
    if decomposed_before:
        assert operator.svd.rank == 3
    assert operator.to(dtype=torch.float32).svd.rank == 2
    assert operator.svd.rank == 3


def test_pinv_ignores_small_singular_values_on_request():
    matrix, z = singular([1.0, 1e-1, 1e-3]), normal(3, seed=3)
    operator = DenseOperator(matrix)
    for rcond in (0.0, 1e-2, 0.5):
        close(operator.pinv(z, rcond=rcond), torch.linalg.pinv(matrix, rtol=rcond) @ z, 1e-9)
    for rcond in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"DenseOperator\.pinv: expected 0 <= rcond < 1"):
            operator.pinv(z, rcond=rcond)


def test_an_operator_that_sees_nothing_has_rank_zero():
    operator = DenseOperator(torch.zeros(2, 3))
    assert operator.svd.rank == 0
    assert torch.equal(operator.pinv(torch.ones(5, 2)), torch.zeros(5, 3))
    assert torch.equal(operator.svd.gram_diagonal(), torch.zeros(2))


def test_decomposed_once(monkeypatch):
    calls = []
    original = torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda *args, **kw: calls.append(1) or original(*args, **kw))
    operator, x, z = DenseOperator(normal(3, 4)), normal(4), normal(3)
    operator.gram_diagonal(), operator(x), operator.adjoint(z)
    assert not calls
    operator.pinv(z), operator.pinv(z), operator.to(dtype=torch.float32).pinv(z.float())
    assert len(calls) == 1


def test_singular_values_of_a_float32_operator_are_those_of_its_entries_to_float64():
    matrix = normal(6, 8, dtype=torch.float32)
    close(DenseOperator(matrix).svd.singular_values, torch.linalg.svdvals(matrix.double()), 1e-14)


def test_a_wider_copy_is_the_same_operator_with_a_decomposition_as_precise_as_its_dtype():
    narrow = DenseOperator(normal(6, 8, dtype=torch.float32))
    assert narrow.svd.u.dtype == torch.float32
    wide = narrow.to(dtype=torch.float64)
    assert torch.equal(wide.matrix, narrow.matrix.double())
    close(wide.svd.u.mT @ wide.svd.u, torch.eye(6), 1e-14)


def test_a_wider_copy_of_ill_conditioned_sensing_is_drawn_anew_from_its_seed():
    narrow = IllConditionedSensing(6, (8,), 1e6, seed=1)
    assert narrow.svd.dtype == torch.float32
    close(narrow.svd.singular_values[0] / narrow.svd.singular_values[-1], 1e6, 1e-12)
    wide, x = narrow.to(dtype=torch.float64), normal(8)
    assert torch.equal(wide(x), IllConditionedSensing(6, (8,), 1e6, seed=1, dtype=torch.float64)(x))


def test_a_matrix_may_be_learned():
    matrix = normal(3, 4).requires_grad_()
    operator, x = DenseOperator(matrix), normal(4, seed=1)
    (gradient,) = torch.autograd.grad(operator(x).sum(), matrix)
    close(gradient, x.expand(3, 4))
    assert not operator.svd.u.requires_grad and not operator.svd.singular_values.requires_grad

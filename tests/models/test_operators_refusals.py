"""What operators refuse at construction, and in which words."""

import numpy as np
import pytest
import torch

from bayes_ir.models.operators import (
    CorrelatedSensing,
    DenseOperator,
    GaussianSensing,
    Identity,
    IllConditionedSensing,
    Mask,
    RowOrthogonalSensing,
)

REFUSED = [
    (lambda: DenseOperator(torch.zeros(3)), ValueError, r"expected a matrix of shape \(M, N\), got \(3,\)"),
    (lambda: DenseOperator(torch.zeros(0, 3)), ValueError, r"of shape \(M, N\), got \(0, 3\)"),
    (lambda: DenseOperator(torch.zeros(2, 3) + 0j), TypeError, "a real matrix, got torch.complex64"),
    (lambda: DenseOperator(torch.tensor([[1.0, torch.nan]])), ValueError, "1 of the 2 entries are not"),
    (lambda: DenseOperator(torch.full((1, 1), 1e9), dtype=torch.float16), ValueError, "not finite"),
    (lambda: DenseOperator(torch.ones(2, 3), (2, 2)), ValueError, r"take images of shape \(2, 2\)"),
    (lambda: DenseOperator(torch.ones(2, 3), (3,), (3,)), ValueError, r"measurements of shape \(3,\)"),
    (lambda: DenseOperator(torch.ones(2, 3), 3), TypeError, "expected event_shape to be a tuple"),
    (lambda: DenseOperator(torch.ones(2, 3), dtype=torch.int32), TypeError, "expected a real floating dtype"),
    (lambda: Identity(()), TypeError, r"a tuple such as \(1, 28, 28\), got \(\)"),
    (lambda: Identity((3, 0)), ValueError, "expected every size in event_shape >= 1, got 0"),
    (lambda: Identity((3, 1.5)), TypeError, "whole number, got 1.5"),
    (lambda: Identity((3,), dtype=torch.complex64), TypeError, "expected a real floating dtype"),
    (lambda: Identity((3,)).to(torch.float64), TypeError, r"try A\.to\(dtype=torch\.float64\)"),
    (lambda: Identity((3,)).to(dtype=torch.int64), TypeError, r"Identity\.to: expected a real floating"),
    (lambda: Mask(torch.ones(3)), TypeError, "a bool tensor, got torch.float32; try mask > 0"),
    (lambda: Mask(torch.zeros(2, 3, dtype=torch.bool)), ValueError, "none of the 6 pixels is observed"),
    (lambda: GaussianSensing(0, (3,), 0), ValueError, "expected measurements >= 1, got 0"),
    (lambda: GaussianSensing(2.0, (3,), 0), TypeError, "measurements to be a whole number, got 2.0"),
    (lambda: GaussianSensing(True, (3,), 0), TypeError, "to be a whole number, got True"),
    (lambda: GaussianSensing(2, 3, 0), TypeError, "expected event_shape to be a tuple"),
    (lambda: GaussianSensing(2, (3,), None), TypeError, "expected seed to be a whole number, got None"),
    (lambda: RowOrthogonalSensing(4, (3,), 0), ValueError, "4 rows of length 3 cannot be orthogonal"),
    (lambda: RowOrthogonalSensing(2, (3,), 0.5), TypeError, "expected seed to be a whole number"),
    (lambda: RowOrthogonalSensing(2, (3,), 0, "fft"), ValueError, r"in \['dct', 'hadamard'\], got 'fft'"),
    (
        lambda: RowOrthogonalSensing(2, (1, 28, 28), 0, transform="hadamard"),
        ValueError,
        r"images of 784 numbers \(the next is 1024\); try transform='dct'",
    ),
    (lambda: IllConditionedSensing(2, (3,), 0.5, 0), ValueError, "condition_number >= 1, got 0.5"),
    (lambda: IllConditionedSensing(2, (3,), float("inf"), 0), ValueError, "finite condition_number"),
    (lambda: IllConditionedSensing(2, (3,), float("nan"), 0), ValueError, "finite condition_number"),
    (lambda: IllConditionedSensing(1, (3,), 2.0, 0), ValueError, "with one singular value"),
    (lambda: IllConditionedSensing(-1, (3,), 2.0, 0), ValueError, "expected measurements >= 1, got -1"),
    (lambda: IllConditionedSensing(2, (3,), 2.0, "a"), TypeError, "expected seed to be a whole number"),
    (lambda: CorrelatedSensing(2, (3,), 1.0, 0), ValueError, "expected -1 < correlation < 1, got 1.0"),
    (lambda: CorrelatedSensing(2, (3,), -1.0, 0), ValueError, "expected -1 < correlation < 1, got -1.0"),
    (lambda: CorrelatedSensing(2, (3,), float("nan"), 0), ValueError, "expected -1 < correlation < 1"),
    (lambda: CorrelatedSensing(2, (3,), -0.5, 0, as_published=True), ValueError, "expected correlation >= 0"),
    (lambda: CorrelatedSensing(0, (3,), 0.5, 0), ValueError, "expected measurements >= 1"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_refused_in_words(make, error, words):
    with pytest.raises(error, match=words) as caught:
        make()
    first = str(caught.value).split(":")[0].split(".")[0]
    assert first in {
        "DenseOperator",
        "Identity",
        "Mask",
        "GaussianSensing",
        "RowOrthogonalSensing",
        "IllConditionedSensing",
        "CorrelatedSensing",
    }


def test_defaults_of_the_dense_operator():
    assert DenseOperator(torch.ones(2, 3)).dtype == torch.float32
    assert DenseOperator(torch.ones(2, 3).double()).dtype == torch.float64
    assert DenseOperator(torch.ones(2, 3, dtype=torch.int64)).dtype == torch.float32
    operator = DenseOperator(torch.ones(2, 3))
    assert operator.event_shape == (3,) and operator.measurement_shape == (2,)


def test_numpy_is_welcome():
    assert DenseOperator(np.ones((2, 3))).dtype == torch.float64
    assert Mask(np.array([True, False])).measurement_shape == (1,)
    assert GaussianSensing(np.int64(2), (np.int32(3),), np.int64(1)).matrix.shape == (2, 3)


def test_one_measurement_has_condition_one():
    operator = IllConditionedSensing(1, (3,), condition_number=1, seed=0)
    assert operator.gram_diagonal().item() == pytest.approx(3, rel=1e-6)

"""The fast transforms against scipy."""

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch
from operator_case import JVP_WARNS, close, normal

from bayes_ir.models.operators import dct, inverse_dct, walsh_hadamard


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 16, 45, 64, 65, 66, 67, 784])
def test_dct_is_scipys(n):
    x = normal(2, 3, n)
    close(dct(x), scipy.fft.dct(x.numpy(), norm="ortho"), 1e-12)
    close(inverse_dct(x), scipy.fft.idct(x.numpy(), norm="ortho"), 1e-12)
    close(inverse_dct(dct(x)), x, 1e-12)


@pytest.mark.parametrize("n", [28, 784])
def test_dct_in_single_precision(n):
    x = normal(4, n, dtype=torch.float32)
    assert dct(x).dtype == inverse_dct(x).dtype == torch.float32
    close(dct(x).double(), scipy.fft.dct(x.double().numpy(), norm="ortho"), 3e-6)
    close(inverse_dct(x).double(), scipy.fft.idct(x.double().numpy(), norm="ortho"), 3e-6)


@pytest.mark.parametrize("n", [1, 2, 8, 64])
def test_walsh_hadamard_is_scipys(n):
    x = normal(2, 3, n)
    close(walsh_hadamard(x), x.numpy() @ scipy.linalg.hadamard(n) / np.sqrt(n), 1e-12)
    close(walsh_hadamard(walsh_hadamard(x)), x, 1e-12)


def test_walsh_hadamard_refuses_other_sizes():
    with pytest.raises(ValueError, match="expected a power of two in the last dimension, got 12"):
        walsh_hadamard(torch.zeros(3, 12))


@JVP_WARNS
@pytest.mark.parametrize(
    ("transform", "n"), [(dct, 8), (dct, 67), (inverse_dct, 8), (inverse_dct, 67), (walsh_hadamard, 8)]
)
def test_gradients(transform, n):
    assert torch.autograd.gradcheck(transform, (normal(2, n).requires_grad_(),), check_forward_ad=True)

"""Every operator against a matrix made independently with numpy and scipy."""

import numpy as np
import scipy.fft
import scipy.linalg
import torch
from operator_case import OperatorCase

from bayes_ir.models.operators import (
    CorrelatedSensing,
    DenseOperator,
    GaussianSensing,
    Identity,
    IllConditionedSensing,
    LinearOperator,
    Mask,
    RowOrthogonalSensing,
)

RNG_MATRIX = np.random.default_rng(0).normal(size=(15, 24))


class TestDense(OperatorCase):
    def build(self, dtype=torch.float64):
        return DenseOperator(torch.as_tensor(RNG_MATRIX), (2, 3, 4), (3, 5), dtype=dtype)

    def truth(self, operator):
        return RNG_MATRIX


class TestDenseTall(OperatorCase):
    def build(self, dtype=torch.float64):
        return DenseOperator(torch.as_tensor(RNG_MATRIX.T.copy()), dtype=dtype)

    def truth(self, operator):
        return RNG_MATRIX.T


class TestDenseRankDeficient(OperatorCase):
    low_rank = RNG_MATRIX[:, :4] @ RNG_MATRIX[:4, :]

    def build(self, dtype=torch.float64):
        return DenseOperator(torch.as_tensor(self.low_rank), (4, 6), dtype=dtype)

    def truth(self, operator):
        return self.low_rank


class TestIdentity(OperatorCase):
    def build(self, dtype=torch.float64):
        return Identity((2, 3, 4), dtype=dtype)

    def truth(self, operator):
        return np.eye(24)


class TestMask(OperatorCase):
    mask = np.random.default_rng(1).random((2, 3, 4)) < 0.6

    def build(self, dtype=torch.float64):
        return Mask(torch.as_tensor(self.mask), dtype=dtype)

    def truth(self, operator):
        return np.eye(24)[self.mask.ravel()]


class TestGaussianSensing(OperatorCase):
    def build(self, dtype=torch.float64):
        return GaussianSensing(measurements=10, event_shape=(1, 4, 6), seed=3, dtype=dtype)

    def truth(self, operator):
        return operator.matrix.numpy()


class TestRowOrthogonalDCT(OperatorCase):
    def build(self, dtype=torch.float64):
        return RowOrthogonalSensing(measurements=11, event_shape=(1, 4, 6), seed=3, dtype=dtype)

    def truth(self, operator):
        transform = scipy.fft.dct(np.eye(24), axis=0, norm="ortho")
        return transform[operator.rows.numpy()] * operator.signs.numpy()


class TestRowOrthogonalOddDCT(OperatorCase):
    def build(self, dtype=torch.float64):
        return RowOrthogonalSensing(measurements=15, event_shape=(3, 5), seed=4, transform="dct", dtype=dtype)

    def truth(self, operator):
        transform = scipy.fft.dct(np.eye(15), axis=0, norm="ortho")
        return transform[operator.rows.numpy()] * operator.signs.numpy()


class TestRowOrthogonalHadamard(OperatorCase):
    def build(self, dtype=torch.float64):
        return RowOrthogonalSensing(
            measurements=11, event_shape=(2, 4, 4), seed=3, transform="hadamard", dtype=dtype
        )

    def truth(self, operator):
        transform = scipy.linalg.hadamard(32) / np.sqrt(32)
        return transform[operator.rows.numpy()] * operator.signs.numpy()


class TestIllConditioned(OperatorCase):
    def build(self, dtype=torch.float64):
        return IllConditionedSensing(10, (1, 4, 6), condition_number=50.0, seed=3, dtype=dtype)

    def truth(self, operator):
        d = np.geomspace(50.0, 1.0, 10)
        d *= np.sqrt(24 / (d**2).sum())
        return operator.svd.u.double().numpy() @ np.diag(d) @ operator.svd.v.double().numpy().T


class TestIllConditionedTall(OperatorCase):
    def build(self, dtype=torch.float64):
        return IllConditionedSensing(20, (2, 4), condition_number=7.0, seed=3, dtype=dtype)

    def truth(self, operator):
        d = np.geomspace(7.0, 1.0, 8)
        d *= np.sqrt(8 / (d**2).sum())
        return operator.svd.u.double().numpy() @ np.diag(d) @ operator.svd.v.double().numpy().T


class TestIllConditionedAsPublished(OperatorCase):
    def build(self, dtype=torch.float64):
        return IllConditionedSensing(10, (24,), 50.0, seed=3, as_published=True, dtype=dtype)

    def truth(self, operator):
        squares = 50.0 ** (-np.arange(10) / 10)
        d = np.sqrt(24 * squares / squares.sum())
        return operator.svd.u.double().numpy() @ np.diag(d) @ operator.svd.v.double().numpy().T


class TestCorrelated(OperatorCase):
    correlation, as_published = -0.6, False

    def build(self, dtype=torch.float64):
        return CorrelatedSensing(10, (4, 6), self.correlation, 3, as_published=self.as_published, dtype=dtype)

    def root(self, size):
        return np.linalg.cholesky(scipy.linalg.toeplitz(self.correlation ** np.arange(size)))

    def truth(self, operator):
        white = CorrelatedSensing(10, (4, 6), correlation=0.0, seed=3, dtype=torch.float64).matrix.numpy()
        return self.root(10) @ white @ self.root(24).T


class TestCorrelatedAsPublished(TestCorrelated):
    correlation, as_published = 0.4, True

    def root(self, size):
        return np.sqrt(scipy.linalg.toeplitz(self.correlation ** np.arange(size)))


class Differences(LinearOperator):
    """The least a user has to write: differences of neighbours, with nothing known of its SVD."""

    def __init__(self, n, dtype):
        super().__init__((n,), (n - 1,), dtype)

    def forward(self, x):
        return x.diff(dim=-1)

    def adjoint(self, z):
        self._expect_measurement(z)
        return -torch.nn.functional.pad(z, (1, 1)).diff(dim=-1)


class TestUserDefined(OperatorCase):
    def build(self, dtype=torch.float64):
        return Differences(9, dtype)

    def truth(self, operator):
        return np.diff(np.eye(9), axis=0)

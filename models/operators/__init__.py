"""Measurement operators: maps from images to noise-free measurements."""

from bayes_ir.models.operators.base import LinearOperator, Operator
from bayes_ir.models.operators.correlated import CorrelatedSensing
from bayes_ir.models.operators.dense import DenseOperator
from bayes_ir.models.operators.gaussian_sensing import GaussianSensing
from bayes_ir.models.operators.identity import Identity
from bayes_ir.models.operators.ill_conditioned import IllConditionedSensing
from bayes_ir.models.operators.mask import Mask
from bayes_ir.models.operators.row_orthogonal import RowOrthogonalSensing
from bayes_ir.models.operators.svd import SVD, DenseSVD, OrthonormalRowsSVD
from bayes_ir.models.operators.transforms import dct, inverse_dct, walsh_hadamard

__all__ = [
    "SVD",
    "CorrelatedSensing",
    "DenseOperator",
    "DenseSVD",
    "GaussianSensing",
    "Identity",
    "IllConditionedSensing",
    "LinearOperator",
    "Mask",
    "Operator",
    "OrthonormalRowsSVD",
    "RowOrthogonalSensing",
    "dct",
    "inverse_dct",
    "walsh_hadamard",
]

"""Measurement operators: maps from images to noise-free measurements."""

from bayes_ir.models.operators import mri_masks
from bayes_ir.models.operators.adapters import FunctionOperator, from_physics, from_scipy, to_scipy
from bayes_ir.models.operators.base import Operator
from bayes_ir.models.operators.blur_kernels import (
    gaussian_kernel,
    kernel_from_image,
    motion_kernel,
    uniform_kernel,
)
from bayes_ir.models.operators.channel_mixing import ChannelMixing, Colorization
from bayes_ir.models.operators.circular_blur import CircularBlur
from bayes_ir.models.operators.combination import Scaled, Sum
from bayes_ir.models.operators.complex_images import as_channels, as_complex
from bayes_ir.models.operators.composition import Composition, LinearComposition
from bayes_ir.models.operators.compressed_sensing import SubsampledDCT, WalshHadamardSensing
from bayes_ir.models.operators.convolution import Blur
from bayes_ir.models.operators.correlated import CorrelatedSensing
from bayes_ir.models.operators.dense import DenseOperator
from bayes_ir.models.operators.diagonal import Diagonal
from bayes_ir.models.operators.gaussian_sensing import GaussianSensing
from bayes_ir.models.operators.identity import Identity
from bayes_ir.models.operators.ill_conditioned import IllConditionedSensing
from bayes_ir.models.operators.inpainting_masks import bayer_mask, box_mask, mask_from_image, random_mask
from bayes_ir.models.operators.jpeg import JPEG
from bayes_ir.models.operators.kronecker import Kronecker
from bayes_ir.models.operators.linear import LinearOperator
from bayes_ir.models.operators.mask import Mask
from bayes_ir.models.operators.mri import SingleCoilMRI
from bayes_ir.models.operators.mri_files import read_cfl, read_fastmri, write_cfl
from bayes_ir.models.operators.multi_coil_mri import MultiCoilMRI, simulated_sensitivities
from bayes_ir.models.operators.nonlinear_blur import NonlinearBlur
from bayes_ir.models.operators.phase_retrieval import PhaseRetrieval
from bayes_ir.models.operators.radon import Radon
from bayes_ir.models.operators.rounding import Rounding
from bayes_ir.models.operators.row_orthogonal import RowOrthogonalSensing
from bayes_ir.models.operators.saturation import Gamma, Saturation
from bayes_ir.models.operators.separable_blur import SeparableBlur
from bayes_ir.models.operators.spatially_varying_blur import SpatiallyVaryingBlur
from bayes_ir.models.operators.stacking import BlockDiagonal, Stack
from bayes_ir.models.operators.subsampled_dft import SubsampledDFT
from bayes_ir.models.operators.super_resolution import BicubicDownsampling, BlockAverage, GaussianDownsampling
from bayes_ir.models.operators.svd import SVD, DenseSVD, OrthonormalRowsSVD
from bayes_ir.models.operators.transforms import dct, inverse_dct, walsh_hadamard

__all__ = [
    "JPEG",
    "SVD",
    "BicubicDownsampling",
    "BlockAverage",
    "BlockDiagonal",
    "Blur",
    "ChannelMixing",
    "CircularBlur",
    "Colorization",
    "Composition",
    "CorrelatedSensing",
    "DenseOperator",
    "DenseSVD",
    "Diagonal",
    "FunctionOperator",
    "Gamma",
    "GaussianDownsampling",
    "GaussianSensing",
    "Identity",
    "IllConditionedSensing",
    "Kronecker",
    "LinearComposition",
    "LinearOperator",
    "Mask",
    "MultiCoilMRI",
    "NonlinearBlur",
    "Operator",
    "OrthonormalRowsSVD",
    "PhaseRetrieval",
    "Radon",
    "Rounding",
    "RowOrthogonalSensing",
    "Saturation",
    "Scaled",
    "SeparableBlur",
    "SingleCoilMRI",
    "SpatiallyVaryingBlur",
    "Stack",
    "SubsampledDCT",
    "SubsampledDFT",
    "Sum",
    "WalshHadamardSensing",
    "as_channels",
    "as_complex",
    "bayer_mask",
    "box_mask",
    "dct",
    "from_physics",
    "from_scipy",
    "gaussian_kernel",
    "inverse_dct",
    "kernel_from_image",
    "mask_from_image",
    "motion_kernel",
    "mri_masks",
    "random_mask",
    "read_cfl",
    "read_fastmri",
    "simulated_sensitivities",
    "to_scipy",
    "uniform_kernel",
    "walsh_hadamard",
    "write_cfl",
]

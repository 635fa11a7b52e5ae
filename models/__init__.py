"""What is believed: priors over images, measurement operators, channels, forward processes, training."""

from bayes_ir.models.channels import Channel, Gaussian, OneBit, Quantized
from bayes_ir.models.diffusion import DDPM, Diffusion, RectifiedFlow, VarianceExploding, VariancePreserving
from bayes_ir.models.operators import (
    CorrelatedSensing,
    DenseOperator,
    GaussianSensing,
    Identity,
    IllConditionedSensing,
    LinearOperator,
    Mask,
    Operator,
    RowOrthogonalSensing,
)
from bayes_ir.models.priors import (
    DiffusionPrior,
    GaussianMixturePrior,
    GaussianPrior,
    NetworkPrior,
    available_priors,
    load_prior,
    save_prior,
)

__all__ = [
    "DDPM",
    "Channel",
    "CorrelatedSensing",
    "DenseOperator",
    "Diffusion",
    "DiffusionPrior",
    "Gaussian",
    "GaussianMixturePrior",
    "GaussianPrior",
    "GaussianSensing",
    "Identity",
    "IllConditionedSensing",
    "LinearOperator",
    "Mask",
    "NetworkPrior",
    "OneBit",
    "Operator",
    "Quantized",
    "RectifiedFlow",
    "RowOrthogonalSensing",
    "VarianceExploding",
    "VariancePreserving",
    "available_priors",
    "load_prior",
    "save_prior",
]

"""Priors over images: exact (Gaussian, Gaussian mixture) and learned, all with one denoiser contract."""

from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.priors.gaussian_mixture import GaussianMixture, GaussianMixturePrior, GaussianPrior
from bayes_ir.models.priors.network import NetworkPrior
from bayes_ir.models.priors.prediction import PredictionDenoiser
from bayes_ir.models.priors.registry import available_priors, load_prior, read_card, save_prior

__all__ = [
    "DiffusionPrior",
    "GaussianMixture",
    "GaussianMixturePrior",
    "GaussianPrior",
    "NetworkPrior",
    "PredictionDenoiser",
    "available_priors",
    "load_prior",
    "read_card",
    "save_prior",
]

"""Priors over images: exact (Gaussian, Gaussian mixture) and learned, all with one denoiser contract."""

from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.priors.bases import Basis, DCTBasis, PCABasis, PixelBasis, principal_components
from bayes_ir.models.priors.calibration import Calibration, calibrate, fit_calibration
from bayes_ir.models.priors.flow_density import FlowDensity, flow_log_density
from bayes_ir.models.priors.gaussian_mixture import GaussianMixture, GaussianMixturePrior, GaussianPrior
from bayes_ir.models.priors.labelled import LabelledPrior, calibrate_labelled
from bayes_ir.models.priors.mixture_calibration import exact_calibration
from bayes_ir.models.priors.network import NetworkPrior
from bayes_ir.models.priors.prediction import PredictionDenoiser
from bayes_ir.models.priors.registry import available_priors, load_prior, read_card, save_prior

__all__ = [
    "Basis",
    "Calibration",
    "DCTBasis",
    "DiffusionPrior",
    "FlowDensity",
    "GaussianMixture",
    "GaussianMixturePrior",
    "GaussianPrior",
    "LabelledPrior",
    "NetworkPrior",
    "PCABasis",
    "PixelBasis",
    "PredictionDenoiser",
    "available_priors",
    "calibrate",
    "calibrate_labelled",
    "exact_calibration",
    "fit_calibration",
    "flow_log_density",
    "load_prior",
    "principal_components",
    "read_card",
    "save_prior",
]

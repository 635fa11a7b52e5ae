"""Bayesian image restoration as probabilistic programming.

A Pyro model says what is believed, a diffusion network is the prior, a kernel draws posterior samples and
ArviZ says what they mean:

    posterior = bayes_ir.sample(model, QCSSGMPlus(), data={"y": y}, draws=64, chains=4, seed=0)
"""

from bayes_ir import analysis, inference, models
from bayes_ir.api import sample, simulate
from bayes_ir.calibration import simulation_based_calibration
from bayes_ir.cross_validation import measurement_kfold
from bayes_ir.jensen import jensen_gap
from bayes_ir.kernel_choice import default_kernel
from bayes_ir.paths import trajectory
from bayes_ir.predictive_draws import posterior_predictive, prior_predictive
from bayes_ir.pyro_kernel import DiffusionKernel
from bayes_ir.quantile_residuals import residuals

__version__ = "0.1.0"

__all__ = [
    "DiffusionKernel",
    "analysis",
    "default_kernel",
    "inference",
    "jensen_gap",
    "measurement_kfold",
    "models",
    "posterior_predictive",
    "prior_predictive",
    "residuals",
    "sample",
    "simulate",
    "simulation_based_calibration",
    "trajectory",
]

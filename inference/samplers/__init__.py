"""Samplers that turn a denoiser into a path from noise to an image."""

from bayes_ir.inference.samplers.ancestral import Ancestral
from bayes_ir.inference.samplers.annealed_langevin import Langevin
from bayes_ir.inference.samplers.base import Level, Sampler, Visit, root
from bayes_ir.inference.samplers.ddim import DDIM
from bayes_ir.inference.samplers.flow import FlowODE
from bayes_ir.inference.samplers.multistep import Multistep
from bayes_ir.inference.samplers.predictor_corrector import PredictorCorrector
from bayes_ir.inference.samplers.probability_flow import ProbabilityFlow
from bayes_ir.inference.samplers.renoising import Renoise
from bayes_ir.inference.samplers.reverse_sde import ReverseSDE
from bayes_ir.inference.samplers.transition import Transition, TransitionSampler

__all__ = [
    "DDIM",
    "Ancestral",
    "FlowODE",
    "Langevin",
    "Level",
    "Multistep",
    "PredictorCorrector",
    "ProbabilityFlow",
    "Renoise",
    "ReverseSDE",
    "Sampler",
    "Transition",
    "TransitionSampler",
    "Visit",
    "root",
]

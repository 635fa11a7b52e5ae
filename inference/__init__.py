"""How posterior draws are made: reading a model, denoising posteriors, samplers, kernels."""

from bayes_ir.inference.denoising_posterior import DenoisingPosterior, Flat, Isotropic, Point
from bayes_ir.inference.exact import Exact, exact_posterior
from bayes_ir.inference.kernels import (
    DMPS,
    DPS,
    QCSSGM,
    AnnealedLangevin,
    GuidedDiffusion,
    Kernel,
    QCSSGMPlus,
)
from bayes_ir.inference.problem import ModelError, Problem
from bayes_ir.inference.reading import read_problem
from bayes_ir.inference.run import Block, draw_blocks
from bayes_ir.inference.samplers import DDIM, Ancestral, Langevin, Sampler

__all__ = [
    "DDIM",
    "DMPS",
    "DPS",
    "QCSSGM",
    "Ancestral",
    "AnnealedLangevin",
    "Block",
    "DenoisingPosterior",
    "Exact",
    "Flat",
    "GuidedDiffusion",
    "Isotropic",
    "Kernel",
    "Langevin",
    "ModelError",
    "Point",
    "Problem",
    "QCSSGMPlus",
    "Sampler",
    "draw_blocks",
    "exact_posterior",
    "read_problem",
]

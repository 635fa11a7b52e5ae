"""Samplers that turn a denoiser into a path from noise to an image."""

from bayes_ir.inference.samplers.ancestral import Ancestral
from bayes_ir.inference.samplers.annealed_langevin import Langevin
from bayes_ir.inference.samplers.base import Level, Sampler
from bayes_ir.inference.samplers.ddim import DDIM

__all__ = ["DDIM", "Ancestral", "Langevin", "Level", "Sampler"]

"""Published kernels, one per file."""

from bayes_ir.inference.kernels.annealed_langevin import AnnealedLangevin
from bayes_ir.inference.kernels.base import Info, Kernel, State
from bayes_ir.inference.kernels.dmps import DMPS
from bayes_ir.inference.kernels.dps import DPS
from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.kernels.guided_diffusion import GuidedDiffusion
from bayes_ir.inference.kernels.qcs_sgm import QCSSGM
from bayes_ir.inference.kernels.qcs_sgm_plus import QCSSGMPlus

__all__ = [
    "DMPS",
    "DPS",
    "QCSSGM",
    "AnnealedLangevin",
    "GuidedDiffusion",
    "GuidedKernel",
    "Info",
    "Kernel",
    "QCSSGMPlus",
    "State",
]

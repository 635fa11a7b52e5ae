"""Published kernels, one per file."""

from bayes_ir.inference.kernels.annealed_langevin import AnnealedLangevin
from bayes_ir.inference.kernels.base import Info, Kernel, State
from bayes_ir.inference.kernels.conditioned import ComposedKernel, Conditioned, ConditionedKernel
from bayes_ir.inference.kernels.daps import DAPS
from bayes_ir.inference.kernels.ddnm import DDNM
from bayes_ir.inference.kernels.ddnm_plus import DDNMPlus
from bayes_ir.inference.kernels.ddrm import DDRM
from bayes_ir.inference.kernels.dds import DDS
from bayes_ir.inference.kernels.diffpir import DiffPIR
from bayes_ir.inference.kernels.dmps import DMPS
from bayes_ir.inference.kernels.dps import DPS
from bayes_ir.inference.kernels.guided import GuidedKernel
from bayes_ir.inference.kernels.guided_diffusion import GuidedDiffusion
from bayes_ir.inference.kernels.ilvr import ILVR
from bayes_ir.inference.kernels.mcg import MCG
from bayes_ir.inference.kernels.mcgdiff import MCGDiff
from bayes_ir.inference.kernels.moment_matching import MomentMatching
from bayes_ir.inference.kernels.path import PathKernel
from bayes_ir.inference.kernels.pigdm import PiGDM
from bayes_ir.inference.kernels.projected import Projected
from bayes_ir.inference.kernels.qcs_sgm import QCSSGM
from bayes_ir.inference.kernels.qcs_sgm_plus import QCSSGMPlus
from bayes_ir.inference.kernels.repaint import RePaint
from bayes_ir.inference.kernels.score_sde import ScoreSDE
from bayes_ir.inference.kernels.snips import SNIPS
from bayes_ir.inference.kernels.split_gibbs import SplitGibbs
from bayes_ir.inference.kernels.twisted_smc import TwistedSMC

__all__ = [
    "DAPS",
    "DDNM",
    "DDRM",
    "DDS",
    "DMPS",
    "DPS",
    "ILVR",
    "MCG",
    "QCSSGM",
    "SNIPS",
    "AnnealedLangevin",
    "ComposedKernel",
    "Conditioned",
    "ConditionedKernel",
    "DDNMPlus",
    "DiffPIR",
    "GuidedDiffusion",
    "GuidedKernel",
    "Info",
    "Kernel",
    "MCGDiff",
    "MomentMatching",
    "PathKernel",
    "PiGDM",
    "Projected",
    "QCSSGMPlus",
    "RePaint",
    "ScoreSDE",
    "SplitGibbs",
    "State",
    "TwistedSMC",
]

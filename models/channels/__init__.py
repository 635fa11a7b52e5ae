"""Measurement channels ``p(y | z)``: Pyro distributions that know their tilted moments."""

from bayes_ir.models.channels.base import Channel, TiltedNormaliser
from bayes_ir.models.channels.gaussian import Gaussian
from bayes_ir.models.channels.one_bit import OneBit
from bayes_ir.models.channels.poisson import Poisson
from bayes_ir.models.channels.quantized import Quantized
from bayes_ir.models.channels.stacked import StackedChannel

__all__ = ["Channel", "Gaussian", "OneBit", "Poisson", "Quantized", "StackedChannel", "TiltedNormaliser"]

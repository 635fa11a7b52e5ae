"""Models with more unknowns than the image: blocked Gibbs sampling, or a discrete site summed out."""

from bayes_ir.inference.gibbs.blocked import BlockedGibbs, GibbsSweeps, gibbs_chain
from bayes_ir.inference.gibbs.enumerated import Enumerated, EnumeratedModel, enumerated_block
from bayes_ir.inference.gibbs.joint import JointModel, read_joint

__all__ = [
    "BlockedGibbs",
    "Enumerated",
    "EnumeratedModel",
    "GibbsSweeps",
    "JointModel",
    "enumerated_block",
    "gibbs_chain",
    "read_joint",
]

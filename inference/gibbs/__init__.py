"""Models with more unknowns than the image: blocked Gibbs sampling, or a discrete site summed out."""

from bayes_ir.inference.gibbs.blocked import BlockedGibbs, GibbsSweeps, gibbs_chain
from bayes_ir.inference.gibbs.enumerated import Enumerated, enumerated_block, enumerated_site
from bayes_ir.inference.gibbs.joint import JointModel, read_joint

__all__ = [
    "BlockedGibbs",
    "Enumerated",
    "GibbsSweeps",
    "JointModel",
    "enumerated_block",
    "enumerated_site",
    "gibbs_chain",
    "read_joint",
]

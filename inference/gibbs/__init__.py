"""Models with more unknowns than the image: blocked Gibbs sampling."""

from bayes_ir.inference.gibbs.blocked import BlockedGibbs, GibbsSweeps, gibbs_chain
from bayes_ir.inference.gibbs.joint import JointModel, read_joint

__all__ = ["BlockedGibbs", "GibbsSweeps", "JointModel", "gibbs_chain", "read_joint"]

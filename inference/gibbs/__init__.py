"""Models with more unknowns than the image: blocked Gibbs sampling."""

from bayes_ir.inference.gibbs.blocked import BlockedGibbs, gibbs_chain
from bayes_ir.inference.gibbs.joint import JointModel, read_joint

__all__ = ["BlockedGibbs", "JointModel", "gibbs_chain", "read_joint"]

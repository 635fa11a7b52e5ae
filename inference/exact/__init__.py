"""Exact posteriors, called like every other kernel."""

from bayes_ir.inference.exact.box_channels import BoxPosterior, box_posterior, cell_posterior
from bayes_ir.inference.exact.evidence import Evidence, Weights, component_weights, log_evidence
from bayes_ir.inference.exact.kernel import Exact
from bayes_ir.inference.exact.linear_gaussian import exact_posterior
from bayes_ir.inference.exact.minimax_tilting import TruncatedNormal

__all__ = [
    "BoxPosterior",
    "Evidence",
    "Exact",
    "TruncatedNormal",
    "Weights",
    "box_posterior",
    "cell_posterior",
    "component_weights",
    "exact_posterior",
    "log_evidence",
]

"""Exact posteriors, called like every other kernel."""

from bayes_ir.inference.exact.box_channels import BoxPosterior, box_posterior
from bayes_ir.inference.exact.kernel import Exact
from bayes_ir.inference.exact.linear_gaussian import exact_posterior
from bayes_ir.inference.exact.minimax_tilting import TruncatedNormal

__all__ = ["BoxPosterior", "Exact", "TruncatedNormal", "box_posterior", "exact_posterior"]

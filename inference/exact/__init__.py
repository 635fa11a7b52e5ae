"""Exact posteriors, called like every other kernel."""

from bayes_ir.inference.exact.linear_gaussian import Exact, exact_posterior

__all__ = ["Exact", "exact_posterior"]

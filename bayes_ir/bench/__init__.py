"""Accuracy of kernels against exact posteriors, in suites: ``bayes-ir bench accuracy``."""

from bayes_ir.bench.harness import Accuracy
from bayes_ir.bench.kernel_text import parse_kernel
from bayes_ir.bench.suites import SUITES, Suite
from bayes_ir.bench.table import markdown

__all__ = ["SUITES", "Accuracy", "Suite", "markdown", "parse_kernel"]

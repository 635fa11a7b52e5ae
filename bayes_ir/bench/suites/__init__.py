"""The suites of ``bayes-ir bench accuracy``."""

from bayes_ir.bench.suites.base import Case, Cell, Suite, cell_name, select
from bayes_ir.bench.suites.digits import Digits
from bayes_ir.bench.suites.gaussian import CorrelatedGaussian
from bayes_ir.bench.suites.gmm25 import Gmm25
from bayes_ir.bench.suites.quantized import QuantizedCells

__all__ = ["SUITES", "Case", "Cell", "Suite", "cell_name", "select"]

SUITES: dict[str, type[Suite]] = {s.name: s for s in (CorrelatedGaussian, Gmm25, QuantizedCells, Digits)}

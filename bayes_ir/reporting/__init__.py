"""One page about a run, or about several runs of the same data, as HTML and as Markdown."""

from bayes_ir.reporting.compare import compare_runs
from bayes_ir.reporting.opening import Run, open_run
from bayes_ir.reporting.report import report_run
from bayes_ir.reporting.writing import write_page

__all__ = ["Run", "compare_runs", "open_run", "report_run", "write_page"]

"""Pictures of a posterior; matplotlib and seaborn are loaded when the first one is drawn."""

from bayes_ir.analysis.plots.jensen import plot_jensen_gap
from bayes_ir.analysis.plots.uncertainty import plot_uncertainty

__all__ = ["plot_jensen_gap", "plot_uncertainty"]

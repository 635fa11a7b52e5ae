"""Pictures of a posterior and of its checks; matplotlib and seaborn are loaded when the first one is drawn.

Each takes what the library gives (a tree, or the dataset of a check) first and the rest by keyword, and returns the
matplotlib figure. Those that fill one axes take `ax=`.
"""

from bayes_ir.analysis.plots.coverage import plot_coverage
from bayes_ir.analysis.plots.error_against_sd import plot_error_against_sd
from bayes_ir.analysis.plots.gallery import plot_posterior_gallery
from bayes_ir.analysis.plots.jensen import plot_jensen_gap
from bayes_ir.analysis.plots.kernel_comparison import plot_kernel_comparison
from bayes_ir.analysis.plots.maps import plot_maps
from bayes_ir.analysis.plots.pixel_pairs import plot_pixel_pairs
from bayes_ir.analysis.plots.ridges import plot_ridges
from bayes_ir.analysis.plots.sbc import plot_sbc
from bayes_ir.analysis.plots.tarp_curve import plot_tarp
from bayes_ir.analysis.plots.trajectory import plot_trajectory
from bayes_ir.analysis.plots.uncertainty import plot_uncertainty

__all__ = [
    "plot_coverage",
    "plot_error_against_sd",
    "plot_jensen_gap",
    "plot_kernel_comparison",
    "plot_maps",
    "plot_pixel_pairs",
    "plot_posterior_gallery",
    "plot_ridges",
    "plot_sbc",
    "plot_tarp",
    "plot_trajectory",
    "plot_uncertainty",
]

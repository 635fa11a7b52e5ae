"""What the draws say: the posterior as an ArviZ tree, in memory or on disk; maps, tables, checks and
pictures.

Every name is loaded when it is first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayes_ir.analysis.checks import MeasurementCheck, measurement_check
    from bayes_ir.analysis.contractions import contraction, contraction_map
    from bayes_ir.analysis.correlations import correlation_map
    from bayes_ir.analysis.coverage import expected_coverage
    from bayes_ir.analysis.decisions import decision_entropy
    from bayes_ir.analysis.distances import DistanceFloor, sliced_wasserstein, sliced_wasserstein_floor
    from bayes_ir.analysis.exactness import (
        ModeWeightDistance,
        MomentErrors,
        mode_weight_distance,
        moment_errors,
    )
    from bayes_ir.analysis.functional_tables import functional_table
    from bayes_ir.analysis.functionals import default_functionals, functional_draws
    from bayes_ir.analysis.importance import ImportanceWeights, importance_weights
    from bayes_ir.analysis.intervals import hdi_map, interval_coverage, interval_map, interval_width_map
    from bayes_ir.analysis.jensen import jensen_verdicts
    from bayes_ir.analysis.kernel_comparison import compare_kernels
    from bayes_ir.analysis.leave_one_out import HighParetoKWarning, measurement_loo
    from bayes_ir.analysis.left_out import NonFiniteDrawsWarning
    from bayes_ir.analysis.metrics import cosine_similarity, psnr, restoration_metrics, rmse, ssim
    from bayes_ir.analysis.model_comparison import compare_models
    from bayes_ir.analysis.modes import UnsettledModesWarning, principal_modes
    from bayes_ir.analysis.pit import measurement_pit
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
    from bayes_ir.analysis.posterior import PosteriorLayout
    from bayes_ir.analysis.precision import DrawsNeeded, draws_needed
    from bayes_ir.analysis.quantities import default_quantities
    from bayes_ir.analysis.regions import AreaAbove, EdgePosition, MaskMean, MaskSum, region_functionals
    from bayes_ir.analysis.residual_test import ResidualCheck, residual_check
    from bayes_ir.analysis.sbc import FewReplicationsWarning, sbc_ranks
    from bayes_ir.analysis.store import MemorySink, Sink
    from bayes_ir.analysis.tables import Summary, summary
    from bayes_ir.analysis.tarp_coverage import tarp
    from bayes_ir.analysis.two_sample import TwoSampleTest, classifier_two_sample_test
    from bayes_ir.analysis.uncertainty import (
        exceedance_map,
        mean_map,
        median_map,
        probability_map,
        quantile_map,
        sd_map,
    )
    from bayes_ir.analysis.uniformity import holm_adjusted, sbc_power, uniformity_p_value
    from bayes_ir.analysis.zarr_reading import open_posterior
    from bayes_ir.analysis.zarr_store import ZarrSink

__all__ = [
    "AreaAbove",
    "DistanceFloor",
    "DrawsNeeded",
    "EdgePosition",
    "FewReplicationsWarning",
    "HighParetoKWarning",
    "ImportanceWeights",
    "MaskMean",
    "MaskSum",
    "MeasurementCheck",
    "MemorySink",
    "ModeWeightDistance",
    "MomentErrors",
    "NonFiniteDrawsWarning",
    "PosteriorLayout",
    "ResidualCheck",
    "Sink",
    "Summary",
    "TwoSampleTest",
    "UnsettledModesWarning",
    "ZarrSink",
    "classifier_two_sample_test",
    "compare_kernels",
    "compare_models",
    "contraction",
    "contraction_map",
    "correlation_map",
    "cosine_similarity",
    "decision_entropy",
    "default_functionals",
    "default_quantities",
    "draws_needed",
    "exceedance_map",
    "expected_coverage",
    "functional_draws",
    "functional_table",
    "hdi_map",
    "holm_adjusted",
    "importance_weights",
    "interval_coverage",
    "interval_map",
    "interval_width_map",
    "jensen_verdicts",
    "mean_map",
    "measurement_check",
    "measurement_loo",
    "measurement_pit",
    "median_map",
    "mode_weight_distance",
    "moment_errors",
    "open_posterior",
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
    "principal_modes",
    "probability_map",
    "psnr",
    "quantile_map",
    "region_functionals",
    "residual_check",
    "restoration_metrics",
    "rmse",
    "sbc_power",
    "sbc_ranks",
    "sd_map",
    "sliced_wasserstein",
    "sliced_wasserstein_floor",
    "ssim",
    "summary",
    "tarp",
    "uniformity_p_value",
]

_HOME = {
    "checks": ("MeasurementCheck", "measurement_check"),
    "contractions": ("contraction", "contraction_map"),
    "correlations": ("correlation_map",),
    "coverage": ("expected_coverage",),
    "decisions": ("decision_entropy",),
    "distances": ("DistanceFloor", "sliced_wasserstein", "sliced_wasserstein_floor"),
    "exactness": ("ModeWeightDistance", "MomentErrors", "mode_weight_distance", "moment_errors"),
    "functional_tables": ("functional_table",),
    "functionals": ("default_functionals", "functional_draws"),
    "importance": ("ImportanceWeights", "importance_weights"),
    "intervals": ("hdi_map", "interval_coverage", "interval_map", "interval_width_map"),
    "jensen": ("jensen_verdicts",),
    "plots.jensen": ("plot_jensen_gap",),
    "kernel_comparison": ("compare_kernels",),
    "leave_one_out": ("HighParetoKWarning", "measurement_loo"),
    "left_out": ("NonFiniteDrawsWarning",),
    "metrics": ("cosine_similarity", "psnr", "restoration_metrics", "rmse", "ssim"),
    "model_comparison": ("compare_models",),
    "modes": ("UnsettledModesWarning", "principal_modes"),
    "plots.coverage": ("plot_coverage",),
    "plots.error_against_sd": ("plot_error_against_sd",),
    "plots.gallery": ("plot_posterior_gallery",),
    "plots.kernel_comparison": ("plot_kernel_comparison",),
    "plots.maps": ("plot_maps",),
    "plots.pixel_pairs": ("plot_pixel_pairs",),
    "plots.ridges": ("plot_ridges",),
    "plots.sbc": ("plot_sbc",),
    "plots.tarp_curve": ("plot_tarp",),
    "plots.trajectory": ("plot_trajectory",),
    "pit": ("measurement_pit",),
    "plots.uncertainty": ("plot_uncertainty",),
    "posterior": ("PosteriorLayout",),
    "precision": ("DrawsNeeded", "draws_needed"),
    "quantities": ("default_quantities",),
    "regions": ("AreaAbove", "EdgePosition", "MaskMean", "MaskSum", "region_functionals"),
    "residual_test": ("ResidualCheck", "residual_check"),
    "sbc": ("FewReplicationsWarning", "sbc_ranks"),
    "store": ("MemorySink", "Sink"),
    "tables": ("Summary", "summary"),
    "tarp_coverage": ("tarp",),
    "two_sample": ("TwoSampleTest", "classifier_two_sample_test"),
    "uncertainty": ("exceedance_map", "mean_map", "median_map", "probability_map", "quantile_map", "sd_map"),
    "uniformity": ("holm_adjusted", "sbc_power", "uniformity_p_value"),
    "zarr_reading": ("open_posterior",),
    "zarr_store": ("ZarrSink",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

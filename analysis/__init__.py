"""What the draws say: the posterior as an ArviZ tree, in memory or on disk; maps, tables, checks and
pictures.

Every name is loaded when it is first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayes_ir.analysis.checks import MeasurementCheck, measurement_check
    from bayes_ir.analysis.contractions import contraction, contraction_map
    from bayes_ir.analysis.coverage import expected_coverage
    from bayes_ir.analysis.distances import DistanceFloor, sliced_wasserstein, sliced_wasserstein_floor
    from bayes_ir.analysis.exactness import (
        ModeWeightDistance,
        MomentErrors,
        mode_weight_distance,
        moment_errors,
    )
    from bayes_ir.analysis.functionals import default_functionals
    from bayes_ir.analysis.importance import ImportanceWeights, importance_weights
    from bayes_ir.analysis.kernel_comparison import compare_kernels
    from bayes_ir.analysis.leave_one_out import HighParetoKWarning, compare_models, measurement_loo
    from bayes_ir.analysis.metrics import cosine_similarity, psnr, restoration_metrics, rmse, ssim
    from bayes_ir.analysis.pit import measurement_pit
    from bayes_ir.analysis.plots.uncertainty import plot_uncertainty
    from bayes_ir.analysis.posterior import PosteriorLayout
    from bayes_ir.analysis.quantities import default_quantities
    from bayes_ir.analysis.residual_test import ResidualCheck, residual_check
    from bayes_ir.analysis.sbc import FewReplicationsWarning, sbc_ranks
    from bayes_ir.analysis.store import MemorySink, Sink
    from bayes_ir.analysis.tables import Summary, summary
    from bayes_ir.analysis.tarp_coverage import tarp
    from bayes_ir.analysis.two_sample import TwoSampleTest, classifier_two_sample_test
    from bayes_ir.analysis.uncertainty import (
        NonFiniteDrawsWarning,
        interval_coverage,
        interval_map,
        mean_map,
        quantile_map,
        sd_map,
    )
    from bayes_ir.analysis.uniformity import holm_adjusted, sbc_power, uniformity_p_value
    from bayes_ir.analysis.zarr_reading import open_posterior
    from bayes_ir.analysis.zarr_store import ZarrSink

__all__ = [
    "DistanceFloor",
    "FewReplicationsWarning",
    "HighParetoKWarning",
    "ImportanceWeights",
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
    "ZarrSink",
    "classifier_two_sample_test",
    "compare_kernels",
    "compare_models",
    "contraction",
    "contraction_map",
    "cosine_similarity",
    "default_functionals",
    "default_quantities",
    "expected_coverage",
    "holm_adjusted",
    "importance_weights",
    "interval_coverage",
    "interval_map",
    "mean_map",
    "measurement_check",
    "measurement_loo",
    "measurement_pit",
    "mode_weight_distance",
    "moment_errors",
    "open_posterior",
    "plot_uncertainty",
    "psnr",
    "quantile_map",
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
    "coverage": ("expected_coverage",),
    "distances": ("DistanceFloor", "sliced_wasserstein", "sliced_wasserstein_floor"),
    "exactness": ("ModeWeightDistance", "MomentErrors", "mode_weight_distance", "moment_errors"),
    "functionals": ("default_functionals",),
    "importance": ("ImportanceWeights", "importance_weights"),
    "kernel_comparison": ("compare_kernels",),
    "leave_one_out": ("HighParetoKWarning", "compare_models", "measurement_loo"),
    "metrics": ("cosine_similarity", "psnr", "restoration_metrics", "rmse", "ssim"),
    "pit": ("measurement_pit",),
    "plots.uncertainty": ("plot_uncertainty",),
    "posterior": ("PosteriorLayout",),
    "quantities": ("default_quantities",),
    "residual_test": ("ResidualCheck", "residual_check"),
    "sbc": ("FewReplicationsWarning", "sbc_ranks"),
    "store": ("MemorySink", "Sink"),
    "tables": ("Summary", "summary"),
    "tarp_coverage": ("tarp",),
    "two_sample": ("TwoSampleTest", "classifier_two_sample_test"),
    "uncertainty": (
        "NonFiniteDrawsWarning",
        "interval_coverage",
        "interval_map",
        "mean_map",
        "quantile_map",
        "sd_map",
    ),
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

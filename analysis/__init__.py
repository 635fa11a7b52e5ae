"""What the draws say: the posterior as an ArviZ tree, in memory or on disk; maps, tables, checks and
pictures.

Every name is loaded when it is first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayes_ir.analysis.checks import MeasurementCheck, measurement_check
    from bayes_ir.analysis.distances import sliced_wasserstein
    from bayes_ir.analysis.functionals import default_functionals
    from bayes_ir.analysis.metrics import cosine_similarity, psnr, restoration_metrics, rmse, ssim
    from bayes_ir.analysis.plots.uncertainty import plot_uncertainty
    from bayes_ir.analysis.posterior import PosteriorLayout
    from bayes_ir.analysis.store import MemorySink, Sink
    from bayes_ir.analysis.tables import Summary, summary
    from bayes_ir.analysis.uncertainty import (
        NonFiniteDrawsWarning,
        interval_coverage,
        interval_map,
        mean_map,
        quantile_map,
        sd_map,
    )
    from bayes_ir.analysis.zarr_reading import open_posterior
    from bayes_ir.analysis.zarr_store import ZarrSink

__all__ = [
    "MeasurementCheck",
    "MemorySink",
    "NonFiniteDrawsWarning",
    "PosteriorLayout",
    "Sink",
    "Summary",
    "ZarrSink",
    "cosine_similarity",
    "default_functionals",
    "interval_coverage",
    "interval_map",
    "mean_map",
    "measurement_check",
    "open_posterior",
    "plot_uncertainty",
    "psnr",
    "quantile_map",
    "restoration_metrics",
    "rmse",
    "sd_map",
    "sliced_wasserstein",
    "ssim",
    "summary",
]

_HOME = {
    "checks": ("MeasurementCheck", "measurement_check"),
    "distances": ("sliced_wasserstein",),
    "functionals": ("default_functionals",),
    "metrics": ("cosine_similarity", "psnr", "restoration_metrics", "rmse", "ssim"),
    "plots.uncertainty": ("plot_uncertainty",),
    "posterior": ("PosteriorLayout",),
    "store": ("MemorySink", "Sink"),
    "tables": ("Summary", "summary"),
    "uncertainty": (
        "NonFiniteDrawsWarning",
        "interval_coverage",
        "interval_map",
        "mean_map",
        "quantile_map",
        "sd_map",
    ),
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

"""Every public name: where it is exported, where it is defined, and the page of the reference that has it.

A name is public when the ``__all__`` of a package holds it.  Its home is the module that defines it; the page is that
of the longest prefix of the home in :data:`PAGES`, so that a new module always has one.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from functools import cache
from types import ModuleType

__all__ = ["PAGES", "PUBLIC_MODULES", "WINGS", "Page", "page_of", "public_names", "sections"]

WINGS = ("bayes_ir", "bayes_ir.models", "bayes_ir.inference", "bayes_ir.analysis")


@dataclass(frozen=True)
class Page:
    """One page of the reference.

    Attributes:
        file: its name below ``api/``, without the suffix.
        title: its heading.
        told: a sentence below it.
        prefixes: modules, or packages with all that is in them.
    """

    file: str
    title: str
    told: str
    prefixes: tuple[str, ...]


def _in(package: str, *modules: str) -> tuple[str, ...]:
    return tuple(f"bayes_ir.{package}.{module}" for module in modules)


PAGES = (
    Page("face", "The face", "Sample, simulate, check; shipped problems and benchmarks.", ("bayes_ir",)),
    Page("priors", "Models: priors", "What is believed of images.", _in("models", "priors")),
    Page(
        "operators",
        "Models: operators",
        "From images to noise-free measurements.",
        _in("models", "operators"),
    ),
    Page("channels", "Models: channels", "From noise-free measurements to data.", _in("models", "channels")),
    Page(
        "diffusion",
        "Models: forward processes",
        "How noise is added, and four faces of one network.",
        _in("models", "diffusion", "time_grids", "reverse"),
    ),
    Page("training", "Models: training", "A prior of your own images.", ("bayes_ir.models",)),
    Page(
        "problem",
        "Inference: reading and running",
        "From a Pyro model to blocks of draws.",
        ("bayes_ir.inference",),
    ),
    Page("kernels", "Inference: kernels", "One paper, one file.", _in("inference", "kernels", "projections")),
    Page(
        "denoising-posteriors",
        "Inference: denoising posteriors",
        "Gaussian stand-ins for p(x_0 | x_t), and what a channel says under them.",
        _in(
            "inference", "denoising_posterior", "covariances", "measurement_score", "expectation_propagation"
        ),
    ),
    Page("samplers", "Inference: samplers", "How a denoiser becomes a path.", _in("inference", "samplers")),
    Page(
        "exact",
        "Inference: exact posteriors",
        "What every kernel is measured against.",
        _in("inference", "exact"),
    ),
    Page(
        "gibbs",
        "Inference: more unknowns",
        "Noise levels, gains and labels beside the image.",
        _in("inference", "gibbs"),
    ),
    Page("baselines", "Inference: point estimates", "To compare with.", _in("inference", "baselines")),
    Page(
        "analysis",
        "Analysis: trees, stores and summaries",
        "The posterior as a tree, in memory or on disk, and what is said of it first.",
        ("bayes_ir.analysis",),
    ),
    Page(
        "uncertainty",
        "Analysis: maps and functionals",
        "What the draws say of every pixel, of regions, and of decisions.",
        _in(
            "analysis",
            *("uncertainty", "intervals", "correlations", "modes"),
            *("functionals", "functional_tables", "regions", "decisions", "precision"),
        ),
    ),
    Page(
        "checks",
        "Analysis: checks of a model",
        "Whether the draws explain the data, what was learned, and which model or kernel does better.",
        _in(
            "analysis",
            *(
                "checks",
                "residual_test",
                "pit",
                "leave_one_out",
                "model_comparison",
                "contractions",
                "kernel_comparison",
                "jensen",
            ),
        ),
    ),
    Page(
        "calibration",
        "Analysis: calibration and distances",
        "Whether a sampler may be believed.",
        _in(
            "analysis",
            *("sbc", "tarp_coverage", "coverage", "uniformity", "quantities", "draw_sets"),
            *("two_sample", "distances", "exactness", "importance"),
        ),
    ),
    Page(
        "plots", "Analysis: plots", "One per file; the tree first, the figure back.", _in("analysis", "plots")
    ),
)

# Not exported by their packages, and yet for users: all of their ``__all__`` is shown.
PUBLIC_MODULES = (
    *_in("models", "diffusion", "time_grids", "reverse", "training", "objectives", "networks", "datasets"),
    *_in("inference", "covariances", "measurement_score", "expectation_propagation"),
)


@cache
def _modules() -> dict[str, ModuleType]:
    found = {}
    for wing in WINGS:
        package = found[wing] = importlib.import_module(wing)
        for info in pkgutil.walk_packages(package.__path__, prefix=f"{wing}."):
            found[info.name] = importlib.import_module(info.name)
    return found


@cache
def public_names() -> dict[str, tuple[str, str]]:
    """Dotted names as they are exported, with the module that defines each and its name there ('' for a module)."""
    names = {}
    for path, package in _modules().items():
        if hasattr(package, "__path__"):
            for name in getattr(package, "__all__", ()):
                names[f"{path}.{name}"] = _home(path, name, getattr(package, name))
    return names


def _home(package: str, name: str, value: object) -> tuple[str, str]:
    if inspect.ismodule(value):
        return value.__name__, ""
    candidates = [
        path
        for path, module in _modules().items()
        if name in getattr(module, "__all__", ()) and getattr(module, name) is value
    ]
    defined = getattr(value, "__module__", None)
    if defined in candidates:
        return str(defined), name
    # Constants and aliases of types do not know where they are from; a package that passes them on is not it.
    return max(candidates, key=lambda path: (not hasattr(_modules()[path], "__path__"), len(path))), name


def page_of(module: str) -> Page:
    """The page with the longest prefix of a module."""

    def length(page: Page) -> int:
        return max((len(p) for p in page.prefixes if f"{module}.".startswith(f"{p}.")), default=0)

    return max(PAGES, key=length)


@cache
def sections() -> dict[Page, dict[str, list[str]]]:
    """Modules of every page, and the names shown of each; wings are pages and not shown as modules."""
    shown: dict[str, set[str]] = {module: _own(module) for module in PUBLIC_MODULES}
    for module, name in public_names().values():
        if module not in WINGS:
            shown.setdefault(module, set()).update([name] if name else _own(module))
    found: dict[Page, dict[str, list[str]]] = {page: {} for page in PAGES}
    for module in sorted(shown):
        order = list(_modules()[module].__all__)
        found[page_of(module)][module] = sorted(shown[module], key=order.index)
    return found


def _own(path: str) -> set[str]:
    """Names of a module's ``__all__`` that it does not only pass on."""
    module = _modules()[path]
    return {
        n for n in module.__all__ if getattr(getattr(module, n), "__module__", path) in (path, "builtins")
    }

"""Point estimates to compare with: what is done without a posterior.  Nothing here draws from one.

Each is a plain function ``(problem, ...) -> Tensor`` for linear operators and Gaussian channels.
"""

from collections.abc import Callable

from torch import Tensor

from bayes_ir.inference.baselines.admm_tv import admm_tv
from bayes_ir.inference.baselines.filtered_back_projection import filtered_back_projection
from bayes_ir.inference.baselines.hqs_map import hqs_map
from bayes_ir.inference.baselines.pnp_admm import pnp_admm
from bayes_ir.inference.baselines.pseudo_inverse import pseudo_inverse
from bayes_ir.inference.baselines.total_variation import total_variation

__all__ = [
    "admm_tv",
    "baselines",
    "filtered_back_projection",
    "hqs_map",
    "pnp_admm",
    "pseudo_inverse",
    "total_variation",
]


def baselines() -> dict[str, Callable[..., Tensor]]:
    """All baselines by name, the simplest first."""
    functions: tuple[Callable[..., Tensor], ...] = (
        pseudo_inverse,
        filtered_back_projection,
        total_variation,
        admm_tv,
        pnp_admm,
        hqs_map,
    )
    return {function.__name__: function for function in functions}

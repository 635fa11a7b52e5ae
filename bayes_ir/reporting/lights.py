r"""Traffic lights, and the thresholds they change at.

    R-hat          green <= 1.01, red > 1.1 [1, 2]; where draws are few, what independent draws would show is told
    ESS            green >= 100 per chain and 400 in all [1], red < 10 per chain [2]
    posterior p    amber outside [0.05, 0.95], red outside [0.01, 0.99] [3]
    Pareto k       good below min(1 - 1/log10 S, 0.7) [4]
    diverging      any is amber, more than 1 in 100 red                                        (a rule of this house)
    range          draws' pixels more than 5 % outside the prior's range: above 1 % amber, above 5 % red   (likewise)
    saturation     measurements in the outermost codes: above 20 % amber, above 50 % red; of two codes the more frequent
                   above 90 % amber, above 99 % red                                                         (likewise)

A chain of independent draws has an R-hat that scatters about 1.  With m chains of n draws, halved into 2m of h = n/2,
B/W ~ F(2m - 1, 2m (h - 1)) for a normal quantity and R-hat^2 = (h - 1)/h + (B/W)/h: `chance_r_hat` is its quantile.

A green light says that nothing was found, not that the posterior is right: draws of the prior have a perfect R-hat.

Sources: [1] Vehtari, Gelman, Simpson, Carpenter and Buerkner 2021, section 4; [2] Gelman et al., Bayesian Data
Analysis, third edition, section 11.5 (R-hat 1.1; an effective size of 5 per half chain); [3] the same, section 6.3;
[4] Vehtari, Simpson, Gelman, Yao and Gabry 2024, as in ArviZ.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

__all__ = ["Diagnostic", "Light", "banded", "chance_r_hat", "worst"]


class Light(Enum):
    """A traffic light; `UNKNOWN` where something was not recorded or cannot be told, `TOLD` where nothing is judged."""

    GREEN = "good"
    AMBER = "look"
    RED = "bad"
    UNKNOWN = "unknown"
    TOLD = "told"


@dataclass(frozen=True)
class Diagnostic:
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        light: how it looks.
        value: what was found.
        reason: why the light has its colour, in a sentence.
    """

    name: str
    light: Light
    value: str
    reason: str


def banded(value: float, amber: float, red: float) -> Light:
    """Green up to `amber`, amber up to `red`, red above."""
    return Light.GREEN if value <= amber else Light.AMBER if value <= red else Light.RED


def worst(diagnostics: Iterable[Diagnostic]) -> Light:
    """The worst light that judges; green if none does worse."""
    found = {d.light for d in diagnostics}
    return Light.RED if Light.RED in found else Light.AMBER if Light.AMBER in found else Light.GREEN


def chance_r_hat(chains: int, draws: int, quantities: int, level: float = 0.01) -> float:
    """R-hat that the largest of so many quantities of independent draws exceeds with a probability of at most `level`.

    Infinite where a half chain has fewer than two draws.
    """
    from scipy.stats import f

    half = draws // 2
    if half < 2:
        return float("inf")
    # ArviZ takes the larger of two ranks' R-hat for each quantity.
    ratio = f.isf(level / (2 * max(quantities, 1)), 2 * chains - 1, 2 * chains * (half - 1))
    return float(((half - 1) / half + ratio / half) ** 0.5)

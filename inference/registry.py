"""What kernels there are, what each serves and what it costs: ``kernels()`` and ``bayes-ir list kernels``."""

from __future__ import annotations

from dataclasses import dataclass

from bayes_ir.inference import kernels as k
from bayes_ir.inference.exact import Exact
from bayes_ir.inference.kernels.base import Kernel

__all__ = ["KernelEntry", "kernels"]

ANY, GAUSSIAN = ("any",), ("Gaussian",)
LINEAR, DECOMPOSED = "linear", "linear with a decomposition"
DIFFERENTIABLE, DECODABLE, ALL = "differentiable", "with a pseudo-inverse", "of any kind"


@dataclass(frozen=True)
class KernelEntry:
    """One kernel as it is listed.

    Attributes:
        kernel: the class.
        paper: authors.
        year: year of publication.
        family: how it works, one word.
        needs: pairs of channels (names, or ``"any"``) and what A has to be under them.
        jacobian: whether it takes derivatives of the network.
        cost: work per step beside one network evaluation.
    """

    kernel: type[Kernel]
    paper: str
    year: int
    family: str
    needs: tuple[tuple[tuple[str, ...], str], ...]
    jacobian: bool
    cost: str

    @property
    def name(self) -> str:
        """Name of the class."""
        return self.kernel.__name__

    def serves(self, channel: str, operator: set[str]) -> bool:
        """Whether it claims to serve a channel, by name, under an operator with these properties."""
        return any(
            (names == ANY or channel in names) and (kind == ALL or kind in operator)
            for names, kind in self.needs
        )

    @property
    def line(self) -> str:
        """The entry in one line."""
        needs = ", or ".join(f"{'/'.join(names)} channel and A {kind}" for names, kind in self.needs)
        jacobian = "; Jacobian of the network" if self.jacobian else ""
        return f"{self.paper} {self.year}; {self.family}; {needs}{jacobian}; {self.cost}"


_SOLVE = "one solve with A V A^T + noise"
_VJP = "one vector-Jacobian product"
_CG = "one vector-Jacobian product an iteration of CG"
_LINEAR, _DECOMPOSED = ((GAUSSIAN, LINEAR),), ((GAUSSIAN, DECOMPOSED),)
_DIFFERENTIABLE = ((GAUSSIAN, DIFFERENTIABLE),)
_BOXES = (("Gaussian", "OneBit", "Quantized"), LINEAR)
_COUNTS = (("Gaussian", "Poisson"), DIFFERENTIABLE)

_ENTRIES = (
    KernelEntry(Exact, "closed form; Botev", 2017, "exact", (_BOXES,), False, "analytic priors, no network"),
    KernelEntry(
        k.GuidedDiffusion,
        "Peng et al.",
        2024,
        "guided",
        ((GAUSSIAN, DIFFERENTIABLE), (ANY, LINEAR)),
        True,
        f"one solve or EP, twice when moving from draws, {_VJP}",
    ),
    KernelEntry(k.AnnealedLangevin, "Song, Ermon", 2019, "Langevin", _LINEAR, False, _SOLVE),
    KernelEntry(k.QCSSGM, "Meng, Kabashima", 2023, "Langevin", ((ANY, LINEAR),), False, "A and A^T"),
    KernelEntry(
        k.QCSSGMPlus,
        "Meng, Kabashima",
        2023,
        "Langevin",
        ((GAUSSIAN, LINEAR), (ANY, DECOMPOSED)),
        False,
        "expectation propagation",
    ),
    KernelEntry(k.DMPS, "Meng, Kabashima", 2022, "guided", _LINEAR, False, _SOLVE),
    KernelEntry(k.DPS, "Chung et al.", 2023, "guided", (_COUNTS,), True, _VJP),
    KernelEntry(k.PiGDM, "Song et al.", 2023, "guided", _DIFFERENTIABLE, True, f"{_SOLVE}, {_VJP}"),
    KernelEntry(k.MomentMatching, "Rozet et al.; Boys et al.", 2024, "guided", _DIFFERENTIABLE, True, _CG),
    KernelEntry(k.MCG, "Chung et al.", 2022, "replacement", _DECOMPOSED, True, f"{_VJP}, a projection"),
    KernelEntry(
        k.DDNM, "Wang et al.", 2023, "projection", ((GAUSSIAN, DECODABLE),), False, "A and its pseudo-inverse"
    ),
    KernelEntry(k.DDNMPlus, "Wang et al.", 2023, "spectral", _DECOMPOSED, False, "V and V^T"),
    KernelEntry(k.DDRM, "Kawar et al.", 2022, "spectral", _DECOMPOSED, False, "V and V^T"),
    KernelEntry(k.DDS, "Chung, Lee, Ye", 2024, "proximal", _LINEAR, False, "five iterations of CG"),
    KernelEntry(k.DiffPIR, "Zhu et al.", 2023, "proximal", _LINEAR, False, _SOLVE),
    KernelEntry(
        k.Projected, "Yuan et al.", 2023, "projection", ((ANY, ALL),), False, "the user's projection"
    ),
    KernelEntry(k.ILVR, "Choi et al.", 2021, "replacement", _DECOMPOSED, False, "a projection"),
    KernelEntry(k.RePaint, "Lugmayr et al.", 2022, "replacement", _DECOMPOSED, False, "a projection"),
    KernelEntry(
        k.ScoreSDE, "Song et al.; Chung, Ye", 2021, "replacement", _DECOMPOSED, False, "a projection"
    ),
    KernelEntry(k.SNIPS, "Kawar et al.", 2021, "spectral", _DECOMPOSED, False, "V and V^T"),
    KernelEntry(
        k.DAPS, "Zhang et al.", 2024, "split", ((ANY, DIFFERENTIABLE),), False, "Langevin on the likelihood"
    ),
    KernelEntry(
        k.MCGDiff, "Cardoso et al.", 2024, "particles", _DECOMPOSED, False, "V and V^T, a thousand particles"
    ),
    KernelEntry(
        k.TwistedSMC,
        "Wu et al.",
        2023,
        "particles",
        ((ANY, LINEAR),),
        False,
        "EP and its evidence, twice, hundreds of particles",
    ),
    KernelEntry(
        k.SplitGibbs,
        "Wu et al.",
        2024,
        "split",
        ((_BOXES[0], DECOMPOSED),),
        False,
        "V and V^T, hundreds of sweeps",
    ),
)


def kernels() -> dict[str, KernelEntry]:
    """All kernels by name, the exact and the general one first."""
    return {entry.name: entry for entry in _ENTRIES}

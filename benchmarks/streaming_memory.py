"""Memory and time of every statistic of `bayes_ir.analysis` over a stored posterior of 10^5 draws of 64x64.

    python benchmarks/streaming_memory.py --directory PLACE_WITH_4_GB

The draws are x = m + sum_k a_k v_k z_k + s n (smooth v_k; z and n standard normal), 4 chains of 25,000, float32, 1.6 GB
on the disk, written by `ZarrSink` and deleted afterwards. Each statistic runs in a process of its own, whose peak
resident memory is the kernel's `ru_maxrss`, Python and its libraries included; `nothing` is a process that opens the
store and asks for nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SIZE, MODES, NOISE = 64, 5, 0.1


@dataclass(frozen=True)
class Block:
    """One block of draws, as a sampler hands it over."""

    chain: int
    index: int
    start: int
    draws: np.ndarray
    log_likelihood: dict
    stats: dict
    others: dict = field(default_factory=dict)


def shapes() -> tuple[np.ndarray, np.ndarray]:
    """The images m (1, 64, 64) and a_k v_k (5, 1, 64, 64)."""
    grid = (np.arange(SIZE) + 0.5) * np.pi / SIZE
    mean = np.where(np.add.outer(grid, grid) < np.pi, -0.5, 0.5)[None]
    waves = [
        np.outer(np.cos(i * grid), np.cos(j * grid)) for i, j in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 1))
    ]
    return mean, np.stack([wave / (k + 2) for k, wave in enumerate(waves)])[:, None]


def make_store(path: Path, draws: int, chains: int, block_size: int) -> None:
    from bayes_ir.analysis import PosteriorLayout, ZarrSink

    layout = PosteriorLayout("x", (1, SIZE, SIZE), {"y": (1,)}, draws // chains, chains, block_size)
    sink = ZarrSink(path, layout, {"y": np.zeros(1)})
    mean, waves = (array.astype(np.float32) for array in shapes())
    for chain in range(chains):
        for index in range(layout.blocks):
            rng = np.random.default_rng([0, chain, index])
            span = layout.draws_of(index)
            n = span.stop - span.start
            x = np.tensordot(rng.normal(size=(n, MODES)).astype(np.float32), waves, 1) + mean
            x += NOISE * rng.standard_normal(x.shape, dtype=np.float32)
            sink.write(Block(chain, index, span.start, x, {"y": np.zeros((n, 1), np.float32)}, {}))
    sink.finish({})


def classifier(images: np.ndarray) -> np.ndarray:
    """Softmax of the means of 2 x 5 patches."""
    scores = 10 * images[:, 0, :, :60].reshape(-1, 2, 32, 5, 12).mean(axis=(2, 4)).reshape(-1, 10)
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def statistics() -> dict[str, Callable[[Any], Any]]:
    from bayes_ir import analysis as a

    mask = np.zeros((SIZE, SIZE), bool)
    mask[20:40, 20:40] = True
    chosen = a.region_functionals({"centre": mask}, threshold=0.0) | {"edge": a.EdgePosition(row=32)}
    return {
        "nothing": lambda p: None,
        "mean_map": a.mean_map,
        "sd_map": a.sd_map,
        "exceedance_map": lambda p: a.exceedance_map(p, 0.0),
        "median_map": a.median_map,
        "quantile_map": lambda p: a.quantile_map(p, [0.05, 0.25, 0.5, 0.75, 0.95]),
        "interval_map": a.interval_map,
        "hdi_map": a.hdi_map,
        "interval_width_map": a.interval_width_map,
        "correlation_map": lambda p: a.correlation_map(p, (0, 32, 32)),
        "principal_modes": lambda p: a.principal_modes(p, MODES),
        "functional_table": lambda p: a.functional_table(p, chosen),
        "draws_needed": lambda p: a.draws_needed(p, np.mean, 1e-3),
        "decision_entropy": lambda p: a.decision_entropy(p, classifier),
        "summary": a.summary,
    }


def measure(name: str, store: Path) -> dict[str, Any]:
    from bayes_ir.analysis import open_posterior

    start = time.perf_counter()
    statistics()[name](open_posterior(store))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"statistic": name, "peak_mib": round(peak / 2**20), "seconds": round(seconds, 1)}


def child(*arguments: str) -> str:
    """What this script prints in a process of its own: a child's peak must not start from the parent's."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", help="where the store goes; by default that of temporary files")
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--block-size", type=int, default=250)
    parser.add_argument(
        "--only", nargs="*", help="statistics to measure; by default all, and the figures are kept"
    )
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        make_store(given.make, given.draws, given.chains, given.block_size)
        return
    if given.measure:
        print(json.dumps(measure(given.measure[0], Path(given.measure[1]))))
        return
    sizes = {"draws": given.draws, "chains": given.chains, "block_size": given.block_size}
    with tempfile.TemporaryDirectory(dir=given.directory) as place:
        store = Path(place) / "posterior.zarr"
        child("--make", str(store), *(f"--{name.replace('_', '-')}={n}" for name, n in sizes.items()))
        on_disk = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
        figures = []
        for name in given.only or list(statistics()):
            figures.append(json.loads(child("--measure", name, str(store))))
            print(figures[-1], flush=True)
    worst = max(figure["peak_mib"] for figure in figures)
    print(f"store of {on_disk / 2**20:.0f} MiB, largest peak {worst} MiB")
    if not given.only:
        from _results import write_results  # imports torch: not before the last child has run

        record = {"image": [1, SIZE, SIZE], "store_mib": round(on_disk / 2**20), "largest_peak_mib": worst}
        write_results("streaming_memory", sizes | record | {"statistics": figures})


if __name__ == "__main__":
    main()

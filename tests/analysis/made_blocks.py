"""Blocks of known draws, as the sampler would hand them over; a block depends on (chain, index) alone."""

from dataclasses import dataclass, field

import numpy as np

from bayes_ir.analysis.posterior import PosteriorLayout


@dataclass(frozen=True)
class Block:
    chain: int
    index: int
    start: int
    draws: object
    log_likelihood: dict
    stats: dict
    others: dict = field(default_factory=dict)


def make_layout(**changes):
    sizes = {"event_shape": (1, 4, 3), "observed": {"y": (5,)}, "draws": 6, "chains": 2, "block_size": 4}
    return PosteriorLayout("x", **(sizes | changes))


def make_block(layout, chain, index, *, diverging=(), dtype="float32", mean=0.0):
    rng = np.random.default_rng([17, chain, index])
    span = layout.draws_of(index)
    n = span.stop - span.start
    draws = (mean + rng.normal(size=(layout.block_size, *layout.event_shape)))[:n].astype(dtype)
    log_likelihood = rng.normal(size=(layout.block_size, *layout.observed["y"]))[:n].astype(dtype)
    log_lik_rep = rng.normal(size=layout.block_size)[:n].astype(dtype)
    flags = np.array([(chain, draw) in diverging for draw in range(span.start, span.stop)])
    draws[flags] = np.nan
    log_likelihood[flags] = np.nan
    stats = {
        "nfe": np.full(n, 32),
        "diverging": flags,
        "log_lik": log_likelihood.reshape(n, -1).sum(1),
        "log_lik_rep": log_lik_rep,
    }
    return Block(chain, index, span.start, draws, {"y": log_likelihood}, stats)


def observed(layout):
    shape = layout.observed["y"]
    return {"y": np.linspace(-1, 1, int(np.prod(shape)), dtype="float32").reshape(shape)}


def constants(layout):
    back = np.arange(np.prod(layout.event_shape), dtype="float32").reshape(layout.event_shape)
    return {"x_back_projection": (layout.event_dims, back), "noise_std": ((), 0.1)}


SETTINGS = {"kernel": "Exact()", "seed": 0, "data_range": (-1.0, 1.0)}
ATTRS = {"nfe_total": 384}


def run(sink, **how):
    """What the face does: make the blocks that are missing, then finish."""
    for chain in range(sink.layout.chains):
        for index in range(sink.layout.blocks):
            if not sink.done(chain, index):
                sink.write(make_block(sink.layout, chain, index, **how))
    return sink.finish(ATTRS)


def files(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}

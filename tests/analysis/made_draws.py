"""Trees of draws that are given, and correlated Gaussian draws."""

import numpy as np
import xarray as xr

IMAGE = ("x_channel", "x_row", "x_column")


def tree_of(values, dims=IMAGE, **coords):
    data = xr.Dataset({"x": (("chain", "draw", *dims), values)}, coords)
    return xr.DataTree.from_dict({"posterior": data})


def correlated(seed, chains=2, draws=300, shape=(1, 4, 5), mean=0.0):
    """Draws x = mean + L z with a random L (N, N), and L L^T."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    factor = rng.normal(size=(size, size)) * 0.5 ** np.arange(size)
    z = rng.normal(size=(chains, draws, size))
    return mean + (z @ factor.T).reshape(chains, draws, *shape), factor @ factor.T

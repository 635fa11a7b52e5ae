"""x ~ N(0, I) in N dimensions, y = A x + s n: posterior draws as bir.sample records them, and what is exact."""

import numpy as np
import xarray as xr
from scipy.stats import norm

N, M, NOISE = 4, 12, 1.0


def problem(seed=0, measurements=M):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(measurements, N)) / 3
    x = rng.normal(size=N)
    return a, x, a @ x + NOISE * rng.normal(size=measurements)


def posterior_of(a, y, noise=NOISE):
    """Mean and covariance of x given y."""
    covariance = np.linalg.inv(np.eye(N) + a.T @ a / noise**2)
    return covariance @ a.T @ y / noise**2, covariance


def tree_of(a, y, noise=NOISE, chains=2, draws=1000, seed=1, attrs=None):
    rng = np.random.default_rng(seed)
    mean, covariance = posterior_of(a, y, noise)
    x = mean + rng.normal(size=(chains, draws, N)) @ np.linalg.cholesky(covariance).T
    z = x @ a.T
    groups = {
        "posterior": {"x": x},
        "log_likelihood": {"y": norm.logpdf(y, z, noise)},
        "posterior_predictive": {"y": z + noise * rng.normal(size=z.shape)},
        "residuals": {"y": (y - z) / noise},
        "sample_stats": {
            "log_lik": norm.logpdf(y, z, noise).sum(-1),
            "log_lik_rep": norm.logpdf(rng.normal(size=z.shape)).sum(-1) - len(y) * np.log(noise),
            "nfe": np.full((chains, draws), 7),
        },
    }
    nodes = {"/": xr.Dataset(attrs={"image_site": "x", "channel": "Gaussian"} | (attrs or {}))}
    for group, arrays in groups.items():
        found = {}
        for name, array in arrays.items():
            axes = ("chain", "draw", *(f"{name}_dim_{i}" for i in range(array.ndim - 2)))
            found[name] = (axes, array)
        sizes = {dim: n for dims, array in found.values() for dim, n in zip(dims, array.shape, strict=True)}
        nodes[group] = xr.Dataset(found, coords={dim: np.arange(n) for dim, n in sizes.items()})
    nodes["observed_data"] = xr.Dataset({"y": ("y_dim_0", y.copy())}, coords={"y_dim_0": np.arange(len(y))})
    return xr.DataTree.from_dict(nodes)


def leave_one_out(a, y, noise=NOISE):
    """Mean and sd of every measurement given the others."""
    found = []
    for m in range(len(y)):
        others = np.arange(len(y)) != m
        mean, covariance = posterior_of(a[others], y[others], noise)
        found.append((a[m] @ mean, np.sqrt(a[m] @ covariance @ a[m] + noise**2)))
    return np.array(found).T

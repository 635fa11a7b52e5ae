"""A mixture of two Gaussians seen through noise: exact posterior draws, and three wrong samplers of it.

x ~ 0.7 N(1, t^2 I) + 0.3 N(-1, t^2 I) in D dimensions, y = x + s n, so that each component of the posterior has mean
m_k + g (y - m_k) and variance g s^2, g = t^2 / (t^2 + s^2).
"""

import numpy as np

D, TAU, NOISE = 3, 0.8, 1.6
CENTRES, WEIGHTS = np.array([1.0, -1.0]), np.array([0.7, 0.3])
GAIN = TAU**2 / (TAU**2 + NOISE**2)


def simulate(rng, n):
    x = rng.choice(CENTRES, size=(n, 1), p=WEIGHTS) + TAU * rng.normal(size=(n, D))
    return x, x + NOISE * rng.normal(size=(n, D))


def weights(y):
    squares = ((y[:, None] - CENTRES[:, None]) ** 2).sum(-1) / (2 * (TAU**2 + NOISE**2))
    w = WEIGHTS * np.exp(-squares)
    return w / w.sum(1, keepdims=True)


def draw(rng, y, draws, sampler="exact"):
    if sampler == "prior":
        return simulate(rng, len(y) * draws)[0].reshape(len(y), draws, D)
    w = weights(y)
    if sampler == "lost mode":
        w = np.tile([1.0, 0.0], (len(y), 1))
    centre = CENTRES[(rng.uniform(size=(len(y), draws)) > w[:, :1]).astype(int)][..., None]
    width = NOISE * GAIN**0.5 * (0.9 if sampler == "sd x 0.9" else 1.0)
    return centre + GAIN * (y[:, None] - centre) + width * rng.normal(size=(len(y), draws, D))


def log_likelihood(x, y):
    return -((y - x) ** 2).sum(-1) / (2 * NOISE**2)


def log_joint(x, y):
    squares = ((x[..., None, :] - CENTRES[:, None]) ** 2).sum(-1) / (2 * TAU**2)
    return log_likelihood(x, y) + np.log((WEIGHTS * np.exp(-squares)).sum(-1))

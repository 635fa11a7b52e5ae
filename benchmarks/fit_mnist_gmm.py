r"""Fit the shipped prior "mnist-gmm": a mixture of probabilistic PCA models on 14x14 digits.

    p(x) = sum_k w_k N(x; mu_k, W_k W_k^T + v_k I),    W_k (196, rank),

fitted by EM to the MNIST training images averaged over 2x2 pixels.  With responsibilities ``r_nk``
the M step is exact: ``w_k`` and ``mu_k`` are weighted means, and with ``U``, ``lambda`` the leading
eigenvectors and eigenvalues of the weighted covariance ``S_k``

    v_k = max(floor, (tr S_k - sum of the leading lambda) / (196 - rank)),
    W_k = U (lambda - v_k)^{1/2}    (negative differences are zero).

Digits have pixels that are always black; without the floor (default 1e-4, a standard deviation of
0.01, the noise level at which samplers stop) a component that explains few images could let its
noise vanish and its likelihood grow without bound.

Source: Tipping and Bishop 1999, "Mixtures of probabilistic principal component analysers".

    python benchmarks/fit_mnist_gmm.py --data train-images-idx3-ubyte.gz \
        --test t10k-images-idx3-ubyte.gz --out models/weights
"""

from __future__ import annotations

import argparse
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from bayes_ir.models.datasets import load_images
from bayes_ir.models.priors import GaussianMixturePrior, save_prior

_LOG_2PI = math.log(2 * math.pi)


@dataclass
class Mixture:
    """Parameters of the mixture: weights (K,), means (K, N), factors (K, N, R), noise (K,)."""

    weights: Tensor
    means: Tensor
    factors: Tensor
    noise: Tensor

    def log_densities(self, x: Tensor) -> Tensor:
        """``log w_k + log p_k(x)``, (n, K), by the Woodbury identity in the basis of the factors."""
        n, columns = x.shape[1], []
        for w, mean, factor, v in zip(self.weights, self.means, self.factors, self.noise, strict=True):
            size = factor.square().sum(0)  # the columns of a factor are orthogonal
            basis = factor / size.clamp(min=1e-300).sqrt()
            centred = x - mean
            y = (centred @ basis).square()
            inside = y @ (1 / (size + v) - 1 / v) + centred.square().sum(1) / v
            log_det = (size + v).log().sum() + (n - len(size)) * v.log()
            columns.append(w.log() - 0.5 * (inside + log_det + n * _LOG_2PI))
        return torch.stack(columns, dim=1)

    def log_likelihood(self, x: Tensor) -> float:
        """Average log density, nats per image."""
        return float(self.log_densities(x).logsumexp(1).mean())

    def covariances(self) -> Tensor:
        """(K, N, N)."""
        identity = torch.eye(self.means.shape[1], dtype=torch.float64)
        return self.factors @ self.factors.mT + self.noise[:, None, None] * identity


def maximise(x: Tensor, responsibilities: Tensor, rank: int, floor: float) -> Mixture:
    """The M step."""
    weights, means, factors, noise = [], [], [], []
    for r in responsibilities.T:
        # Responsibilities are near zero or one in this many dimensions: leaving out those below
        # 1e-9 changes nothing that can be seen and most of the work.
        chosen = r > 1e-9
        r_k, x_k = r[chosen], x[chosen]
        total = r_k.sum()
        mean = r_k @ x_k / total
        centred = (x_k - mean) * (r_k / total).sqrt()[:, None]
        values, vectors = torch.linalg.eigh(centred.T @ centred)
        v = max(floor, float(values[:-rank].mean()))
        weights.append(total / len(x))
        means.append(mean)
        factors.append(vectors[:, -rank:] * (values[-rank:] - v).clamp(min=0).sqrt())
        noise.append(torch.tensor(v, dtype=torch.float64))
    return Mixture(*(torch.stack(p) for p in (weights, means, factors, noise)))


def k_means(x: Tensor, components: int, seed: int, sweeps: int = 20) -> Tensor:
    """Hard responsibilities (n, K) from k-means started by k-means++."""
    rng = torch.Generator().manual_seed(seed)
    centres = x[torch.randint(len(x), (1,), generator=rng)]
    while len(centres) < components:
        nearest = torch.cdist(x, centres).square().amin(1)
        centres = torch.cat([centres, x[torch.multinomial(nearest, 1, generator=rng)]])
    for _ in range(sweeps):
        label = torch.cdist(x, centres).argmin(1)
        centres = torch.stack([x[label == k].mean(0) for k in range(components)])
    return functional.one_hot(label, components).double()


def fit(
    x: Tensor, components: int, rank: int, floor: float, seed: int, sweeps: int, tolerance: float
) -> Mixture:
    """EM until the average log-likelihood gains less than ``tolerance`` nats in a sweep."""
    mixture = maximise(x, k_means(x, components, seed), rank, floor)
    last = -math.inf
    for sweep in range(sweeps):
        log_densities = mixture.log_densities(x)
        average = float(log_densities.logsumexp(1).mean())
        print(f"sweep {sweep}: {average:.3f} nats per image", flush=True)
        if average - last < tolerance:
            break
        last = average
        mixture = maximise(x, log_densities.softmax(1), rank, floor)
    return mixture


def small_digits(path: str) -> Tensor:
    """Images averaged over 2x2 pixels, (n, 196), float64."""
    return functional.avg_pool2d(load_images(path).double(), 2).flatten(1)


def main() -> None:
    """Fit, measure and save."""
    parser = argparse.ArgumentParser(description="Fit the prior 'mnist-gmm'.")
    parser.add_argument("--data", required=True, help="MNIST training images, idx .gz")
    parser.add_argument("--test", required=True, help="MNIST test images, idx .gz")
    parser.add_argument("--out", required=True, help="folder for mnist-gmm.safetensors and its card")
    parser.add_argument("--components", type=int, default=20)
    parser.add_argument("--rank", type=int, default=40)
    parser.add_argument("--floor", type=float, default=1e-4, help="smallest noise variance")
    parser.add_argument("--sweeps", type=int, default=200)
    parser.add_argument("--tolerance", type=float, default=0.01, help="nats per image and sweep")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    start = time.monotonic()
    train, test = small_digits(args.data), small_digits(args.test)
    settings = {k: getattr(args, k) for k in ("rank", "floor", "seed", "sweeps", "tolerance")}
    mixture = fit(train, args.components, **settings)
    seconds = time.monotonic() - start
    single = fit(train, 1, **settings)
    measured = {
        "unit": "average log density, nats per 14x14 image",
        "train_log_likelihood": round(mixture.log_likelihood(train), 2),
        "test_log_likelihood": round(mixture.log_likelihood(test), 2),
        "test_log_likelihood_of_one_component": round(single.log_likelihood(test), 2),
        "smallest_noise_variance": float(f"{float(mixture.noise.min()):.3g}"),
    }
    prior = GaussianMixturePrior(
        mixture.weights,
        mixture.means,
        mixture.covariances(),
        event_shape=(1, 14, 14),
        data_range=(0.0, 1.0),
    )
    card = {
        "description": "Mixture of probabilistic PCA models on MNIST digits averaged to 14x14, in [0, 1].",
        "data": {"name": "MNIST, 60,000 training images, averaged over 2x2 pixels", "images": len(train)},
        "licence": "CC BY-SA 3.0, as the data",
        "credit": "MNIST: Yann LeCun, Corinna Cortes",
        "training": {
            "command": "python benchmarks/fit_mnist_gmm.py --data train-images-idx3-ubyte.gz "
            f"--test t10k-images-idx3-ubyte.gz --components {args.components} --rank {args.rank} "
            f"--floor {args.floor:g} --sweeps {args.sweeps} --tolerance {args.tolerance:g} "
            f"--seed {args.seed} --out models/weights",
            "seconds": round(seconds),
            "machine": f"{os.cpu_count()} CPU cores",
        },
        "measured": measured,
    }
    path = save_prior(prior.to(dtype=torch.float32), Path(args.out) / "mnist-gmm", card)
    print(measured)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()

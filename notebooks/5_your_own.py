# %% [markdown]
# # Bring your own image, operator and prior
#
# You have images of a kind that no shipped prior knows, an instrument that is in no list, and a question about one
# image. What does it take to get a posterior, and to know how far to trust it? Here the images are cells seen under a
# microscope, small and soft-edged, the instrument sums the light along rays in four directions, and the question is
# how much of the picture is covered. On the way: when is a Gaussian prior enough, and what do the refusals say?

# %%
import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import torch
from IPython.display import Markdown
from matplotlib import pyplot as plt
from PIL import Image

import bayes_ir as bir
from bayes_ir.analysis import AreaAbove, MaskSum
from bayes_ir.inference import Exact, GuidedDiffusion
from bayes_ir.models import (
    Gaussian,
    GaussianPrior,
    LinearOperator,
    NetworkPrior,
    calibrate,
    load_prior,
    save_prior,
)
from bayes_ir.models.training import OBJECTIVES, TrainingSettings, train

SHORT = bool(os.environ.get("BAYES_IR_SHORT"))
torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 90, "font.size": 11})
pd.set_option("display.width", 110, "display.max_columns", 12)
SIDE, NOISE, UNITS = 16, 0.1, "1 = white"
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)

# %% [markdown]
# ## The images
#
# Yours are files in a folder, or an array in an `.npz`: `bayes_ir.models.datasets.load_images` reads both and gives
# (n, channels, height, width) in [0, 1]. Ours are drawn: one to three ellipses, each of one brightness, with edges one
# pixel wide. 500 are kept from training.


# %%
def cells(count, seed):
    """Images (count, 1, SIDE, SIDE) in [0, 1]."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:SIDE, :SIDE]
    images = np.zeros((count, 1, SIDE, SIDE), np.float32)
    for image in images:
        for _ in range(rng.integers(1, 4)):
            y, x = rng.uniform(3, SIDE - 4, 2)
            a, b = rng.uniform(1.5, 4, 2)
            turn = rng.uniform(0, np.pi)
            u = (row - y) * np.cos(turn) + (column - x) * np.sin(turn)
            v = (column - x) * np.cos(turn) - (row - y) * np.sin(turn)
            inside = np.clip((1 - np.hypot(u / a, v / b)) * min(a, b) + 0.5, 0, 1)
            image[0] = np.maximum(image[0], rng.uniform(0.4, 1) * inside)
    return torch.from_numpy(images)


images, held_out = cells(4000, seed=0), cells(500, seed=1)

# %% [markdown]
# ## Two priors
#
# **A Gaussian** needs no training: the mean and the covariance of the images. Its posterior under a linear operator is
# exact.
#
# **A network** is trained to remove noise of any strength: here a small U-Net, for a minute or so. In a shell this is
# `bayes-ir train --data images.npz --name cells --out cells`, which also calibrates and saves. `calibrate` measures on
# held-out images how far the denoiser is from them at every noise level, which the default kernel uses as the width of
# its beliefs.

# %%
gaussian = GaussianPrior(
    images.mean(0), torch.cov(images.flatten(1).T) + 1e-4 * torch.eye(SIDE**2), event_shape=(1, SIDE, SIDE)
)

settings = TrainingSettings(
    "ve",
    steps=150 if SHORT else 1500,
    batch_size=32,
    learning_rate=2e-3,
    ema_decay=0.9 if SHORT else 0.995,
    width=32,
)
denoiser = train(images, settings, folder / "training")
diffusion = OBJECTIVES["ve"].diffusion
network = NetworkPrior(
    denoiser,
    diffusion,
    event_shape=(1, SIDE, SIDE),
    data_range=(0.0, 1.0),
    noise_range=(diffusion.noise_min, diffusion.noise_max),
    mean=denoiser.data_mean,
    std=denoiser.data_std,
)
network = calibrate(network, held_out, seed=0)
save_prior(
    network, folder / "cells", {"data": "ellipses drawn by this notebook", "licence": "CC0", "credit": "none"}
)
network = load_prior(folder / "cells.json")  # as you would tomorrow
print(f"{network}: {settings.steps} steps")

# %% [markdown]
# Draws of a prior say at a glance what it believes in.

# %%
with torch.random.fork_rng():
    torch.manual_seed(0)
    shown = {"images": held_out[:8], "network": network.sample((8,)), "Gaussian": gaussian.sample((8,))}
figure, axes = plt.subplots(3, 8, figsize=(8.5, 3.4), layout="constrained")
for row, (name, batch) in zip(axes, shown.items(), strict=True):
    for ax, image in zip(row, batch, strict=True):
        drawn = ax.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)
figure.colorbar(drawn, ax=axes, label=UNITS, shrink=0.8, extend="both")
plt.show()

# %% [markdown]
# ## The instrument
#
# Sums along rows, columns and both diagonals: 94 numbers of 256 pixels. A linear torch function is enough.
# `LinearOperator.from_function` takes its adjoint by autograd and checks on random vectors that it is linear.


# %%
def sums(x):
    """Images (B, 1, SIDE, SIDE) to ray sums (B, 94)."""
    image = x[:, 0]
    rays = [image.sum(2), image.sum(1)]
    for turned in (image, image.flip(2)):
        rays.append(torch.stack([turned.diagonal(k, 1, 2).sum(-1) for k in range(1 - SIDE, SIDE)], dim=1))
    return torch.cat(rays, dim=1)


by_function = LinearOperator.from_function(sums, event_shape=(1, SIDE, SIDE))
print(by_function.event_shape, "->", by_function.measurement_shape)

# %% [markdown]
# Or a class with `forward` and `adjoint`. It can be faster, and it can be wrong: the adjoint is tested, always, by
# ⟨A x, z⟩ = ⟨x, Aᵀ z⟩.


# %%
class FourViews(LinearOperator):
    """Sums along rows, columns, diagonals and antidiagonals of square images."""

    def __init__(self, side):
        super().__init__((1, side, side), (2 * side + 2 * (2 * side - 1),))
        row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        across = 2 * side - 1
        views = [
            row,
            side + column,
            2 * side + column - row + side - 1,
            2 * side + across + 2 * (side - 1) - row - column,
        ]
        self.rays = torch.stack(views).flatten(1)  # (4, N): the ray through each pixel, in every view

    def forward(self, x):
        pixels = x.flatten(-3)
        z = pixels.new_zeros(*pixels.shape[:-1], *self.measurement_shape)
        for ray in self.rays:
            z = z.index_add(-1, ray, pixels)
        return z

    def adjoint(self, z):
        self._expect_measurement(z)
        return z[..., self.rays].sum(-2).unflatten(-1, self.event_shape)


A = FourViews(SIDE)
rng = torch.Generator().manual_seed(0)
x, z = torch.randn(1, SIDE, SIDE, generator=rng), torch.randn(94, generator=rng)
left, right = float((A(x) * z).sum()), float((x * A.adjoint(z)).sum())
print(f"<A x, z> = {left:.4f}, <x, A^T z> = {right:.4f}")
print(f"largest difference from the function: {float((A(x) - by_function(x)).abs().max()):.1e}")
assert abs(left - right) < 1e-4 * float(A(x).norm() * z.norm())
assert torch.allclose(A(x), by_function(x), atol=1e-4)

# %% [markdown]
# ## What can go wrong
#
# Units, shapes and adjoints are the mistakes that everyone makes once. Each is refused, in words.

# %%
attempts = {
    "images of 8 bits": lambda: calibrate(network, 255 * held_out),
    "an image of another size": lambda: A(torch.zeros(1, 20, 20)),
    "an adjoint that forgets a factor": lambda: LinearOperator.from_function(
        sums, (1, SIDE, SIDE), adjoint=lambda z: 0.5 * A.adjoint(z)
    ),
}
for what, attempt in attempts.items():
    try:
        attempt()
    except ValueError as error:
        print(f"{what}:\n    {error}\n")

# %% [markdown]
# ## Your image
#
# The truth is in a PNG of 8 bits. It is read with Pillow, divided by 255, and measured with noise of sd 0.1 (ray
# sums go up to about 8). With a real instrument you have `y` and no truth.

# %%
Image.fromarray((255 * cells(5, seed=11)[4, 0].numpy()).round().astype(np.uint8)).save(folder / "mine.png")

truth = torch.from_numpy(np.asarray(Image.open(folder / "mine.png"), dtype=np.float32) / 255)[None]
print(tuple(truth.shape), f"from {float(truth.min()):g} to {float(truth.max()):.2f}")


def model_of(prior, count=None):
    """Ray sums of one image, or of a plate of them."""

    def model():
        if count is None:
            x = pyro.sample("x", prior)
            pyro.sample("y", Gaussian(A(x), NOISE))
        else:
            with pyro.plate("images", count):
                x = pyro.sample("x", prior)
                pyro.sample("y", Gaussian(A(x), NOISE).to_event(1))

    return model


def measured(image, seed):
    """What the instrument reads."""
    rng = torch.Generator().manual_seed(seed)
    z = A(image)
    return {"y": z + NOISE * torch.randn(z.shape, generator=rng)}


y = measured(truth, seed=1)
draws, chains = (12, 2) if SHORT else (64, 4)
posterior = bir.sample(
    model_of(network),
    GuidedDiffusion(),
    y,
    draws=draws,
    chains=chains,
    seed=0,
    store=folder / "run.zarr",
    progress=False,
)
with_gaussian = bir.sample(model_of(gaussian), Exact(), y, draws=draws, chains=chains, seed=0, progress=False)
bir.analysis.plot_uncertainty(posterior, truth, units=UNITS)
plt.show()

# %% [markdown]
# ## Is the trained prior worth it?
#
# One image proves little. So sixteen held-out images are measured and restored under both priors, a plate of them
# sharing each network call: root mean square error of the posterior mean, mean posterior sd, and the share of pixels
# in their 90 % intervals, with standard errors over images.

# %%
count = 4 if SHORT else 16
some = cells(count, seed=21)
data = measured(some, seed=2)
rows = {}
for name, prior, kernel in (("network", network, GuidedDiffusion()), ("Gaussian", gaussian, Exact())):
    tree = bir.sample(
        model_of(prior, count), kernel, data, draws=8 if SHORT else 32, chains=1, seed=0, progress=False
    )
    x = tree["posterior"]["x"].values[0]  # (draw, image, 1, SIDE, SIDE)
    true, axes = some.numpy(), (1, 2, 3)
    low, high = np.quantile(x, [0.05, 0.95], axis=0)
    per_image = {
        "rmse": np.sqrt(((x.mean(0) - true) ** 2).mean(axes)),
        "mean sd": np.sqrt(x.var(0, ddof=1).mean(axes)),
        "in 90 %": ((low <= true) & (true <= high)).mean(axes),
        "rms of total": (x.sum((2, 3, 4)).mean(0) - true.sum(axes)) ** 2,
    }
    rows[name] = {
        key: f"{v.mean():.3f} ± {v.std(ddof=1) / np.sqrt(count):.3f}" for key, v in per_image.items()
    }
    rows[name]["rms of total"] = f"{np.sqrt(per_image['rms of total'].mean()):.2f}"
    rows[name]["error"] = per_image["rmse"].mean()
comparison = pd.DataFrame(rows).T
gain = comparison.loc["Gaussian", "error"] / comparison.loc["network", "error"]
print(comparison.drop(columns="error").to_string())
print(f"\nThe Gaussian prior's error is {gain:.2f} times that of the network.")

# %% [markdown]
# A Gaussian prior is enough when the question is linear and the data answer it, such as the total brightness (last
# column, in white pixels): its mean is the best linear estimate whatever the law of the images is, its sd
# is right on average, and it costs nothing. It is not enough where shape matters: it does not know that cells have
# edges, or that brightness is not negative. (Intervals from few draws hold somewhat less than they say: the 5 % and
# 95 % quantiles of 32 draws lie too far inside.)
#
# ## Where is it uncertain?
#
# Probability that a pixel is brighter than a quarter, and the principal modes: the patterns in which the draws differ
# most, with their share of the posterior variance.

# %%
exceedance = bir.analysis.exceedance_map(posterior, 0.25)
modes = bir.analysis.principal_modes(posterior, k=3, tolerance=1e-2, passes=30)
figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
drawn = axes[0].imshow(exceedance[0], vmin=0, vmax=1, cmap="cividis")
axes[0].set_title("P(x > 0.25 | y)", loc="left")
figure.colorbar(drawn, ax=axes[0], shrink=0.7, label="probability")
pattern = (modes["mode"] * modes["sd"]).values[:, 0]
size = np.abs(pattern).max()
for k, ax in enumerate(axes[1:]):
    drawn = ax.imshow(pattern[k], cmap="RdBu_r", vmin=-size, vmax=size)
    ax.set_title(f"mode {k + 1}: {100 * float(modes['share'][k]):.0f} %", loc="left")
figure.colorbar(drawn, ax=axes[1:], shrink=0.7, label="change by one sd")
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## The question: how much is covered?
#
# A function of an image, over all draws, is a posterior of the number. ArviZ says mean, sd, interval, and the Monte
# Carlo standard error; `draws_needed` says how many draws a smaller error would take.

# %%
covered = AreaAbove(0.25)
left_half = np.zeros((SIDE, SIDE), bool)
left_half[:, : SIDE // 2] = True
questions = {"covered pixels": covered, "brightness at the left": MaskSum(left_half)}
for name, tree in {"network": posterior, "Gaussian": with_gaussian}.items():
    table = bir.analysis.functional_table(tree, questions)
    table["truth"] = [f(truth.numpy()) for f in questions.values()]
    kept = ["mean", "sd", "eti90_lb", "eti90_ub", "mcse_mean", "ess_bulk", "r_hat", "truth"]
    print(f"{name}:\n{table[kept].astype(float).round(2).to_string()}\n")
need = bir.analysis.draws_needed(posterior, covered, mcse=0.1)
area = bir.analysis.functional_draws(posterior, {"covered": covered})["posterior"]["covered"].values
print(
    f"Covered: {area.mean():.1f} ± {area.std():.1f} pixels, truth {covered(truth.numpy()):.0f}; Monte Carlo error "
    f"{need.mcse:.2f} of {area.size} draws. For 0.1 it takes {need.draws} draws."
)
mean_image = bir.analysis.mean_map(posterior).values
print(f"The posterior mean, taken for the image, would say {covered(mean_image):.0f}.")

# %% [markdown]
# ## A report
#
# The run was written to disk as it was drawn (`store=`). In a shell `bayes-ir report run.zarr --out report.html` makes
# one page of it, with settings, diagnostics, maps and tables; here the same command is called from Python. Below is one
# section of the Markdown that it writes beside.

# %%
from bayes_ir.cli import main

with contextlib.chdir(folder):
    main(["report", "run.zarr", "--out", "report.html"], standalone_mode=False)
page = (folder / "report.md").read_text(encoding="utf-8")
Markdown(page.split("## Can it be trusted?")[1].split("\n## ")[0])

# %% [markdown]
# ## Conclusion

# %%
parameters = sum(p.numel() for p in network.network.parameters())
print(
    f"A network of {parameters:,} parameters, trained for {settings.steps} steps: under a Gaussian fitted to the same "
    f"images the error over {count} held-out ones is {gain:.2f} times as large.\n"
    f"The image of the file has {area.mean():.1f} ± {area.std():.1f} covered pixels (truth "
    f"{covered(truth.numpy()):.0f})."
)
temporary.cleanup()

# %% [markdown]
# - Start with a Gaussian prior: it is exact, takes no training, and shows at once whether operator, units and data fit.
# - Train a network when shapes matter, calibrate it on images that it has not seen, and compare both on held-out
#   images before trusting its smaller sd.
# - Test the adjoint of an own operator. Ask for numbers, not pixels, and report their Monte Carlo error.

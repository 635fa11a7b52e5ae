# %% [markdown]
# # An unknown noise level, and leave-one-out
#
# Nobody tells a camera its noise. Can the noise level be learned from the very measurements that the image is
# restored from, what does not knowing it cost, and if a few levels are all that comes into question: does
# leave-one-out cross-validation pick the right one? It does where each measurement can be predicted from the
# others. Where it cannot, the ranking may be wrong, and the Pareto k says so.

# %%
import math
import os
import warnings

import arviz_stats
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from matplotlib import pyplot as plt

import bayes_ir as bir
from bayes_ir.analysis import HighParetoKWarning
from bayes_ir.inference import BlockedGibbs, Calibrated, Exact, GuidedDiffusion
from bayes_ir.models import Gaussian, GaussianPrior, GaussianSensing, OneBit, load_prior
from bayes_ir.problems import test_digits

SHORT = bool(os.environ.get("BAYES_IR_SHORT"))
torch.set_num_threads(1)
plt.rcParams.update({"figure.dpi": 90, "font.size": 11})
pd.set_option("display.width", 110, "display.max_columns", 12)
TRUE_SIGMA, LEVELS = 0.1, (0.03, 0.1, 0.3)

# %% [markdown]
# ## The model
#
#     v ~ InverseGamma(2, 0.02)       the variance of the noise, σ = √v
#     x ~ p(x)                        digits of 14 x 14 pixels, a mixture of twenty Gaussians
#     y ~ N(A x, v I)                 200 random projections
#
# The prior of v puts 90 % on σ between 0.065 and 0.24. The prior of the image is one whose posterior is known
# for every v, so that `Exact` draws the image: whatever goes wrong below goes wrong in the statistics, not in a
# diffusion sampler. The truth is a draw of the prior, and its noise has σ = 0.1.

# %%
prior = load_prior("mnist-gmm")
A = GaussianSensing(measurements=200, event_shape=prior.event_shape, seed=0)
VARIANCE = dist.InverseGamma(torch.tensor(2.0), torch.tensor(0.02))


def unknown():
    v = pyro.sample("variance", VARIANCE)
    sigma = pyro.deterministic("sigma", v.sqrt())
    x = pyro.sample("x", prior)
    pyro.sample("y", Gaussian(A(x), sigma))


truth = bir.simulate(pyro.condition(unknown, data={"variance": torch.tensor(TRUE_SIGMA**2)}), seed=2)
data = {"y": truth["y"]}
print(
    f"{prior}; sd of the noiseless measurements {float(A(truth['x']).std()):.2f}, of the noise {TRUE_SIGMA}"
)

# %% [markdown]
# ## The draws
#
# Blocked Gibbs draws the image given v and v given the image, in turn. With an inverse gamma prior the second
# step is again inverse gamma, and `BlockedGibbs(conjugate=True)`, the default, draws from it: there is no
# Metropolis step to tune or to diverge. Each chain starts from another draw of the prior of v, so that R-hat
# means what it says.

# %%
chains, warmup, draws = (2, 10, 16) if SHORT else (4, 25, 75)
gibbs = BlockedGibbs(image=Exact(), warmup=warmup, conjugate=True)
posterior = bir.sample(unknown, gibbs, data, draws=draws, chains=chains, seed=0, progress=False)
noise = arviz_stats.summary(posterior, var_names=["sigma"], ci_prob=0.9, round_to="none")
sigmas = posterior["posterior"]["sigma"]
low, high = np.quantile(sigmas, [0.05, 0.95])
print(noise.astype(float).round(3).T.to_string(header=False))
print(f"\ndiverging draws: {int(posterior['sample_stats']['diverging'].sum())} of {sigmas.size}")
print(f"90 % interval of sigma: {low:.3f} to {high:.3f}; the truth is {TRUE_SIGMA}")

# %%
figure, (path, density) = plt.subplots(
    1, 2, figsize=(9, 3), sharey=True, width_ratios=[2, 1], layout="constrained"
)
path.plot(sigmas.values.T, linewidth=0.9)
path.set(xlabel=f"draw, after {warmup} sweeps of warm-up", ylabel="noise level sigma (units of y)")
path.set_title(f"{chains} chains", loc="left")
grid = torch.linspace(0.03, 0.25, 200)
prior_of_sigma = VARIANCE.log_prob(grid**2).exp() * 2 * grid
density.hist(
    sigmas.values.ravel(), bins=20, density=True, orientation="horizontal", color="0.6", label="posterior"
)
density.plot(prior_of_sigma, grid, color="tab:orange", label="prior")
for ax in (path, density):
    ax.axhline(TRUE_SIGMA, color="black", linestyle="--", linewidth=1, label="truth")
density.set(xlabel="density", ylim=(0.04, 0.22))
density.legend(frameon=False)
plt.show()

# %% [markdown]
# ## What does not knowing cost?
#
# Beside the unknown level stand three fixed ones, the right 0.1 and two that are wrong. Told are the mean
# posterior sd of a pixel, the root mean square error of the posterior mean, and how many pixels lie in their 90 %
# interval.


# %%
def fixed(operator, sigma, image_prior, channel=Gaussian):
    """The model with a noise level that is given."""

    def model():
        x = pyro.sample("x", image_prior)
        pyro.sample("y", channel(operator(x), sigma))

    return model


def fixed_posterior(operator, sigma, y, image_prior=prior, channel=Gaussian, kernel=None, draws=2000):
    model = fixed(operator, sigma, image_prior, channel)
    return bir.sample(
        model, kernel or Exact(), {"y": y}, draws=draws, chains=1, block_size=draws, seed=1, progress=False
    )


given = {s: fixed_posterior(A, s, data["y"]) for s in LEVELS}
named = {"unknown": posterior} | {f"{s} given": tree for s, tree in given.items()}
cost = pd.DataFrame(
    {
        name: {
            "mean sd": float(bir.analysis.sd_map(tree).mean()),
            "rmse": float(bir.analysis.rmse(bir.analysis.mean_map(tree), truth["x"])),
            "in 90 % interval": bir.analysis.interval_coverage(tree, truth["x"], 0.9),
        }
        for name, tree in named.items()
    }
).T
print(cost.round(3))

# %%
figure = bir.analysis.plot_maps(
    {f"sigma {name}": named[name] for name in ("unknown", "0.1 given", "0.03 given")}, maps=("mean", "sd")
)
plt.show()

# %%
price = cost.loc["unknown", "mean sd"] / cost.loc["0.1 given", "mean sd"] - 1
print(
    f"Not knowing the noise changes the sd of a pixel by {100 * price:+.1f} %. Believing 0.03 makes the image "
    f"{cost.loc['0.1 given', 'mean sd'] / cost.loc['0.03 given', 'mean sd']:.1f} times as sure, and its 90 % "
    f"intervals hold {100 * cost.loc['0.03 given', 'in 90 % interval']:.0f} % of the pixels."
)

# %% [markdown]
# Learning the noise is nearly free here: 200 measurements tell one number well, and the difference is of the order
# of the Monte Carlo error of the sd. Believing a wrong level is what costs.
#
# ## Do the draws explain the measurements?
#
# The residuals z = (y − A x) / σ of a draw from the right posterior are white with variance 1.
# `residual_check` tests their size and their shape with a p-value that stays valid though all draws share one y.
# Beside it stands the classical posterior predictive p-value, from `measurement_check`: it gathers around 1/2 for
# a right model.

# %%
models = {"unknown": unknown} | {f"{s} given": fixed(A, s, prior) for s in LEVELS}


def thin(tree):
    """At most about 200 draws of a chain."""
    return tree.isel(draw=slice(None, None, max(1, tree["posterior"].sizes["draw"] // 200)))


thinned = {name: thin(tree) for name, tree in named.items()}
rows = {}
for name, tree in thinned.items():
    check = bir.analysis.residual_check(bir.residuals(models[name], tree, data))
    rows[name] = {
        "mean of z²": check.mean_square,
        "p, size": check.p_value,
        "p, shape": check.p_value_shape,
        "predictive p": bir.analysis.measurement_check(tree).p_value,
    }
print(pd.DataFrame(rows).T.round(3))

# %% [markdown]
# With 0.03 the draws do not reach the data; with 0.3 they are far closer to it than noise of 0.3 would be. Both
# show before any model is compared. The leave-one-out PIT says the same of each measurement: the probability, from
# the *other* measurements, of a value below the one that was seen. Uniform values have an empirical
# distribution function on the diagonal, and what is drawn is the distance from it.

# %%
figure, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
m = A.measurement_shape[0]
u = (np.arange(m) + 1) / m
for name, tree in thinned.items():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HighParetoKWarning)  # the subject of the next section
        pit = bir.analysis.measurement_pit(bir.posterior_predictive(models[name], tree, data))
    values = np.sort(pit["y"].values)
    steps = np.concatenate([[0], u - values, [0]])
    ax.plot(
        np.concatenate([[0], values, [1]]),
        steps,
        label=f"sigma {name}",
        linewidth=2 if name == "unknown" else 1.2,
    )
band = 1.36 / math.sqrt(m)
ax.axhspan(-band, band, color="0.9", zorder=0, label="95 % band (Kolmogorov)")
ax.axhline(0, color="black", linewidth=0.8)
ax.set(xlabel="LOO-PIT of a measurement", ylabel="ECDF - uniform")
ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# A curve that is below zero first and above it later is that of a hump in the middle: predictions too wide, as with
# 0.3. The opposite is a U: too narrow, as with 0.03.
#
# ## Leave-one-out
#
#     elpd = Σ_m log p(y_m | y without y_m)
#
# `compare_models` estimates it from the draws of each posterior by Pareto smoothed importance sampling.
# Since this is a simulation, we can ask what leave-one-out only estimates: 4,000 *new* projections of the same
# image, which no draw has seen. `behind` is how far a level's elpd is behind that of 0.1, by leave-one-out and by
# new measurements (scaled to as many as there were). This is done with 100, 200 and 400 measurements.

# %%
FRESH = 10  # further operators


def compared(operator, y, x, image_prior, channel, kernel=None, draws=2000, seed=0):
    """Every level's elpd behind that of 0.1, by leave-one-out and by new measurements, and the Pareto k."""
    m = operator.measurement_shape[0]
    rng = torch.Generator().manual_seed(seed + 77)
    others = [GaussianSensing(m, image_prior.event_shape, seed=1000 + seed + i) for i in range(FRESH)]
    z_new = torch.cat([a(x) for a in others])
    y_new = z_new + TRUE_SIGMA * torch.randn(z_new.shape, generator=rng)
    y_new = y_new if channel is Gaussian else torch.where(y_new >= 0, 1.0, -1.0)
    trees, fresh, ks = {}, {}, {}
    for s in LEVELS:
        trees[f"{s}"] = tree = fixed_posterior(operator, s, y, image_prior, channel, kernel, draws)
        seen = torch.as_tensor(tree["posterior"]["x"].values[0])
        log_p = channel(torch.cat([a(seen) for a in others], dim=-1), s).log_prob(y_new).double()
        fresh[f"{s}"] = float((torch.logsumexp(log_p, 0) - math.log(draws)).sum()) / FRESH
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HighParetoKWarning)  # told in the table instead
            ks[s] = bir.analysis.measurement_loo(tree).pareto_k.values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HighParetoKWarning)
        table = bir.analysis.compare_models(trees)
    told = pd.DataFrame(
        {
            "sigma": [float(n) for n in table.index],
            "elpd": table["elpd"].values,
            "behind": table.loc["0.1", "elpd"] - table["elpd"].values,
            "behind, new": [fresh["0.1"] - fresh[n] for n in table.index],
            "k too high": table["share_high_k"].values,
        }
    )
    return told, ks, table.attrs["verdict"]


found, k_of = {}, {}
for m in (100, 200, 400):
    operator = A if m == 200 else GaussianSensing(m, prior.event_shape, seed=0)
    y = data["y"]
    if m != 200:
        rng = torch.Generator().manual_seed(m)
        y = operator(truth["x"]) + TRUE_SIGMA * torch.randn(m, generator=rng)
    found[m], k_of[m], verdict = compared(operator, y, truth["x"], prior, Gaussian)
    print(f"{m} measurements: {verdict}")
    print(found[m].round(2).to_string(index=False), "\n")

# %%
figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.2), sharey=True, layout="constrained")
for ax, (m, ks) in zip(axes, k_of.items(), strict=True):
    for s, k in ks.items():
        ax.plot((np.arange(m) + 0.5) / m, np.sort(k), label=f"sigma = {s}")
    ax.axhline(0.7, color="black", linestyle="--", linewidth=1, label="limit of trust")
    ax.set(xlabel="share of measurements")
    ax.set_title(f"{m} measurements", loc="left")
axes[0].set_ylabel("Pareto k, sorted")
axes[-1].legend(frameon=False)
plt.show()

# %% [markdown]
# The k are the message. Under 0.1 and 0.3 they are mostly fine from 200 measurements on, and there leave-one-out and
# new measurements agree. Under 0.03 most measurements pin the image so hard that the draws of the full posterior do
# not cover the posterior without them, and the elpd of that model is worth nothing: with 100 measurements, fewer
# than there are pixels, it even comes out *on top*, though new measurements put it far behind. A model whose k
# are high is not ranked, whatever the table says. (To have it right, sample again without the measurements that are
# predicted: `bir.measurement_kfold`.)
#
# ## Where leave-one-out fails altogether: signs under a learned prior
#
# Now only the signs of 400 projections are kept. Once the image is a smooth one of 6 x 6 pixels under a Gaussian
# prior, once a digit of 28 x 28 under the learned prior "mnist". The draws are from the guidance calibrated on the
# prior, which for Gaussian priors is at the Monte Carlo floor.


# %%
def smooth_prior(side=6):
    """Zero mean, correlation exp(-distance / 3)."""
    row, column = torch.meshgrid(*(torch.arange(side, dtype=torch.float64),) * 2, indexing="ij")
    points = torch.stack([row.flatten(), column.flatten()], dim=1)
    covariance = torch.exp(-torch.cdist(points, points) / 3).float()
    return GaussianPrior(torch.zeros(side * side), covariance, event_shape=(1, side, side))


digit_prior, small_prior = load_prior("mnist"), smooth_prior()
digit = test_digits()[0][4]
with torch.random.fork_rng():
    torch.manual_seed(0)
    smooth = small_prior.sample()
calibrated = GuidedDiffusion(denoising_posterior=Calibrated(), steps=8 if SHORT else 16)
signs_found = {}
for name, image_prior, image, count in (
    ("6 x 6, Gaussian prior", small_prior, smooth, 100 if SHORT else 1000),
    ("28 x 28, learned prior", digit_prior, digit, 40 if SHORT else 250),
):
    operator = GaussianSensing(400, image_prior.event_shape, seed=5)
    rng = torch.Generator().manual_seed(5)
    y = torch.where(operator(image) + TRUE_SIGMA * torch.randn(400, generator=rng) >= 0, 1.0, -1.0)
    signs_found[name], _, verdict = compared(
        operator, y, image, image_prior, OneBit, calibrated, count, seed=5
    )
    print(f"{name}: {verdict}")
    print(signs_found[name].round(2).to_string(index=False), "\n")

# %%
high_small, high_digit = (t["k too high"].max() for t in signs_found.values())
print(
    f"Largest share of measurements with k too high: {100 * high_small:.0f} % under the small prior, "
    f"{100 * high_digit:.0f} % under the learned one."
)

# %% [markdown]
# A digit has many more ways to differ than 400 bits can settle; each sign decides something that no other sign
# does. Leave-one-out from the draws of one posterior cannot be used there. Two things can: ten runs that each predict a
# tenth of the signs without having seen it (`bir.measurement_kfold`; [Model checking](../docs/model-checking.md) has
# what it finds), and the first half of this page: make the noise level a parameter, and let the posterior say what
# it is.
#
# ## Two sensors
#
# That is how we end: a digit, 40 precise measurements (sd 0.05, known) and 400 signs whose noise nobody knows, both
# in one model. With a log-normal prior nothing is conjugate and NUTS draws σ; its divergences are counted. The image
# step is `GuidedDiffusion()` with its Jacobian, started from the present image (`renoise=1`). The chains are short, to
# keep this page short: read σ with its R-hat, and draw more for a result.

# %%
B = GaussianSensing(40, digit_prior.event_shape, seed=7)
S = GaussianSensing(400, digit_prior.event_shape, seed=8)


def precise():
    x = pyro.sample("x", digit_prior)
    pyro.sample("few", Gaussian(B(x), 0.05))


def both():
    sigma = pyro.sample("sigma", dist.LogNormal(torch.tensor(-2.0), 1.0))
    x = pyro.sample("x", digit_prior)
    pyro.sample("few", Gaussian(B(x), 0.05))
    pyro.sample("signs", OneBit(S(x), sigma))


seen = bir.simulate(pyro.condition(both, data={"x": digit, "sigma": torch.tensor(TRUE_SIGMA)}), seed=3)
few, count = {"few": seen["few"]}, 6 if SHORT else 30
alone = bir.sample(precise, GuidedDiffusion(), few, draws=count, chains=2, seed=0, progress=False)
together = bir.sample(
    both,
    BlockedGibbs(image=GuidedDiffusion(), warmup=3 if SHORT else 15, renoise=1.0),
    few | {"signs": seen["signs"]},
    draws=count,
    chains=2,
    seed=0,
    progress=False,
)
figure = bir.analysis.plot_maps(
    {"40 precise": alone, "40 precise and 400 signs": together}, maps=("mean", "sd"), units="1 = full ink"
)
plt.show()
sensors = pd.DataFrame(
    {
        name: {
            "mean sd": float(bir.analysis.sd_map(tree).mean()),
            "rmse": float(bir.analysis.rmse(bir.analysis.mean_map(tree), digit)),
        }
        for name, tree in {"40 precise": alone, "and 400 signs": together}.items()
    }
).T
print(sensors.round(3))
sigma = together["posterior"]["sigma"]
divergences = int(together["sample_stats"]["nuts_diverging"].sum())
rhat, ess = float(arviz_stats.rhat(sigma)), float(arviz_stats.ess(sigma))
print(
    f"\nsigma of the signs: {float(sigma.mean()):.3f} ± {float(sigma.std()):.3f} (truth {TRUE_SIGMA}), R-hat "
    f"{rhat:.2f}, effective sample size {ess:.0f} of {sigma.size}; NUTS divergences {divergences}"
)

# %% [markdown]
# ## Conclusion

# %%
m_wrong = [m for m, table in found.items() if table.loc[0, "sigma"] != TRUE_SIGMA]
print(
    f"From 200 measurements the noise level is {float(sigmas.mean()):.3f} ± {float(sigmas.std()):.3f} (truth "
    f"{TRUE_SIGMA}), R-hat {float(noise['r_hat'].iloc[0]):.2f}; not knowing it changes the sd of a pixel by "
    f"{100 * price:+.1f} %.\n"
    f"Leave-one-out puts 0.1 first with {', '.join(str(m) for m in found if m not in m_wrong)} measurements"
    + (f", and a wrong level with {', '.join(map(str, m_wrong))}" if m_wrong else "")
    + f".\nUnder the learned prior up to {100 * high_digit:.0f} % of 400 signs have a Pareto k above its limit.\n"
    f"Signs and precise measurements together take the rms error from {sensors.iloc[0, 1]:.3f} to "
    f"{sensors.iloc[1, 1]:.3f}."
)

# %% [markdown]
# - Make the noise level a parameter. Chains are real, so that R-hat and effective sample size guard it. Under a
#   *learned* prior a level learned from real images comes out a little too small (`benchmarks/noise_level.py`).
# - Check residuals before comparing models: a wrong level shows there at once.
# - Read the Pareto k before the ranking. Models with high k are not ranked but sampled again without the
#   measurements.

# %% [markdown]
# # A posterior from one bit per measurement
#
# A digit is seen through 400 random projections, and of each only the *sign* is kept: 50 bytes for 784
# pixels, and a sign hardly says how bright the image is. What can be said of the image, and how sure may one
# be? The truth is a nine whose loop could be open, which would make it a four. So the question is one that a
# single picture cannot answer: *with what probability is the loop closed*, given 50, 100 or 400 signs?

# %%
import os
import time

import numpy as np
import pandas as pd
import pyro
import scipy.ndimage
import torch
from matplotlib import pyplot as plt

import bayes_ir as bir
from bayes_ir.inference import GuidedDiffusion
from bayes_ir.models import GaussianSensing, OneBit, load_prior

SHORT = bool(os.environ.get("BAYES_IR_SHORT"))
DRAWS, CHAINS = (4, 2) if SHORT else (48, 4)
UNITS = "1 = full ink"
plt.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## The model
#
#     x    ~ p(x)                       a diffusion prior of handwritten digits, 28 x 28, in [0, 1]
#     z    = A x                        400 projections, A_mn ~ N(0, 1/400)
#     y_m  = sign(z_m + σ n_m)          n_m ~ N(0, 1), σ = 0.1
#
# In Pyro these are two lines. `poutine.mask` hides all but the first `signs` of them, so that the posteriors
# of few and of many signs are of the same data.

# %%
prior = load_prior("mnist")
A = GaussianSensing(measurements=400, event_shape=prior.event_shape, seed=0)


def model(signs=400):
    x = pyro.sample("x", prior)
    with pyro.poutine.mask(mask=torch.arange(400) < signs):
        pyro.sample("y", OneBit(A(x), noise_std=0.1))


truth = bir.simulate(model, seed=4)
z = A(truth["x"])
wrong = (torch.sign(z) != torch.sign(truth["y"])).float().mean().item()
print(f"projections: sd {z.std().item():.2f}, noise 0.1; the noise turned {wrong:.1%} of the signs")

# %% [markdown]
# ## The draws
#
# Without a kernel `bir.sample` takes the first that serves the model, and the tree says which.

# %%
kernel = GuidedDiffusion(steps=6) if SHORT else None


def posterior_of(signs):
    return bir.sample(
        model,
        kernel,
        data={"y": truth["y"]},
        draws=DRAWS,
        chains=CHAINS,
        seed=0,
        model_args=(signs,),
        progress=False,
    )


started = time.process_time()
posterior = posterior_of(400)
seconds = (time.process_time() - started) / (DRAWS * CHAINS)
print(posterior.attrs["kernel"])
print(
    f"{DRAWS * CHAINS} independent draws: {posterior.attrs['nfe']} network calls each, and a vector-Jacobian product "
    f"with each call; {seconds:.2f} s of processor time per draw"
)

# %%
figure = bir.analysis.plot_uncertainty(posterior, truth["x"], units=UNITS)

# %% [markdown]
# Back-projected, the signs hardly show the digit; the posterior mean does. The sd is not spread over the
# image: it sits on the outline of the stroke, where a small shift turns ink into paper, and the last panel
# compares it with the error that was made. On the dashed line the error is as large as the sd says.

# %%
x_true = truth["x"].numpy()
error = np.abs(bir.analysis.mean_map(posterior).values - x_true)
sd = bir.analysis.sd_map(posterior).values
by_sd = np.argsort(sd.ravel())
share = error.ravel()[by_sd] ** 2 / (error**2).sum()
half, tenth = len(share) // 2, len(share) // 10
print(
    f"The tenth of the pixels with the largest sd has {share[-tenth:].sum():.0%} of the squared error, "
    f"the surer half {share[:half].sum():.1%}."
)

# %% [markdown]
# ## A question to the posterior
#
# Any function of an image has a posterior: apply it to every draw. Two of them:
#
# - *loop*: whether paper is enclosed by ink (a region of pixels below 0.5 that does not reach the border), as 1 or
#   0, so that its posterior mean is the probability of a closed loop.
# - *ink area*: pixels above 0.5.
#
# ArviZ says how far the draws settle each: effective sample size, R-hat between chains, Monte Carlo standard
# error. Chains here are independent by construction, since every draw starts from fresh noise; R-hat near 1
# and as many effective draws as draws confirm it, and would say nothing of a bias that all chains share.


# %%
def loop(image):
    paper, regions = scipy.ndimage.label(image[0] < 0.5)
    border = np.concatenate([paper[0], paper[-1], paper[:, 0], paper[:, -1]])
    return float(len(set(range(1, regions + 1)) - set(border.tolist())) > 0)


QUESTIONS = {"loop": loop, "ink area": bir.analysis.AreaAbove(0.5)}
summary = bir.analysis.summary(posterior, x_true, QUESTIONS)
summary.functionals.loc[
    ["loop", "ink area", "mean", "norm"],
    ["mean", "sd", "eti90_lb", "eti90_ub", "ess_bulk", "r_hat", "mcse_mean", "truth", "truth_rank"],
].round(3)

# %%
summary.image["value"].loc[["psnr", "mean_sd", "rmse_over_sd", "coverage", "log_lik", "p_value"]].round(
    3
).to_frame()

# %% [markdown]
# ## 50, 100, 400 signs
#
# The same signs, of which the model is told the first 50, the first 100, or all. For comparison: the prior
# alone, which knows that it is a digit and nothing else.

# %%
posteriors = {"50 signs": posterior_of(50), "100 signs": posterior_of(100), "400 signs": posterior}
from_prior = bir.prior_predictive(model, draws=8 if SHORT else 96, seed=0)["prior"]["x"].values[0]

# %%
figure = bir.analysis.plot_posterior_gallery(
    posteriors["50 signs"], truth["x"], draws=7, chains=2, units=UNITS
)

# %% [markdown]
# Draws from 50 signs: nines, fours, and other digits. Each agrees with the signs, and each could be the
# truth; their mean, at the left, is none of them.

# %%
figure = bir.analysis.plot_maps(posteriors, maps=("mean", "sd"), units=UNITS)

# %%
figure = bir.analysis.plot_ridges(
    posteriors, {"ink area (pixels)": bir.analysis.AreaAbove(0.5)}, truth["x"], columns=1
)
figure.suptitle("posterior of the ink area")
figure.set_size_inches(5.2, 2.6)

# %% [markdown]
# A sign says little of the scale of the image; the ink area becomes known all the same, because the prior
# knows that strokes are of full ink, and how wide and long they are is seen in the signs.


# %%
def answers(draws):
    loops = np.array([loop(image) for image in draws])
    areas = np.array([QUESTIONS["ink area"](image) for image in draws])
    p = loops.mean()
    return {
        "P(loop)": p,
        "MC error": np.sqrt(p * (1 - p) / len(loops)),
        "loop of the mean image": loop(draws.mean(0)),
        "ink area": areas.mean(),
        "sd of it": areas.std(ddof=1),
    }


rows = {"prior": answers(from_prior)}
for name, tree in posteriors.items():
    image = bir.analysis.summary(tree, x_true).image["value"]
    draws = tree["posterior"]["x"].values.reshape(-1, *x_true.shape)
    rows[name] = answers(draws) | {
        "PSNR of the mean (dB)": image["psnr"],
        "mean sd": image["mean_sd"],
        "rmse / sd": image["rmse_over_sd"],
    }
table = pd.DataFrame.from_dict(rows, orient="index")
table.round(3)

# %%
figure, axes = plt.subplots(figsize=(5.2, 2.8), layout="constrained")
axes.errorbar(range(len(table)), table["P(loop)"], 2 * table["MC error"], fmt="o", capsize=4, color="#0173b2")
axes.axhline(loop(x_true), color="black", linestyle="--", linewidth=1, label="truth")
axes.set_xticks(range(len(table)), table.index)
axes.set(ylim=(-0.03, 1.08), ylabel="probability of a closed loop", title="± 2 Monte Carlo errors")
axes.legend(loc="lower right", frameon=False)
axes.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# How many draws would settle it? The answer depends on the question, so it is asked of the question.

# %%
needed = bir.analysis.draws_needed(posterior, QUESTIONS["ink area"], mcse=0.25)
print(
    f"For the mean ink area to a quarter of a pixel: {needed.draws} draws ({needed.mcse:.2f} pixels from the "
    f"{DRAWS * CHAINS} there are); for the probability of the loop from 50 signs to 1 %: "
    f"{bir.analysis.draws_needed(posteriors['50 signs'], loop, mcse=0.01).draws} draws."
)

# %% [markdown]
# ## Conclusion

# %%
few, many = rows["50 signs"], rows["400 signs"]
p = table["P(loop)"]
print(
    f"The loop is closed with probability {p['prior']:.2f} before any sign, {p['50 signs']:.2f} after 50, "
    f"{p['100 signs']:.2f} after 100 and {p['400 signs']:.2f} after 400 "
    f"(Monte Carlo error {few['MC error']:.2f} at 50 signs, {many['MC error']:.2f} at 400).\n"
    f"The mean image has {few['PSNR of the mean (dB)']:.1f} dB from 50 signs and "
    f"{many['PSNR of the mean (dB)']:.1f} dB from 400; "
    f"the mean sd falls from {few['mean sd']:.3f} to {many['mean sd']:.3f}.\n"
    f"The error is {many['rmse / sd']:.2f} times the posterior sd at 400 signs, and {few['rmse / sd']:.2f} times at 50."
)

# %% [markdown]
# A threshold applied to the mean image answers yes or no. The draws answer with a probability, and with the
# error of that probability.
#
# ## What not to trust
#
# - *One problem shows no calibration.* An error somewhat larger than the sd, as here, is one trial.
#   Simulation-based calibration repeats it: under this prior and 400 signs, over 160 replications, it
#   *rejects* the default kernel (p = 2e-5). Its draws fit the signs a little too closely; the error is
#   smaller than that of draws too narrow by a tenth. See [Known limits](../docs/limits.md).
# - *The truth was drawn from the prior.* A real digit need not be: under this prior the squared residual of
#   draws for real digits is 9 % (standard error 3 %) below that of the truth, so trust no noise level
#   inferred from them to better than that.
# - *Weights of modes.* "Nine or four" is a question about the weights of modes, and a guided path decides
#   early which mode it goes to. Where modes are well apart only particle kernels get such weights right;
#   compare with `TwistedSMC` before betting on a probability like that from 50 signs.

"""The skeletons of CONTRIBUTING.md work as they stand."""

import re
from pathlib import Path

import pyro
import torch

import bayes_ir as bir
from bayes_ir.models import GaussianPrior


def test_the_examples_run():
    text = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
    names: dict = {"__name__": "contributing"}
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(code, names)
    prior = GaussianPrior(torch.zeros(6), torch.eye(6), event_shape=(1, 2, 3))
    operator = names["Flip"](prior.event_shape)

    def model():
        x = pyro.sample("x", prior)
        pyro.sample("y", names["Shifted"](operator(x), noise_std=0.5))

    truth = bir.simulate(model, seed=0)
    posterior = bir.sample(
        model,
        names["OrthonormalRows"](steps=200),
        {"y": truth["y"]},
        draws=1000,
        chains=1,
        block_size=1000,
        progress=False,
    )
    # N(0, I) prior, y = flip(x) + 0.5 + 0.5 n: the posterior mean is flip(y - 0.5) / 1.25.
    exact = (truth["y"] - 0.5).flip(-1) / 1.25
    sd = 0.2**0.5
    draws = torch.from_numpy(posterior["posterior"]["x"].values[0])
    # The white prior makes the gain exact: four standard errors of the mean, and 2 % for 200 steps.
    assert (draws.mean(0) - exact).abs().max() < (4 / 1000**0.5 + 0.02) * sd
    assert draws.isfinite().all()

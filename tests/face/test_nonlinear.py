"""A model whose operator is not linear, from the Pyro model to the figure."""

import pyro
import pytest
import torch

import bayes_ir as bir
from bayes_ir.inference import DPS
from bayes_ir.models import JPEG, Gaussian, GaussianPrior, Operator, PhaseRetrieval

SHAPE = (1, 8, 8)
PRIOR = GaussianPrior(torch.full((64,), 0.5), 0.1 * torch.eye(64), event_shape=SHAPE)


@pytest.mark.parametrize("operator", [PhaseRetrieval(SHAPE), JPEG(SHAPE, quality=20)], ids=["phase", "jpeg"])
def test_end_to_end(operator: Operator):
    def model() -> None:
        pyro.sample("y", Gaussian(operator(pyro.sample("x", PRIOR)), 0.05))

    truth = bir.simulate(model, seed=1)
    assert bir.default_kernel(bir.inference.read_problem(model, {"y": truth["y"]})) == DPS()
    posterior = bir.sample(model, DPS(steps=20), {"y": truth["y"]}, draws=4, chains=2, progress=False)
    assert posterior["posterior"]["x"].shape == (2, 4, *SHAPE)
    assert bool(posterior["log_likelihood"]["y"].notnull().all())
    kept = "constant_data" in posterior and "x_back_projection" in posterior["constant_data"]
    assert kept == isinstance(operator, JPEG)
    assert "rmse" in str(bir.analysis.summary(posterior, truth["x"]))
    assert bir.analysis.plot_uncertainty(posterior, truth["x"]).axes

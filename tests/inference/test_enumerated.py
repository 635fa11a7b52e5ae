"""A discrete site summed out, against the probabilities of boxes."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import multivariate_normal
from test_gibbs import COVARIANCE, F64, B, N, _normal, two_sensors

import bayes_ir as bir
from bayes_ir.inference import Enumerated, Exact, GuidedDiffusion, ModelError, TwistedSMC
from bayes_ir.models import GaussianPrior, OneBit

LABEL_MEANS = torch.stack([_normal(N, seed=7), _normal(N, seed=7) + 3, _normal(N, seed=8) - 2])


def labelled():
    """Three classes so far apart that the image tells its label: Gibbs sampling would stay where it starts."""
    label = pyro.sample("label", dist.Categorical(torch.tensor([0.2, 0.5, 0.3])))
    x = pyro.sample("x", GaussianPrior(LABEL_MEANS[label], 0.2 * COVARIANCE))
    pyro.sample("y", OneBit(B(x), 0.5))


@pytest.mark.parametrize("image", [Exact(), TwistedSMC(particles=400)], ids=["exact", "particles"])
def test_a_label_summed_out_has_its_probability(image):
    """Probabilities against those of boxes; draws of the label within four standard errors of them.

    The relative error of an estimate of p(y | label) from 400 particles is below 0.05 here (their
    ``log_evidence_error`` says so), so that 0.1 is left for the probabilities.
    """
    signs = torch.tensor([1.0, -1, -1, 1, 1], dtype=F64)
    tree = bir.sample(labelled, Enumerated(image=image), {"y": signs}, draws=400, chains=1, progress=False)
    flipped = (signs[:, None] * B.matrix).numpy()
    spread = flipped @ (0.2 * COVARIANCE.numpy()) @ flipped.T + 0.25 * np.eye(5)
    inside = [multivariate_normal(-flipped @ m.numpy(), spread).cdf(np.zeros(5)) for m in LABEL_MEANS]
    exact = np.array([0.2, 0.5, 0.3]) * inside
    log_evidence, exact = np.log(exact.sum()), exact / exact.sum()
    found = tree["posterior"]["label_probability"].values[0].mean(0)
    tolerance = 0.01 if isinstance(image, Exact) else 0.1
    np.testing.assert_allclose(found, exact, atol=tolerance)
    assert abs(float(tree["sample_stats"]["log_evidence"].mean()) - log_evidence) < 2 * tolerance
    share = np.bincount(tree["posterior"]["label"].values[0], minlength=3) / 400
    assert (np.abs(share - found) < 4 * np.sqrt(found * (1 - found) / 400) + 1e-9).all()
    # Images belong to the label they stand beside.
    x, label = tree["posterior"]["x"].values[0], tree["posterior"]["label"].values[0]
    nearest = ((x[:, None] - LABEL_MEANS.numpy()) ** 2).sum(-1).argmin(1)
    assert (nearest == label).mean() > 0.9


def test_what_is_not_one_number_beside_one_image_is_refused():
    data = {k: v for k, v in bir.simulate(two_sensors, seed=5).items() if k in ("a", "b")}
    with pytest.raises(ModelError, match=r"this one has \{'sigma': 'LogNormal'\}; use BlockedGibbs"):
        bir.sample(two_sensors, Enumerated(), data, progress=False)
    with pytest.raises(TypeError, match=r"which GuidedDiffusion.* does not know; use Exact"):
        Enumerated(image=GuidedDiffusion())

    def plate():
        label = pyro.sample("label", dist.Categorical(torch.tensor([0.5, 0.5])))
        with pyro.plate("images", 2):
            x = pyro.sample("x", GaussianPrior(LABEL_MEANS[label], COVARIANCE))
            pyro.sample("y", OneBit(B(x), 0.5).to_event(1))

    with pytest.raises(ModelError, match="the image 'x' sits in the plate 'images'"):
        bir.sample(plate, Enumerated(), {"y": torch.ones(2, 5, dtype=F64)}, progress=False)

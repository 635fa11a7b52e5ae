"""A label beside an image of a labelled prior, whose network is exact: answers are those of Gaussians."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn

import bayes_ir as bir
from bayes_ir.inference import BlockedGibbs, Enumerated, GuidedDiffusion, TwistedSMC, read_joint
from bayes_ir.models import (
    DenseOperator,
    Gaussian,
    LabelledPrior,
    OneBit,
    calibrate_labelled,
)
from bayes_ir.models.diffusion import VarianceExploding
from bayes_ir.models.priors import PCABasis

F64 = torch.float64
MEANS = torch.tensor([[-1.0, 0.0, 0.5], [0.7, 0.4, 0.0], [0.0, 1.2, -0.6]], dtype=F64)
VARIANCES = torch.tensor(
    [0.1, 0.3, 0.6], dtype=F64
)  # per class, so that classes differ in more than their means
P_LABEL = torch.tensor([0.2, 0.5, 0.3], dtype=F64)
A = DenseOperator(torch.randn(4, 3, generator=torch.Generator().manual_seed(3), dtype=F64), dtype=F64)
SIGNS = torch.tensor([1.0, -1, 1, 1], dtype=F64)


class GaussianPerClass(nn.Module):
    """``E[x_0 | x_t, label]`` of ``N(m_label, v_label I)``."""

    def __init__(self):
        super().__init__()
        self.means, self.variances = nn.Parameter(MEANS.clone()), nn.Parameter(VARIANCES.clone())

    def forward(self, x_t, a, b, label):
        v, m, a, b = self.variances[label, None], self.means[label], a[:, None], b[:, None]
        return m + a * v / (a**2 * v + b**2) * (x_t - a * m)


@pytest.fixture(scope="module")
def prior():
    rng = torch.Generator().manual_seed(0)
    normal = torch.randn(3, 1500, 3, generator=rng, dtype=F64)
    images = MEANS[:, None] + VARIANCES.sqrt()[:, None, None] * normal
    bare = LabelledPrior(
        GaussianPerClass(),
        VarianceExploding(0.01, 50.0),
        (3,),
        classes=3,
        mean=MEANS.mean(0),
        std=1.0,
        density_steps=16,
    )
    labels = torch.arange(3).repeat_interleave(1500)
    components = torch.eye(3, dtype=F64)
    return calibrate_labelled(
        bare, images.flatten(0, 1), labels, bases=("pca", "scalar"), components=components
    )


@pytest.fixture(scope="module")
def exact():
    """``p(label | y)`` from the probabilities of boxes."""
    flipped = (SIGNS[:, None] * A.matrix).numpy()
    inside = [
        multivariate_normal(-flipped @ m.numpy(), float(v) * flipped @ flipped.T + 0.25 * np.eye(4)).cdf(
            np.zeros(4)
        )
        for m, v in zip(MEANS, VARIANCES, strict=True)
    ]
    joint = P_LABEL.numpy() * inside
    return joint / joint.sum()


def one_bit(prior):
    def model():
        label = pyro.sample("label", dist.Categorical(P_LABEL))
        x = pyro.sample("x", prior.given(label))
        pyro.sample("y", OneBit(A(x), 0.5))

    return model


def test_the_basis_is_shared_by_the_labels(prior):
    assert isinstance(prior.calibration("pca").basis, PCABasis)
    found = [prior.given(k).calibration("pca").basis for k in range(3)]
    assert all(basis is prior.calibration("pca").basis for basis in found)
    single = prior.to(dtype=torch.float32)
    found = [single.given(k).calibration("pca").basis for k in range(3)]
    assert all(basis is found[0] for basis in found)


def test_a_label_summed_out(prior, exact):
    """Clouds of 400 particles: their log evidence has a standard error below 0.04 here, probabilities below 0.02."""
    kernel = Enumerated(image=TwistedSMC(particles=400, steps=24))
    tree = bir.sample(one_bit(prior), kernel, {"y": SIGNS}, draws=400, chains=1, progress=False)
    np.testing.assert_allclose(tree["posterior"]["label_probability"].values[0].mean(0), exact, atol=0.04)


def test_a_label_given_the_image(prior):
    """``log p(y, x, label)`` differs by prior and density of the image, that of a Gaussian noised at 0.01."""
    joint, x = read_joint(one_bit(prior), {"y": SIGNS}), torch.tensor([0.3, 0.2, -0.4], dtype=F64)
    found = torch.stack([joint.log_joint(x, {"label": torch.tensor(k)}) for k in range(3)])
    gaussians = [
        multivariate_normal(m.numpy(), float(v) + 1e-4).logpdf(x)
        for m, v in zip(MEANS, VARIANCES, strict=True)
    ]
    expected = torch.tensor(np.array(gaussians)) + P_LABEL.log()
    torch.testing.assert_close(found.log_softmax(0), expected.log_softmax(0), atol=5e-3, rtol=0)


def test_image_and_label_in_turn(prior, exact):
    settings = BlockedGibbs(image=GuidedDiffusion(steps=4), warmup=1)
    tree = bir.sample(one_bit(prior), settings, {"y": SIGNS}, draws=30, chains=1, progress=False)
    assert tree["posterior"]["label"].shape == (1, 30)
    assert len(np.unique(tree["posterior"]["label"])) > 1, exact


def test_a_known_label_is_no_reason_to_weigh_the_image(prior):
    """The density of the image is dear: it is left out where it does not depend on what is unknown."""

    def model(label):
        x = pyro.sample("x", prior.given(label))
        pyro.sample("y", Gaussian(A(x), pyro.sample("sigma", dist.LogNormal(0.0, 1.0))))

    assert not read_joint(model, {"y": SIGNS}, (1,)).prior_depends
    assert not read_joint(model, {"y": SIGNS}, (torch.tensor(1),)).prior_depends
    assert read_joint(one_bit(prior), {"y": SIGNS}).prior_depends


@pytest.mark.parametrize(
    "kernel", [GuidedDiffusion(steps=12), TwistedSMC(particles=64, steps=12)], ids=["batch", "one by one"]
)
def test_every_image_of_a_plate_has_its_label(prior, kernel):
    """Means of 128 draws against the exact posterior of each image: within 0.4 sd, 4.5 standard errors."""
    labels, y = torch.tensor([2, 0, 1, 0]), torch.linspace(-1, 1, 16, dtype=F64).reshape(4, 4)

    def model():
        with pyro.plate("images", 4):
            x = pyro.sample("x", prior.given(labels))
            pyro.sample("y", Gaussian(A(x), 0.5).to_event(1))

    tree = bir.sample(model, kernel, {"y": y}, draws=128, chains=1, progress=False)
    draws = tree["posterior"]["x"].values[0]  # (128, 4, 3)
    for image, label in enumerate(labels):
        spread = torch.linalg.inv(torch.eye(3, dtype=F64) / VARIANCES[label] + A.matrix.T @ A.matrix / 0.25)
        mean = spread @ (MEANS[label] / VARIANCES[label] + A.matrix.T @ y[image] / 0.25)
        away = (draws[:, image].mean(0) - mean.numpy()) / spread.diagonal().sqrt().numpy()
        assert (np.abs(away) < 0.4).all(), (image, away)

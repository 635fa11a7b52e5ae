import pytest
import torch
from torch import nn

from bayes_ir.models import (
    GaussianPrior,
    LabelledPrior,
    NetworkPrior,
    calibrate,
    calibrate_labelled,
    load_prior,
    save_prior,
)
from bayes_ir.models.diffusion import RectifiedFlow, VarianceExploding
from bayes_ir.models.networks import NO_LABEL, Denoiser, UNet
from bayes_ir.models.priors import principal_components

SHAPE, CLASSES = (1, 4, 6), 3
CARD = {"data": {"name": "noise"}, "licence": "CC0", "credit": "nobody"}


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def network():
    """A small network away from its initial zeros."""
    made = UNet(1, 8, 1, classes=CLASSES)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def tiny_prior(dtype=torch.float32, **settings):
    settings = {
        "data_range": (0.0, 1.0),
        "mean": 0.2,
        "std": 0.3,
        "sample_steps": 3,
        "density_steps": 2,
    } | settings
    denoiser = Denoiser(network().to(dtype), 0.2, 0.3)
    return LabelledPrior(denoiser, VarianceExploding(0.02, 40.0), SHAPE, classes=CLASSES, **settings)


class GaussianPerClass(nn.Module):
    """The exact denoiser of a Gaussian per class, and of their even mixture without a label."""

    def __init__(self, means, variance):
        super().__init__()
        self.means, self.variance = nn.Parameter(means), variance

    def forward(self, x_t, a, b, label):
        a, b = (c.reshape(-1, *(1,) * (x_t.ndim - 1)) for c in (a, b))
        spread = a**2 * self.variance + b**2
        own = torch.stack([m + a * self.variance / spread * (x_t - a * m) for m in self.means])
        away = torch.stack([(x_t - a * m) ** 2 / spread for m in self.means]).flatten(2).sum(2)
        weights = torch.softmax(-away / 2, 0)
        mixed = (weights.reshape(*weights.shape, *(1,) * (x_t.ndim - 1)) * own).sum(0)
        picked = own[label.clamp(min=0), torch.arange(len(x_t))]
        return torch.where((label >= 0).reshape(-1, *(1,) * (x_t.ndim - 1)), picked, mixed)


def gaussian_classes(variance=0.25):
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, 2.0]], dtype=torch.float64)
    prior = LabelledPrior(
        GaussianPerClass(means, variance),
        VarianceExploding(0.02, 40.0),
        (2,),
        classes=3,
        mean=means.mean(0),
        std=1.2,
        noise_range=(0.02, 40.0),
        sample_steps=24,
        churn=0.0,
    )
    return prior, [GaussianPrior(m, variance * torch.eye(2, dtype=torch.float64)) for m in means]


def test_without_a_label_it_is_the_network_that_is_told_none():
    prior = tiny_prior()
    x_t, t = torch.randn(5, *SHAPE), 0.4
    a, b = (c.expand(5) for c in prior.diffusion.coefficients(t))
    bare = NetworkPrior(prior.network, prior.diffusion, SHAPE)
    assert torch.equal(prior.denoise(x_t, t), bare.denoise(x_t, t))
    assert torch.equal(prior.denoise(x_t, t), prior.network(x_t, a, b, torch.full((5,), NO_LABEL)))
    assert prior.label is None
    assert all(not torch.allclose(prior.given(k).denoise(x_t, t), prior.denoise(x_t, t)) for k in range(3))


def test_embeddings_start_at_zero_and_change_nothing():
    labelled, bare = UNet(1, 8, 1, classes=CLASSES), UNet(1, 8, 1)
    nn.init.normal_(labelled.leave[-1].weight)
    missing = bare.load_state_dict(labelled.state_dict(), strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == ([], ["label"])
    x, log_noise = torch.randn(3, *SHAPE), torch.randn(3)
    assert torch.equal(labelled(x, log_noise, torch.tensor([0, 2, NO_LABEL])), bare(x, log_noise))
    assert "classes" not in bare.settings  # cards of networks without labels stay what they were


@pytest.mark.parametrize("label", [2, torch.tensor(2), torch.tensor(2, dtype=torch.int32)], ids=repr)
def test_a_label_gives_a_prior_of_one_image(label):
    given = tiny_prior().given(label)
    assert isinstance(given, NetworkPrior)
    assert (given.batch_shape, given.event_shape, int(given.label)) == ((), SHAPE, 2)
    assert given.sample((2,)).shape == (2, *SHAPE)
    assert "label=2" in repr(given)


def test_rows_of_a_batch_are_what_each_would_be_alone():
    prior = tiny_prior(torch.float64, density_probes=2)
    labels = torch.tensor([2, 0, 1, 0])
    given = prior.given(labels)
    assert given.batch_shape == (4,)
    x_t, t = torch.randn(3, 4, *SHAPE, dtype=torch.float64), torch.rand(3, 4)
    together = given.denoise(x_t, t)
    for image, label in enumerate(labels):
        alone = prior.given(label).denoise(x_t[:, image], t[:, image])
        torch.testing.assert_close(together[:, image], alone, rtol=1e-10, atol=1e-12)
        assert int(given.data_set(image).label) == label
    assert given.sample((2,)).shape == (2, 4, *SHAPE)
    assert given.mean.shape == (4, *SHAPE)
    log_prob = given.log_prob(x_t[0])
    alone = torch.stack([prior.given(k).log_prob(x) for k, x in zip(labels, x_t[0], strict=True)])
    torch.testing.assert_close(log_prob, alone, rtol=1e-6, atol=1e-6)
    # Labels broadcast as the batch of any distribution does: one image under every label.
    every = prior.given(torch.arange(3)).log_prob(x_t[0, 0])
    assert every.shape == (3,)
    torch.testing.assert_close(every[2], prior.given(2).log_prob(x_t[0, 0]))
    with pytest.raises(ValueError, match="got 3 images for the 4 labels of a plate"):
        given.expand(()).denoise(x_t[0, :3], 0.5)


def test_plates_expand_labels():
    given = tiny_prior().given(torch.tensor([2, 0]))
    wide = given.expand((3, 2))
    assert wide.batch_shape == wide.label.shape == (3, 2)
    x_t = torch.randn(3, 2, *SHAPE)
    torch.testing.assert_close(wide.denoise(x_t, 0.5), given.denoise(x_t, 0.5))
    one = tiny_prior().given(1).expand((4,))
    assert one.sample().shape == (4, *SHAPE)


@pytest.mark.parametrize(
    ("label", "error", "words"),
    [
        (3, ValueError, r"got the label 3; expected whole numbers from 0 to 2"),
        (-1, ValueError, r"got the label -1; .* Without a label use the prior itself"),
        (torch.tensor([0, 7]), ValueError, r"from 0 to 2"),
        (torch.zeros(0, dtype=torch.int64), ValueError, r"from 0 to 2"),
        (1.0, TypeError, r"float 1.0; expected a whole number"),
        (torch.tensor(1.0), TypeError, r"torch.float32; expected a whole number"),
        (True, TypeError, r"bool True"),
        (None, TypeError, r"Without a label use the prior itself"),
        ("7", TypeError, r"str '7'"),
    ],
    ids=repr,
)
def test_labels_that_are_none_are_refused_in_words(label, error, words):
    with pytest.raises(error, match=words):
        tiny_prior().given(label)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classes": 1}, "at least 2 classes"),
        ({"label_calibrations": [{}]}, "calibrations for all of them or none, got classes=3 and 1"),
        ({"prediction": "noise"}, "got prediction='noise'"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        LabelledPrior(
            Denoiser(network(), 0.2, 0.3), RectifiedFlow(), SHAPE, **({"classes": CLASSES} | settings)
        )


def test_gradients_reach_the_image_and_the_embeddings():
    prior = tiny_prior(torch.float64)
    x_t = torch.randn(2, *SHAPE, dtype=torch.float64, requires_grad=True)
    given = prior.given(torch.tensor([0, 2]))
    assert torch.autograd.gradcheck(lambda x: given.denoise(x, 0.5), x_t)
    made = network()
    made(torch.randn(3, *SHAPE), torch.zeros(3), torch.tensor([1, NO_LABEL, NO_LABEL])).sum().backward()
    assert made.label.grad[1].abs().sum() > 0
    assert made.label.grad[[0, 2]].abs().sum() == 0


def test_it_moves_with_its_label_and_calibrations():
    prior = calibrate_labelled(tiny_prior(), *held_out(), levels=3, bases=("scalar",))
    moved = prior.given(torch.tensor([0, 1])).to("meta", torch.float64)
    assert moved.label.device.type == moved.device.type == "meta"
    assert moved.dtype == torch.float64
    assert all(c["scalar"].ratios.device.type == "meta" for c in moved.label_calibrations)
    double = prior.to(dtype=torch.float64)
    x_t = torch.randn(2, *SHAPE)
    torch.testing.assert_close(
        double.given(1).denoise(x_t.double(), 0.5).float(),
        prior.given(1).denoise(x_t, 0.5),
        rtol=1e-3,
        atol=1e-4,
    )
    assert (
        double.given(1).calibration("scalar").variances.equal(prior.given(1).calibration("scalar").variances)
    )


def held_out(n=30):
    images = torch.rand(n, *SHAPE)
    return images, torch.arange(n) % CLASSES


def test_every_label_has_the_calibration_of_its_images():
    images, labels = held_out()
    components = principal_components(images, 5)
    prior = calibrate_labelled(tiny_prior(), images, labels, levels=3, components=components)
    pca = prior.calibration("pca")
    assert pca.variances.equal(
        calibrate(tiny_prior_of(prior), images, levels=3, components=components).calibration("pca").variances
    )
    of_two = calibrate(prior.given(2), images[labels == 2], levels=3, components=components)
    assert prior.given(2).calibration("pca").variances.equal(of_two.calibration("pca").variances)
    assert not torch.allclose(prior.given(2).calibration("pca").variances, pca.variances)
    several = prior.given(torch.tensor([0, 2, 2])).calibration("dct").variances
    parts = [prior.given(k).calibration("dct").variances for k in (0, 2, 2)]
    torch.testing.assert_close(several, torch.stack(parts).mean(0))
    with pytest.raises(ValueError, match="carries no calibration in the basis 'pca'"):
        tiny_prior().given(1).calibration("pca")


def tiny_prior_of(prior):
    """The same network without calibrations."""
    return LabelledPrior(
        prior.network,
        prior.diffusion,
        SHAPE,
        classes=CLASSES,
        noise_range=prior.noise_range,
        data_range=(0.0, 1.0),
    )


def test_an_exact_denoiser_is_calibrated_to_its_variances():
    """``v = r^2 s / (s + r^2)`` for a Gaussian of variance s; 2,000 images leave a standard error of 2.2 %."""
    prior, classes = gaussian_classes()
    labels = torch.arange(3).repeat_interleave(2000)
    images = torch.cat([g.sample((2000,)) for g in classes])
    fitted = calibrate_labelled(prior, images, labels, levels=4, bases=("scalar",))
    for k in range(3):
        found = fitted.given(k).calibration("scalar")
        expected = 0.25 * found.ratios**2 / (0.25 + found.ratios**2)
        torch.testing.assert_close(found.variances[:, 0], expected, rtol=0.1, atol=0)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.zeros(30, dtype=torch.int64), r"per class \[30, 0, 0\]"),
        (torch.arange(30) % 4, r"each of 3 labels"),
        (torch.zeros(29, dtype=torch.int64), r"labels of shape \(29,\) for 30 images"),
    ],
)
def test_labels_that_do_not_fit_the_images_are_refused(labels, words):
    with pytest.raises(ValueError, match=words):
        calibrate_labelled(tiny_prior(), held_out()[0], labels, levels=3, bases=("scalar",))


def test_components_are_shared():
    with pytest.raises(ValueError, match="the basis 'pca' is shared by the labels; give its components"):
        calibrate_labelled(tiny_prior(), *held_out(), levels=3)


def test_densities_are_those_of_the_classes():
    """By the probability flow, of images noised at 0.02; exact in two dimensions up to 128 Runge-Kutta steps."""
    prior, _ = gaussian_classes()
    x = torch.randn(4, 2, dtype=torch.float64)
    for k in range(3):
        mean, covariance = prior.network.means[k], (0.25 + 0.02**2) * torch.eye(2, dtype=torch.float64)
        exact = torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)
        torch.testing.assert_close(prior.given(k).log_prob(x), exact, atol=1e-3, rtol=1e-3)


def test_draws_are_those_of_the_class():
    """Mean of 400 draws within 4.5 standard errors, which two coordinates of three classes miss once in 25,000."""
    prior, classes = gaussian_classes()
    draws = prior.given(torch.arange(3)).sample((400,))
    for k, exact in enumerate(classes):
        assert ((draws[:, k].mean(0) - exact.mean).abs() < 4.5 * 0.5 / 20).all()


@pytest.mark.parametrize("calibrated", [True, False], ids=["calibrated", "bare"])
def test_it_comes_back_to_the_bit(tmp_path, calibrated):
    prior = tiny_prior(sample_steps=5, churn=1.5)
    if calibrated:
        images, labels = held_out()
        components = principal_components(images, 5)
        prior = calibrate_labelled(prior, images, labels, levels=3, components=components)
    card = save_prior(prior, tmp_path / "mine", CARD)
    loaded = load_prior(card)
    assert isinstance(loaded, LabelledPrior)
    assert loaded.classes == CLASSES
    assert '"classes": 3' in card.read_text()
    x_t = torch.randn(2, *SHAPE)
    for one, two in ((prior, loaded), (prior.given(1), loaded.given(1))):
        assert torch.equal(one.denoise(x_t, 0.3), two.denoise(x_t, 0.3))
        assert one.calibrations.keys() == two.calibrations.keys()
        for name, calibration in one.calibrations.items():
            assert torch.equal(calibration.variances, two.calibrations[name].variances)
            assert torch.equal(calibration.rest, two.calibrations[name].rest)
    assert (loaded.sample_steps, loaded.churn) == (5, 1.5)
    with pytest.raises(ValueError, match="is the prior of one label; store the prior it was made of"):
        save_prior(prior.given(1), tmp_path / "other", CARD)


def test_a_card_that_counts_its_labels_wrongly_is_refused(tmp_path):
    prior = calibrate_labelled(tiny_prior(), *held_out(), levels=3, bases=("scalar",))
    card = save_prior(prior, tmp_path / "mine", CARD)
    card.write_text(card.read_text().replace('"labels": 3', '"labels": 4'))
    with pytest.raises(ValueError, match=r"calibration.scalar.label_rest: got \(3, 3\), expected \(4, 3\)"):
        load_prior(card)

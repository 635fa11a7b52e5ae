import csv

import pytest
import torch

from bayes_ir.models import networks, objectives
from bayes_ir.models.networks import NO_LABEL
from bayes_ir.models.priors import LabelledPrior, NetworkPrior, save_prior
from bayes_ir.models.training import OBJECTIVES, TrainingSettings, train

TINY = {"steps": 8, "batch_size": 8, "width": 8}


@pytest.fixture(scope="module")
def images():
    """Two striped images in random proportion of brightness."""
    rng = torch.Generator().manual_seed(0)
    stripes = torch.zeros(2, 1, 8, 8)
    stripes[0, :, ::2], stripes[1, :, :, ::2] = 1.0, 1.0
    return stripes[torch.randint(2, (64,), generator=rng)] * torch.rand(64, 1, 1, 1, generator=rng)


def weights(denoiser):
    return torch.cat([p.detach().flatten() for p in denoiser.parameters()])


class Killed(BaseException):
    """Stands for a signal in the middle of training."""


def test_killed_and_resumed_is_the_same_to_the_bit(tmp_path, images):
    settings = TrainingSettings(**TINY)
    whole = train(images, settings, tmp_path / "whole", checkpoint_every=2)

    def kill(step, loss):
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(images, settings, tmp_path / "killed", checkpoint_every=2, on_step=kill)
    assert torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)["step"] == 4
    seen = []
    resumed = train(
        images,
        settings,
        tmp_path / "killed",
        checkpoint_every=2,
        on_step=lambda step, loss: seen.append(step),
    )
    assert seen == [5, 6, 7, 8]
    assert torch.equal(weights(resumed), weights(whole))
    assert (tmp_path / "killed" / "loss.csv").read_text() == (tmp_path / "whole" / "loss.csv").read_text()
    again = train(images, settings, tmp_path / "whole")
    assert torch.equal(weights(again), weights(whole))


def test_weights_are_a_function_of_the_settings(tmp_path, images):
    state = torch.get_rng_state()
    first = train(images, TrainingSettings(**TINY), tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    second = train(images, TrainingSettings(**TINY), tmp_path / "b")
    other = train(images, TrainingSettings(**TINY, seed=1), tmp_path / "c")
    torch.set_rng_state(state)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_every_objective_learns(tmp_path, images, objective):
    settings = TrainingSettings(
        objective=objective, steps=60, batch_size=16, width=16, ema_decay=0.9, learning_rate=1e-2
    )
    denoiser = train(images, settings, tmp_path, checkpoint_every=10)
    with (tmp_path / "loss.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.9 * losses[0]
    # Against the untrained network, whose answer is the best one that looks at each pixel alone.
    diffusion = OBJECTIVES[objective].diffusion
    prior = NetworkPrior(denoiser, diffusion, images.shape[1:], noise_range=(0.01, 50.0))
    t = diffusion.time_at(0.3)
    a, b = diffusion.coefficients(t)
    noisy = (a * images + b * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))).float()
    per_pixel = denoiser.data_mean + a * denoiser.data_std**2 / (a**2 * denoiser.data_std**2 + b**2) * (
        noisy - a * denoiser.data_mean
    )
    error, error_per_pixel = (
        (x - images).square().mean().sqrt() for x in (prior.denoise(noisy, t), per_pixel)
    )
    assert float(error) < 0.95 * float(error_per_pixel)  # 0.84 to 0.86 when all is well


def stripes_apart(images):
    """Label 1 where columns are lit, 0 where rows are."""
    return (images[:, 0, 0, 1] == 0).long()


def stored(prior, folder):
    card = {"data": {"name": "stripes"}, "licence": "CC0", "credit": "nobody"}
    return str(save_prior(prior, folder / "start", card))


def test_a_network_learns_its_labels_and_keeps_the_prior_without(tmp_path, images):
    """At a noise that drowns single pixels the label tells which stripes to look for."""
    labels = stripes_apart(images)
    settings = TrainingSettings(
        steps=200, batch_size=16, width=16, ema_decay=0.9, learning_rate=1e-2, classes=2, label_dropout=0.3
    )
    seen = []
    denoiser = train(images, settings, tmp_path, labels=labels)
    prior = LabelledPrior(denoiser, OBJECTIVES["ve"].diffusion, images.shape[1:], classes=2)
    noisy = images + 2.0 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    t = prior.diffusion.time_at(2.0)
    for which in (prior, prior.given(labels), prior.given(1 - labels)):
        seen.append(float((which.denoise(noisy, t) - images).square().mean().sqrt()))
    unknown, told, misled = seen
    assert told < 0.97 * unknown < unknown < 0.97 * misled, seen


def test_labels_are_dropped_as_often_as_told(tmp_path, images, monkeypatch):
    told = []
    forward = networks.Denoiser.forward
    monkeypatch.setattr(
        networks.Denoiser,
        "forward",
        lambda self, x, a, b, *label: told.extend(label) or forward(self, x, a, b, *label),
    )
    settings = TrainingSettings(**TINY | {"steps": 40}, classes=2, label_dropout=0.25)
    train(images, settings, tmp_path, labels=stripes_apart(images))
    share = float((torch.cat(told) == NO_LABEL).double().mean())
    assert abs(share - 0.25) < 4.5 * (0.25 * 0.75 / 320) ** 0.5
    train(images, TrainingSettings(**TINY), tmp_path / "bare")
    assert len(told) == 40  # a network without labels is called without


def test_training_goes_on_from_a_stored_prior(tmp_path, images):
    first = train(images, TrainingSettings(**TINY), tmp_path / "first")
    start = stored(NetworkPrior(first, OBJECTIVES["ve"].diffusion, images.shape[1:]), tmp_path)
    still = TrainingSettings(**TINY | {"steps": 1}, learning_rate=1e-12, classes=2, start=start)
    second = train(2 * images, still, tmp_path / "second", labels=stripes_apart(images))
    assert (second.data_mean, second.data_std) == (first.data_mean, first.data_std)
    for name, tensor in first.network.state_dict().items():
        torch.testing.assert_close(second.network.state_dict()[name], tensor, atol=1e-9, rtol=0)
    assert second.network.label.abs().max() < 1e-9
    labelled = LabelledPrior(second, OBJECTIVES["ve"].diffusion, images.shape[1:], classes=2)
    third = TrainingSettings(**TINY, classes=2, start=stored(labelled, tmp_path))
    assert (
        train(images, third, tmp_path / "third", labels=stripes_apart(images)).network.label.abs().max()
        > 1e-6
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": 2}, r"labels go with settings.classes, got classes=2 and labels=None"),
        (
            {"labels": torch.zeros(64, dtype=torch.int64)},
            r"labels go with settings.classes, got classes=None",
        ),
        (
            {"classes": 2, "labels": torch.zeros(3, dtype=torch.int64)},
            r"expected 64 whole numbers from 0 to 1",
        ),
        ({"classes": 2, "labels": torch.full((64,), 2)}, r"from 2 to 2"),
        ({"classes": 2, "labels": torch.zeros(64)}, r"got torch.float32"),
        ({"start": "mnist-gmm"}, r"start='mnist-gmm' is GaussianMixture.*; expected a network prior"),
        ({"start": "mnist"}, r"start='mnist' is a network of .*'width': 64.* this run has .*'width': 8"),
    ],
)
def test_labels_and_starts_that_do_not_fit_are_refused(tmp_path, images, changes, words):
    labels = changes.pop("labels", None)
    with pytest.raises(ValueError, match=words):
        train(images, TrainingSettings(**TINY, **changes), tmp_path / "run", labels=labels)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_times_stay_within_the_process(objective):
    law = OBJECTIVES[objective]()
    t = law.draw_times(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert float(t.min()) >= law.diffusion.t_min - 1e-9
    assert float(t.max()) <= law.diffusion.t_max + 1e-9
    weight = law.weight(*law.diffusion.coefficients(t), 0.3)
    assert (weight >= 0).all()
    assert weight.isfinite().all()


def test_losses_are_written_and_told(tmp_path, images):
    told = []
    train(
        images,
        TrainingSettings(**TINY),
        tmp_path,
        checkpoint_every=3,
        on_step=lambda step, loss: told.append((step, loss)),
    )
    with (tmp_path / "loss.csv").open(newline="") as file:
        rows = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
    assert [step for step, _ in told] == list(range(1, 9))
    assert [step for step, _ in rows] == [3, 6, 8]
    assert rows[-1][1] == pytest.approx((told[6][1] + told[7][1]) / 2, abs=1e-6)


def test_a_fresh_run_forgets_the_losses_of_an_older_one(tmp_path, images):
    train(images, TrainingSettings(**TINY), tmp_path, checkpoint_every=1)
    train(images, TrainingSettings(**TINY), tmp_path, checkpoint_every=4, resume=False)
    assert [line.split(",")[0] for line in (tmp_path / "loss.csv").read_text().split()] == ["step", "4", "8"]


def test_another_runs_checkpoint_is_refused(tmp_path, images):
    train(images, TrainingSettings(**TINY), tmp_path)
    with pytest.raises(ValueError, match=r"made with learning_rate=0\.001, this run has learning_rate=0\.01"):
        train(images, TrainingSettings(**TINY, learning_rate=0.01), tmp_path)


def test_divergence_is_told_in_words(tmp_path, images, monkeypatch):
    monkeypatch.setattr(objectives.VEObjective, "weight", lambda self, a, b, std: a / 0)
    with pytest.raises(FloatingPointError, match=r"the loss became inf at step 1; lower learning_rate"):
        train(images, TrainingSettings(**TINY), tmp_path)


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(4, 8, 8),
        torch.zeros(4, 1, 7, 8),
        torch.zeros(4, 1, 8, 9),
        torch.full((4, 1, 8, 8), torch.nan),
        torch.zeros(0, 1, 8, 8),
        torch.full((4, 1, 8, 8), 0.5),
    ],
    ids=["rank", "odd rows", "odd columns", "nan", "empty", "constant"],
)
def test_images_that_cannot_train_are_refused(tmp_path, bad):
    with pytest.raises(ValueError, match="train: expected"):
        train(bad, TrainingSettings(**TINY), tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"objective": "edm"}, r"unknown objective 'edm'; expected one of \['flow', 've', 'vp'\]"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size"),
        ({"width": 12}, "width must be a multiple of 8, got 12"),
        ({"depth": 0}, "depth"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"ema_decay": 1.0}, r"ema_decay must be in \[0, 1\)"),
        ({"classes": 1}, "at least 2 classes, got 1"),
        ({"label_dropout": 1.0}, r"label_dropout must be in \[0, 1\)"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        TrainingSettings(**settings)

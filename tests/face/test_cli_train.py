import csv
import shlex

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from bayes_ir import cli_train
from bayes_ir.models import training
from bayes_ir.models.priors import LabelledPrior, load_prior, read_card


@pytest.fixture
def app():
    app = typer.Typer()
    app.command("train")(cli_train.train)
    return app


@pytest.fixture
def arguments(tmp_path):
    images = np.random.default_rng(0).random((12, 6, 8), dtype=np.float32)
    np.savez(tmp_path / "images.npz", images)
    return [
        *("--data", str(tmp_path / "images.npz"), "--out", str(tmp_path / "run"), "--name", "tiny"),
        *("--steps", "3", "--batch-size", "4", "--width", "8"),
    ]


def run(app, *arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(("objective", "high"), [("ve", 50.0), ("vp", 50.0), ("flow", 50.0)])
def test_images_in_a_prior_out(app, arguments, tmp_path, objective, high):
    result = run(app, *arguments, "--objective", objective)
    assert result.exit_code == 0, result.output
    prior = load_prior(tmp_path / "run" / "tiny.json")
    assert prior.event_shape == (1, 6, 8)
    assert prior.data_range == (0.0, 1.0)
    assert prior.noise_range == pytest.approx((0.01, high), rel=1e-4)
    assert prior.diffusion == training.OBJECTIVES[objective].diffusion
    assert prior.sample((2,)).isfinite().all()
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "run" / "loss.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["3"]


def test_the_card_holds_a_command_that_gives_the_same_weights(app, arguments, tmp_path):
    run(app, *arguments, "--seed", "5", "--learning-rate", "0.002")
    card = read_card(tmp_path / "run" / "tiny")
    program, command, *again = shlex.split(card["training"]["command"])
    assert (program, command) == ("bayes-ir", "train")
    again[again.index("--out") + 1] = str(tmp_path / "again")
    assert run(app, *again).exit_code == 0
    first, second = (
        load_prior(tmp_path / folder / "tiny.json").network.state_dict() for folder in ("run", "again")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_prior_is_calibrated_on_images_kept_out_of_training(app, arguments, tmp_path, monkeypatch):
    trained_on = []
    train = training.train
    monkeypatch.setattr(
        training, "train", lambda images, *a, **k: (trained_on.append(images), train(images, *a, **k))[1]
    )
    assert run(app, *arguments).exit_code == 0
    card, prior = read_card(tmp_path / "run" / "tiny"), load_prior(tmp_path / "run" / "tiny.json")
    assert (len(trained_on[0]), card["data"]["images"], card["calibration"]["images"]) == (10, 10, 2)
    assert card["calibration"]["data"] == "images.npz, kept out of training"
    assert prior.calibration("pca").variances.shape == (24, 9)  # components of 10 training images
    assert prior.calibration("dct").variances.shape == (24, 48)

    others = np.random.default_rng(1).random((5, 6, 8), dtype=np.float32)
    np.savez(tmp_path / "others.npz", others)
    assert run(app, *arguments, "--held-out", str(tmp_path / "others.npz"), "--no-resume").exit_code == 0
    card = read_card(tmp_path / "run" / "tiny")
    assert (len(trained_on[1]), card["data"]["images"], card["calibration"]["images"]) == (12, 12, 5)
    assert card["calibration"]["data"] == "others.npz"
    assert f"--held-out {tmp_path / 'others.npz'}" in card["calibration"]["command"]


def test_labels_in_a_labelled_prior_out(app, arguments, tmp_path):
    """Trained, calibrated for every label, started again from what came out; a mistake is one sentence."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 6, 8), dtype=np.float32), np.arange(40) % 3
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    file = str(tmp_path / "images.npz")
    result = run(app, *arguments, "--labels", file, "--held-out", file, "--held-out-labels", file)
    assert result.exit_code == 0, result.output
    prior, card = load_prior(tmp_path / "run" / "tiny.json"), read_card(tmp_path / "run" / "tiny")
    assert isinstance(prior, LabelledPrior)
    assert prior.classes == 3
    assert card["calibration"]["bases"]["pca"]["labels"] == 3
    assert f"--labels {file} --label-dropout 0.1" in card["training"]["command"]
    assert f"--held-out-labels {file}" in card["training"]["command"]
    for extra, words in (
        (["--labels", file, "--held-out", file], "--labels and --held-out-labels go together"),
        (["--labels", file], "expected at least 2 of every label"),
        (["--held-out-labels", file], "came without images"),
        (["--labels", str(tmp_path / "none.npz")], "does not exist"),
    ):
        refused = run(app, *arguments, "--no-resume", *extra)
        assert refused.exit_code == 2
        assert words in refused.output.replace("\n", " ")
    again = [*arguments, "--start", str(tmp_path / "run" / "tiny.json"), "--labels", file, "--held-out", file]
    again[again.index("--out") + 1] = str(tmp_path / "again")
    result = run(app, *again, "--held-out-labels", file)
    assert result.exit_code == 0, result.output
    assert "--start" in read_card(tmp_path / "again" / "tiny")["training"]["command"]


def test_images_that_cannot_calibrate_are_refused_before_training(app, arguments, tmp_path):
    np.savez(tmp_path / "others.npz", np.zeros((5, 4, 4), dtype=np.float32))
    np.savez(tmp_path / "images.npz", np.zeros((3, 6, 8), dtype=np.float32))
    for extra, words in ((["--held-out", str(tmp_path / "others.npz")], "same shape"), ([], "at least 4")):
        result = run(app, *arguments, *extra)
        assert result.exit_code == 2
        assert words in result.output
    assert not (tmp_path / "run").exists()


def test_ctrl_c_says_where_to_go_on(app, arguments, tmp_path, monkeypatch):
    def stop_at_once(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", stop_at_once)
    result = run(app, *arguments)
    assert result.exit_code == 130
    assert "nothing is kept" in result.output
    monkeypatch.undo()
    run(app, *arguments)
    monkeypatch.setattr(training, "train", stop_at_once)
    result = run(app, *arguments)
    assert result.exit_code == 130
    assert "holds step 3 of 3; the same command goes on" in result.output


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--data", "nowhere.gz"], "does not exist"),
        (["--objective", "edm"], "unknown objective 'edm'"),
        (["--name", "a/b"], "plain name"),
        (["--width", "12"], "multiple of 8"),
    ],
)
def test_errors_are_one_sentence(app, arguments, extra, words):
    result = run(app, *arguments, *extra)
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output


def test_another_runs_folder_is_refused_unless_told(app, arguments):
    run(app, *arguments)
    refused = run(app, *arguments, "--seed", "1")
    assert refused.exit_code == 2
    assert "seed=0" in refused.output
    assert run(app, *arguments, "--seed", "1", "--no-resume").exit_code == 0

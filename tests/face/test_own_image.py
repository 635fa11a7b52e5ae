"""`bayes-ir run --image FILE --operator NAME`, the shipped problems, and the one-line sketches of operators."""

import inspect

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from bayes_ir import models
from bayes_ir.cli import app
from bayes_ir.problems import PROBLEMS, build_problem
from bayes_ir.problems.own_image import build_operator, operator_builders, parse_settings, read_image
from bayes_ir.sketches import EXAMPLES, sketch

SHAPE = (1, 14, 14)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "digit.png"
    levels = np.zeros((14, 14), dtype=np.uint8)
    levels[3:11, 6:9] = 255
    Image.fromarray(levels).save(path)
    return path


def _run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_is_what_its_model_says(name):
    problem = build_problem(name, seed=3)
    assert problem.y.shape == problem.operator.measurement_shape and problem.y.isfinite().all()
    again, other = build_problem(name, seed=3), build_problem(name, seed=4)
    assert torch.equal(again.y, problem.y) and not torch.equal(other.y, problem.y)
    problem.kernel.check(models_problem(problem))


def models_problem(problem):
    from bayes_ir.inference import read_problem

    return read_problem(problem.model, problem.data)


def test_runs_on_a_file(picture, tmp_path):
    out = tmp_path / "out"
    result = _run(
        *("run", "--image", picture, "--operator", "box_mask", "--set", "size=4", "--noise-std", 0.1),
        *("--prior", "mnist-gmm", "--kernel", "Exact", "--draws", 4, "--chains", 2, "--out", out),
    )
    assert result.exit_code == 0, result.output
    assert {"posterior.zarr", "uncertainty.png"} <= {path.name for path in out.iterdir()}


def test_settings_of_operator_and_kernel(picture, tmp_path):
    result = _run(
        *("run", "--image", picture, "--operator", "BlockAverage", "--set", "factor=2", "--set", "levels=3"),
        *(
            "--set",
            "steps_per_level=1",
            "--prior",
            "mnist-gmm",
            "--draws",
            2,
            "--chains",
            1,
            "--out",
            tmp_path / "o",
        ),
    )
    assert result.exit_code == 0, result.output
    assert "levels=3" in result.output


@pytest.mark.parametrize(("operator", "setting"), [("JPEG", "quality=20"), ("Radon", "angles=6")])
def test_the_kernel_suits_the_operator(operator, setting, picture, tmp_path):
    short = "steps=3" if operator == "JPEG" else "levels=3"
    result = _run(
        *("run", "--image", picture, "--operator", operator, "--set", setting, "--set", short),
        *("--prior", "mnist-gmm", "--draws", 2, "--chains", 1, "--out", tmp_path / "o"),
    )
    assert result.exit_code == 0, result.output
    assert ("DPS(" if operator == "JPEG" else "AnnealedLangevin(") in result.output


def test_image_is_read_in_the_units_of_the_prior(picture):
    image = read_image(picture, SHAPE, (-1.0, 1.0))
    assert image.shape == SHAPE and image.min() == -1 and image.max() == 1 and image.dtype == torch.float32


def test_operators_by_name():
    for name in ("Identity", "BicubicDownsampling", "motion_kernel", "random_mask", "Radon", "JPEG"):
        assert name in operator_builders()
    mask = build_operator("random_mask", SHAPE, {"observed": 0.25})
    assert isinstance(mask, models.Mask) and mask.measurement_shape == (49,)
    blur = build_operator("motion_kernel", SHAPE, {"size": 5, "seed": 1})
    assert isinstance(blur, models.CircularBlur)
    assert parse_settings(["a=1", "b=(2, 3)", "c=x.png"]) == {"a": 1, "b": (2, 3), "c": "x.png"}


REFUSED = {
    "neither problem nor operator": ((), "expected either the name of a shipped problem"),
    "both": (("exact-gaussian", "--operator", "Identity"), "expected either the name of a shipped problem"),
    "operator without image": (("--operator", "Identity"), "expected --image FILE"),
    "file without operator": (("exact-gaussian", "--image", "x.png"), "a file needs --operator NAME"),
    "unknown operator": (("--operator", "Identty", "--image", "PICTURE"), "Did you mean 'Identity'?"),
    "unknown setting": (
        ("--operator", "BlockAverage", "--image", "PICTURE", "--set", "factr=2"),
        "unknown setting of BlockAverage 'factr'. Did you mean 'factor'?",
    ),
    "missing setting": (("--operator", "BlockAverage", "--image", "PICTURE"), "needs the setting 'factor'"),
    "wrong factor": (
        ("--operator", "BlockAverage", "--image", "PICTURE", "--set", "factor=3"),
        "factor=3 does not divide",
    ),
    "unknown prior": (("--operator", "Identity", "--image", "PICTURE", "--prior", "mnst"), "mnist"),
    "wrong size": (
        ("--operator", "Identity", "--image", "PICTURE", "--prior", "mnist"),
        "has 14 x 14 pixels (width x height); the prior knows images of 28 x 28",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words(case, picture, tmp_path):
    words, message = REFUSED[case]
    settings = [picture if word == "PICTURE" else word for word in words]
    if "--prior" not in settings and "--operator" in settings:
        settings += ["--prior", "mnist-gmm"]
    result = _run("run", *settings, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert message in result.output.replace("\n", " ")


def test_missing_file(tmp_path):
    result = _run("run", "--operator", "Identity", "--image", tmp_path / "no.png", "--out", tmp_path / "out")
    assert result.exit_code == 1 and "no.png" in result.output.replace("\n", "")


def test_every_operator_has_its_sketch():
    operators = {
        name
        for name, value in vars(models).items()
        if inspect.isclass(value) and issubclass(value, models.Operator) and not inspect.isabstract(value)
    }
    assert operators == set(EXAMPLES)
    for name, build in EXAMPLES.items():
        operator = build()
        assert type(operator).__name__ == name
        left, right = sketch(operator).split(" → ")
        assert 4 <= len(right) <= len(left) == 16
    left, right = sketch(EXAMPLES["Identity"]()).split(" → ")
    assert left == right == "▁▁█████▅▁▁▁▂▂▃▃▃"

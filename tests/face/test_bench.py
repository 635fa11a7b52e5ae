"""``bayes-ir bench accuracy``: kernels from text, records that a stopped run keeps, the table, what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from typer.testing import CliRunner

from bayes_ir.bench import SUITES, Accuracy, harness, markdown, parse_kernel
from bayes_ir.bench.kernel_text import brief
from bayes_ir.bench.metrics import distances, sphere
from bayes_ir.bench.suites import cell_name
from bayes_ir.cli import app
from bayes_ir.inference import (
    DDIM,
    DPS,
    BoxProjection,
    DiffPIR,
    Exact,
    GuidedDiffusion,
    Isotropic,
    Multistep,
    PiGDM,
    Tweedie,
    kernels,
)
from bayes_ir.models import RectifiedFlow
from bayes_ir.words import look_up

SMALL = Accuracy(
    suite=SUITES["quantized"](),
    kernels=("iid", "prior", "GuidedDiffusion(steps=4)"),
    cells=("prior=mixture,bits=1,d=8",),
    problems=2,
    draws=50,
)


@pytest.mark.parametrize(
    "kernel",
    [
        DPS(steps=7, diffusion=RectifiedFlow()),
        GuidedDiffusion(denoising_posterior=Tweedie(), sampler=DDIM(steps=5, eta=0.5), drawn=False),
        GuidedDiffusion(sampler=Multistep(steps=9), denoising_posterior=Isotropic(spread=1.0), drawn=False),
        PiGDM(spread=0.5),
        DiffPIR(),
        Exact(),
        *(row for s in SUITES.values() for row in s().rows(s().cells()[0]).values()),
    ],
    ids=lambda kernel: type(kernel).__name__,
)
def test_a_kernel_is_read_back_from_what_it_prints(kernel):
    assert parse_kernel(repr(kernel)) == kernel


def test_every_kernel_that_needs_no_settings_is_read_by_its_name_alone():
    for name, entry in kernels().items():
        if name != "Projected":
            assert parse_kernel(name) == entry.kernel()
    assert parse_kernel("Projected(projection=BoxProjection(low=-1.0))").projection == BoxProjection(-1.0)


def test_a_table_shows_what_is_not_the_default():
    assert brief(DPS(steps=7)) == "DPS(steps=7)"
    assert brief(GuidedDiffusion()) == "GuidedDiffusion()"
    guided = GuidedDiffusion(steps=4, denoising_posterior=Tweedie())
    text = "GuidedDiffusion(sampler=Ancestral(steps=4, grid='karras'), denoising_posterior=Tweedie())"
    assert brief(guided) == text
    assert parse_kernel(text).sampler == guided.sampler


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DPS(steps=", "cannot be read"),
        ("DPZ(steps=3)", "unknown kernel 'DPZ'. Did you mean 'DPS'"),
        ("DPS(step=3)", "unknown setting of DPS 'step'. Did you mean 'steps'"),
        ("DPS(3)", "positional"),
        ("DPS(**{'steps': 3})", "NAME=VALUE"),
        ("DPS(steps=1)", "steps >= 2"),
        ("DPS(steps=__import__('os').getpid())", "neither a number"),
        ("__import__('os')", "unknown kernel '__import__'"),
        ("read_problem(1)", "unknown kernel 'read_problem'"),
        ("Problem", "unknown kernel 'Problem'"),
        ("(lambda: 1)()", "is no|neither"),
        ("DDIM(steps=3)", "is no kernel"),
        ("[DPS() for _ in range(3)]", "neither"),
    ],
)
def test_anything_else_is_refused_in_words_and_not_run(text, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace("**", r"\*\*")):
        parse_kernel(text)


def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    whole = SMALL.run(tmp_path / "whole")
    assert len(whole) == 6
    stops = iter(range(100))
    written = harness._replace

    def stopping(path, text):
        if next(stops) == 5:
            path.with_name(path.name + ".part").write_text(text[:40])  # killed in the middle of a write
            raise KeyboardInterrupt
        written(path, text)

    monkeypatch.setattr(harness, "_replace", stopping)
    with pytest.raises(KeyboardInterrupt):
        SMALL.run(tmp_path / "stopped")
    monkeypatch.undo()
    left = SMALL.missing(tmp_path / "stopped")
    assert 0 < left < 6
    made = []
    SMALL.run(tmp_path / "stopped", made.append)
    assert len(made) == left
    for name in ("accuracy.json", "accuracy.md"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert SMALL.missing(tmp_path / "whole") == 0
    # A run with more adds to the file what is missing, and no more.
    more = replace(SMALL, kernels=(*SMALL.kernels, "DiffPIR(steps=4)"))
    assert more.missing(tmp_path / "whole") == 2
    assert more.run(tmp_path / "whole")[:6] == whole


def test_records_say_what_was_measured(tmp_path):
    records = SMALL.run(tmp_path)
    iid, prior, guided = records[:3]
    assert [r["kernel"] for r in (iid, prior)] == ["iid", "prior"]
    assert parse_kernel(guided["kernel"]) == GuidedDiffusion(steps=4)
    assert iid["cell"] == "prior=mixture,bits=1,d=8,m=8" and iid["problem seed"] == 1
    assert (iid["NFE"], prior["NFE"]) == (0, 0)
    assert guided["NFE"] == 4 * (1 + 2)  # an evaluation and a vector-Jacobian product a step
    assert iid["mean-W1"] < 2 * iid["floor mean-W1"] < prior["mean-W1"]
    assert iid["mode TV"] < 0.2 and 0.7 < iid["sd ratio"] < 1.4
    assert {"mean-W1", "SW2", "max-W1", "mean error / sd"} < set(guided)


def test_a_kernel_that_cannot_serve_a_problem_is_a_record_with_the_reason(tmp_path):
    (record,) = replace(SMALL, kernels=("DPS(steps=3)",), problems=1).run(tmp_path)
    assert "needs a Gaussian or Poisson channel" in record["failed"] and "mean-W1" not in record
    table = (tmp_path / "accuracy.md").read_text()
    assert "failed" in table and "needs a Gaussian or Poisson channel" in table


def test_distances_are_those_of_scipy_along_every_slice():
    first, second = torch.randn(2, 40, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    directions = sphere(6, 0, slices=5)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    w1 = [wasserstein_distance(first.flatten(1) @ d, second.flatten(1) @ d) for d in torch.tensor(directions)]
    found = distances(first, second, directions)
    assert found["mean-W1"] == pytest.approx(np.mean(w1))
    assert found["max-W1"] == pytest.approx(np.max(w1))
    shifted = distances(first, first + torch.tensor(directions[0]).reshape(2, 3), directions[:1])
    assert shifted == pytest.approx({"mean-W1": 1, "SW2": 1, "max-W1": 1})


def test_the_table_has_mean_interval_median_largest_floor_and_oracle():
    def record(kernel, number, value, **others):
        figures = {"SW2": value, "floor SW2": 0.1, "mean error / sd": 0.2, "sd ratio": 1.0, "NFE": 12.0}
        return {"cell": "d=8", "problem": number, "kernel": kernel, **figures, **others}

    records = [record("oracle", i, 0.5) for i in range(3)]
    records += [record("DPS(steps=4)", i, v, **{"mode TV": 0.25}) for i, v in enumerate((1.0, 2.0, 6.0))]
    records += [
        {"cell": "d=8", "problem": 3, "kernel": "DPS(steps=4)", "failed": "3 of 5 draws are not finite"}
    ]
    settings = {"suite": "gmm25", "switches": {"sv": "raw"}, "draws": 2000, "seed": 0}
    text = markdown(records, settings, "SW2")
    # sd of 1, 2, 6 is 7^{1/2}: 1.96 sqrt(7 / 3) = 2.994
    assert "| `DPS(steps=4)` | 3 ± 2.99 | 2 | 6 | 0.1 | 0.5 | 0.25 | 0.2 | 1 | 12 | 3 of 4 |" in text
    assert "| oracle | 0.5 ± 0 | 0.5 | 0.5 | 0.1 | 0.5 |  | 0.2 | 1 | 12 | 3 |" in text
    assert "problem 3: 3 of 5 draws are not finite" in text and "sv = raw" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--suite", "gmm52"],
            "unknown suite 'gmm52'. Did you mean 'gmm25'? There are: digits, gaussian, gmm25",
        ),
        (["--suite", "gmm25", "--cells", "d=9"], "There are: d=8,dy=1,steps=100; d=8,dy=2,steps=100"),
        (["--suite", "gmm25", "--kernel", "DPZ()"], "unknown kernel 'DPZ'. Did you mean 'DPS'?"),
        (
            ["--suite", "digits", "--kernel", "oracle"],
            "unknown row of digits 'oracle'. There are: iid, prior",
        ),
        (["--suite", "gmm25", "--set", "wieghts=rand"], "Did you mean 'weights'?"),
        (["--suite", "gmm25", "--set", "weights=gamma"], "unknown setting weights 'gamma'"),
        (["--suite", "gmm25", "--set", "metric=W3"], "unknown metric 'W3'"),
        (["--suite", "gmm25", "--set", "sigma=-1"], "expected 'random' or a positive number"),
        (["--suite", "gmm25", "--problems", "0"], "problems >= 1"),
    ],
)
def test_refusals_list_what_there_is(tmp_path, arguments, words):
    result = CliRunner().invoke(app, ["bench", "accuracy", *arguments, "--out", str(tmp_path / "x")])
    assert result.exit_code == 2
    assert words in result.output
    assert not (tmp_path / "x").exists()


def test_the_command_writes_shows_and_goes_on(tmp_path):
    arguments = [
        "bench",
        "accuracy",
        "--suite",
        "gaussian",
        "--cells",
        "d=16",
        "--problems",
        "2",
        "--draws",
        "40",
    ]
    arguments += ["--out", str(tmp_path)]
    first = CliRunner().invoke(app, [*arguments, "--kernel", "iid"])
    assert first.exit_code == 0, first.output
    assert "2 records" in first.output and "| iid |" in first.output
    again = CliRunner().invoke(app, [*arguments, "--kernel", "iid", "--kernel", "PiGDM(steps=3)"])
    assert "4 records" in again.output
    held = json.loads((tmp_path / "accuracy.json").read_text())
    assert held["settings"] == {"suite": "gaussian", "switches": {}, "draws": 40, "seed": 0}
    other = CliRunner().invoke(app, [*arguments, "--kernel", "iid", "--seed", "1"])
    assert other.exit_code == 2 and "give another --out" in other.output


@pytest.mark.parametrize("name", sorted(SUITES))
def test_every_suite_makes_its_problems_from_their_seed(name):
    suite = look_up("suite", name, SUITES)()
    names = [cell_name(cell) for cell in suite.cells()]
    assert len(set(names)) == len(names)
    cell = suite.cells()[0]
    one, same, other, rerun = (suite.case(cell, *key) for key in ((0, 0), (0, 0), (1, 0), (0, 1)))
    assert torch.equal(one.problem.y, same.problem.y) and one.seed == same.seed
    assert len({one.seed, other.seed, rerun.seed}) == 3
    np.testing.assert_allclose(np.linalg.norm(one.directions, axis=1), 1)
    Accuracy(suite=suite)  # every default row of every cell can be read

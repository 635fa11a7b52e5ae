"""`bayes-ir compare`: figures against closed forms, what stands out, and what cannot be compared."""

import shutil

import numpy as np
import pytest
import xarray as xr
from browser import visit
from typer.testing import CliRunner

from bayes_ir.cli import app
from bayes_ir.reporting import Run, compare_runs

CHAINS, DRAWS, SHAPE = 4, 100, (1, 5, 5)


def run(name="a", seed=0, shift=0.0, scale=1.0, shape=SHAPE, truth=None, y=None, **attrs):
    """A run whose draws are N(shift, scale^2) in every pixel."""
    rng = np.random.default_rng(seed)
    x = shift + scale * rng.normal(size=(CHAINS, DRAWS, *shape))
    axes = ("x_channel", "x_row", "x_column")[-len(shape) :]
    dims = ("chain", "draw")
    lik = rng.normal(size=(CHAINS, DRAWS))
    stats = {
        "log_lik": (dims, lik),
        "log_lik_rep": (dims, rng.permutation(lik)),
        "nfe": (dims, np.full(lik.shape, 16)),
    }
    groups = {
        "/": xr.Dataset(attrs={"image_site": "x", "kernel": "Made(steps=2)", "fingerprint": "f"} | attrs),
        "posterior": xr.Dataset({"x": ((*dims, *axes), x)}),
        "sample_stats": xr.Dataset(stats),
        "observed_data": xr.Dataset({"y": (("y_dim_0",), np.arange(3.0) if y is None else np.asarray(y))}),
    }
    return Run(name, xr.DataTree.from_dict(groups), truth=truth)


def tables(page):
    """Rows of the tables of a page as {caption or title: {first cell: {column: cell}}}."""
    found = {}
    for section in page.sections:
        for block in section.blocks:
            if block.kind == "table":
                found[section.title] = {
                    row[0]: dict(zip(block.header, row, strict=True)) for row in block.rows
                }
    return found


def test_figures_are_those_of_numpy():
    a, b = run("a"), run("b", seed=1, shift=0.5, scale=2.0)
    row = tables(compare_runs([a, b]))["How far apart they are"]["a, b"]
    x, z = (r.posterior["posterior"]["x"].values.reshape(-1, 25) for r in (a, b))
    s, t = x.std(0, ddof=1), z.std(0, ddof=1)
    difference = np.sqrt(((x.mean(0) - z.mean(0)) ** 2 / ((s**2 + t**2) / 2)).mean())
    assert float(row["mean difference / sd"]) == pytest.approx(difference, rel=1e-3)
    assert float(row["sd ratio"]) == pytest.approx(np.exp(np.log(t / s).mean()), rel=1e-3)
    assert float(row["above the floor"].split()[0]) > 20


def test_two_runs_of_one_posterior_are_at_the_floor():
    """Distance and floor share their law; over 6 pairs none may be 4 sd away (1 in 1,000)."""
    for seed in range(6):
        row = tables(compare_runs([run("a", seed=2 * seed), run("b", seed=2 * seed + 1)]))
        row = row["How far apart they are"]["a, b"]
        assert abs(float(row["above the floor"].split()[0])) < 4
        # 25 pixels of mean square 1/n + 1/m: within 4 of its relative standard errors 1/sqrt(2 * 25)
        ratio = float(row["mean difference / sd"]) / float(row["by chance"])
        assert 1 - 4 / 50**0.5 < ratio < 1 + 4 / 50**0.5


def test_costs_and_errors():
    truth = np.ones(SHAPE)
    timed = {"sampling_time": 8.0, "sampling_draws": 400, "data_range": [-1.0, 1.0]}
    page = compare_runs([run("a", truth=truth, **timed), run("b", seed=1, scale=0.5, data_range=[-1.0, 1.0])])
    found = tables(page)["What each cost and found"]
    assert found["a"]["seconds per draw"] == "0.02" and found["b"]["seconds per draw"] == "not known"
    assert found["a"]["NFE per draw"] == "16" and found["a"]["kernel"] == "Made"
    assert found["a"]["draws"].split() == ["4", "x", "100"]
    for name, scale in (("a", 1.0), ("b", 0.5)):  # the truth is known to one run and used for both
        # mean 0 but for noise of sd scale / 20 in each of 25 pixels, against 1
        assert float(found[name]["rmse"]) == pytest.approx(1.0, abs=4 * scale / 20 / 5 + scale**2 / 400)
        assert float(found[name]["PSNR, dB"]) == pytest.approx(
            20 * np.log10(2 / float(found[name]["rmse"])), abs=0.01
        )
    assert [s.title for s in page.sections].count("Can a be trusted?") == 1


def test_models_that_differ_are_told():
    def said(page):
        return page.sections[0].blocks[0].text

    assert said(compare_runs([run("a"), run("b", seed=1)])) == "The runs have one model."
    assert "different models" in said(compare_runs([run("a"), run("b", seed=1, fingerprint="g")]))


def test_unfinished_runs_are_named_and_equal_names_numbered():
    page = compare_runs([run("a"), run("a", seed=1, partial="chains [0] of 2")])
    assert page.warning == "Unfinished: a (2): chains [0] of 2."
    assert "a (1) (Made), a (2) (Made)" in page.lead


@pytest.mark.parametrize("shape", [(25,), (3, 5, 5), (2, 5, 5), (5, 5)])
def test_images_of_any_kind_have_maps(shape):
    truth = np.zeros(shape)
    page = compare_runs([run("a", shape=shape, truth=truth), run("b", seed=1, shape=shape)])
    picture = next(b for s in page.sections for b in s.blocks if b.kind == "picture")
    assert picture.data.startswith(b"\x89PNG")


def test_draws_that_are_not_finite_are_left_out():
    bad = run("b", seed=1)
    bad.posterior["posterior"]["x"].values[0, 0] = np.inf
    row = tables(compare_runs([run("a"), bad]))["How far apart they are"]["a, b"]
    assert abs(float(row["above the floor"].split()[0])) < 4


def _without(group):
    made = run("b")
    del made.posterior[group]
    return made


def _draws(count):
    made = run("b")
    made.posterior["posterior"]["x"].values[...] = np.nan
    made.posterior["posterior"]["x"].values[0, :count] = 0.5
    return made


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (
            run("b", y=[0.0, 1.0, 2.5]),
            "y in 1 of 3 measurements; give runs with the same problem, image and --seed",
        ),
        (run("b", y=[0.0, 1.0]), "the data y have 3 and 2 numbers"),
        (run("b", shape=(1, 5, 4)), r"draws of shape \(1, 5, 5\), the second of x with \(1, 5, 4\)"),
        (_without("observed_data"), "b has no group observed_data"),
        (_draws(1), "b has 1 finite draw; a comparison needs at least two"),
        (_draws(0), "none of the 400 draws is finite"),
        (run("b", truth=np.ones(SHAPE)), "know different truths though their data agree"),
    ],
    ids=["data", "number of data", "image", "no data", "one draw", "no draw", "truth"],
)
def test_what_cannot_be_compared(second, words):
    with pytest.raises(ValueError, match=words):
        compare_runs([run("a", truth=np.zeros(SHAPE)), second])


def test_missing_measurements_agree_with_missing_ones():
    missing = [0.0, np.nan, 2.0]
    assert compare_runs([run("a", y=missing), run("b", seed=1, y=missing)])
    with pytest.raises(ValueError, match="y in 1 of 3"):
        compare_runs([run("a", y=missing), run("b", y=[0.0, 1.0, 2.0])])


def test_one_run_is_no_comparison():
    with pytest.raises(ValueError, match="got 1 run; expected at least two"):
        compare_runs([run("a")])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three runs by the command: two kernels on the same data, one on other data."""
    folder = tmp_path_factory.mktemp("runs")
    asked = {
        "exact": "--kernel Exact --seed 1",
        "guided": "--kernel GuidedDiffusion --set steps=6 --seed 1",
        "other": "--kernel Exact --seed 2",
    }
    for name, words in asked.items():
        line = ["run", "exact-gaussian", *words.split(), "--draws", "24", "--chains", "2"]
        result = CliRunner().invoke(app, [*line, "--out", str(folder / name)])
        assert result.exit_code == 0, result.output
    return folder


def compare(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def test_a_browser_opens_the_comparison(made, tmp_path):
    page = tmp_path / "c.html"
    assert compare(made / "exact", made / "guided", "--out", page).exit_code == 0
    document, console, asked = visit(page, tmp_path)
    assert "How far apart they are" in document and console == [] and asked == []


def test_the_command(made, tmp_path):
    result = compare(made / "exact", made / "guided", "--out", tmp_path / "c.html")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "c.md").read_text()
    assert r"2 runs of the same data: exact (Exact), guided (GuidedDiffusion)." in text
    assert "The runs have one model." in text and (tmp_path / "c-pictures" / "maps.png").exists()


def test_the_command_refuses_other_data(made, tmp_path):
    result = compare(made / "exact", made / "other", "--out", tmp_path / "c.html")
    assert result.exit_code == 2 and "their data differ, y in 60 of 60 measurements" in result.output
    assert not (tmp_path / "c.html").exists()


def test_the_command_refuses_unfinished_runs_until_asked(made, tmp_path):
    import zarr

    part = shutil.copytree(made / "exact", tmp_path / "part")
    zarr.open_group(part / "posterior.zarr", mode="r+", use_consolidated=False)["blocks/complete"][1, 0] = 0
    words = (made / "exact", part, "--out", tmp_path / "c.html")
    refused = compare(*words)
    assert refused.exit_code == 2 and "--partial" in refused.output
    assert compare(*words, "--partial").exit_code == 0
    assert "Unfinished: part: chains" in (tmp_path / "c.html").read_text()

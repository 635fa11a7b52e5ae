"""`bayes-ir report`: the page of a run, of a store, of an unfinished one; as HTML, as Markdown, in a browser."""

import base64
import html.parser
import io
import json
import re
import shlex
import shutil

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from browser import visit
from PIL import Image
from typer.testing import CliRunner

import bayes_ir as bir
from bayes_ir.analysis import open_posterior
from bayes_ir.cli import app
from bayes_ir.inference import BlockedGibbs, Exact, GuidedDiffusion
from bayes_ir.models import Gaussian, GaussianPrior, Identity
from bayes_ir.reporting import Run, open_run, report_run, write_page
from bayes_ir.reporting.page import Code, Facts, Page, Paragraph, Section, Table

ASKED = "run exact-gaussian --kernel Exact --draws 40 --chains 3 --seed 5 --image 2"


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with a name that HTML and Markdown both have to escape."""
    out = tmp_path_factory.mktemp("runs") / "a <b> & _c_"
    result = call(*ASKED.split(), "--out", out)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def reported(made):
    result = call("report", made)
    assert result.exit_code == 0, result.output
    return made / "report.html"


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run", ignore=shutil.ignore_patterns("report*"))


class Fetched(html.parser.HTMLParser):
    """Everything in a page that a browser may fetch, and the pictures with their descriptions."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.pictures, self.tags = [], [], []
        self.feed(text)
        self.addresses += re.findall(r"url\(([^)]*)\)", text) + re.findall(r"@import\s+(\S+)", text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        names = ("src", "href", "srcset", "data", "poster", "action", "background", "xlink:href", "style")
        self.addresses += [values[name] for name in names if values.get(name)]
        if tag == "img":
            self.pictures.append((values["src"], values["alt"]))


def test_nothing_is_fetched(reported):
    page = Fetched(reported.read_text())
    assert page.addresses and all(address.startswith("data:") for address in page.addresses)
    assert not {"script", "iframe", "object", "embed", "form", "base", "b"} & set(page.tags)


def test_an_address_would_be_seen():
    text = '<img src="https://a.b/c" alt=""><style>p{background:url(//x.y)} @import "z.css";</style>'
    assert set(Fetched(text).addresses) == {"https://a.b/c", "//x.y", '"z.css";</style>'}


def test_a_browser_opens_it_without_a_word_and_without_a_request(reported, tmp_path):
    document, console, asked = visit(reported, tmp_path)
    assert "Can it be trusted?" in document
    assert console == [] and asked == []


def test_the_browser_would_tell_of_an_error_and_of_a_request(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text('<link rel="icon" href="data:,"><img src="http://example.org/x.png"><script>f()</script>')
    _, console, asked = visit(page, tmp_path)
    assert any("f is not defined" in line for line in console)
    assert asked == ["http://example.org/x.png"]


def test_the_page_says_what_was_asked_and_found(made, reported):
    text = reported.read_text()
    posterior = open_posterior(made / "posterior.zarr")
    for expected in (
        "Posterior of exact-gaussian",
        "120 draws by Exact: 3 chains of 40.",
        "No network: correlated Gaussian prior",
        "GaussianSensing(measurements=60",
        "y ~ Gaussian(noise_std=0.1) given x, observed",
        posterior.attrs["citation"],
        posterior.attrs["torch_version"],
        posterior.attrs["fingerprint"],
        "Against the exact posterior",
        *(line.split(",")[0] for line in (made / "exact.csv").read_text().splitlines()[1:]),
    ):
        assert html.escape(expected, quote=False) in text, expected
    mean = posterior["posterior"]["x"].values.mean()
    assert f"<td>{mean:.4g}</td>" in text  # the functional "mean"
    pictures = {alt.split(" ")[0]: src for src, alt in Fetched(text).pictures}
    kind, data = pictures["Posterior"].split(",")
    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size[0] > 600
    if shutil.which("dot"):
        assert b"GaussianPrior" in base64.b64decode(pictures["The"].split(",")[1])


def test_the_markdown_says_the_same_and_has_its_pictures(made, reported):
    text = reported.with_suffix(".md").read_text()
    assert "| 🟢 good | run finished | yes | every block of draws is there |" in text
    assert "# Posterior of exact-gaussian" in text
    for target in re.findall(r"!\[[^\]]*\]\(<([^>]*)>\)", text):
        assert (made / target).stat().st_size > 500
    assert (made / "report-pictures" / "uncertainty.png").exists()
    assert r"a \<b\>" not in text  # the folder is no title where the problem has a name
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows and all(line.endswith(" |") for line in rows)


def test_the_command_repeats_the_draws(made, tmp_path):
    command = json.loads((made / "run.json").read_text())["command"]
    words = shlex.split(command)
    assert words[0] == "bayes-ir" and str(made) in words
    words[words.index(str(made))] = str(tmp_path / "again")
    result = call(*words[1:])
    assert result.exit_code == 0, result.output
    first, second = (
        open_posterior(d / "posterior.zarr")["posterior"]["x"] for d in (made, tmp_path / "again")
    )
    np.testing.assert_array_equal(first.values, second.values)


def test_repeated_and_boolean_options_are_in_the_command(tmp_path):
    out = tmp_path / "o"
    words = f"run exact-gaussian --set levels=3 --set steps_per_level=1 --draws 2 --no-resume --out {out}"
    assert call(*words.split()).exit_code == 0
    kept = shlex.split(open_run(out).record.command)
    assert sorted(kept) == sorted(["bayes-ir", *words.split()])


def test_a_refused_run_leaves_the_record_of_the_store_as_it_was(copied):
    before = (copied / "run.json").read_text()
    result = call(*ASKED.replace("--seed 5", "--seed 6").split(), "--out", copied)
    assert result.exit_code == 2 and "was made" in result.output
    assert (copied / "run.json").read_text() == before


def test_the_time_is_that_of_the_call_that_drew(copied):
    before = open_posterior(copied / "posterior.zarr").attrs
    assert before["sampling_draws"] == 120
    assert call(*ASKED.split(), "--out", copied).exit_code == 0
    assert open_posterior(copied / "posterior.zarr").attrs == before
    assert call(*ASKED.replace("--draws 40", "--draws 64").split(), "--out", copied).exit_code == 0
    assert (
        open_posterior(copied / "posterior.zarr").attrs["sampling_draws"] == 192
    )  # one block a chain, made again


def test_an_older_run_without_a_record(copied):
    for name in ("run.json", "truth.npy"):
        (copied / name).unlink()
    result = call("report", copied)
    assert result.exit_code == 0, result.output
    text = (copied / "report.html").read_text()
    assert "did not write its model down" in text and "y ~ Gaussian(A(x)), observed" in text
    assert "The truth is not known" in text and "The command was not written down" in text


def test_a_store_alone_and_a_file_elsewhere(copied, tmp_path):
    store = (copied / "posterior.zarr").rename(tmp_path / "mine.zarr")
    result = call("report", store)
    assert result.exit_code == 0, result.output
    assert "Posterior of mine.zarr" in (tmp_path / "mine-report.html").read_text()
    assert call("report", store, "--out", tmp_path / "deep" / "page").exit_code == 0
    assert (tmp_path / "deep" / "page.html").exists() and (tmp_path / "deep" / "page.md").exists()


def test_a_store_in_its_folder_has_the_record_beside_it(made):
    run = open_run(made / "posterior.zarr")
    assert run.record == open_run(made).record and run.truth is not None and run.name == made.name


def unfinish(folder):
    """Take the flag of the second chain's only block away, as if it had not been drawn yet."""
    import zarr

    zarr.open_group(folder / "posterior.zarr", mode="r+", use_consolidated=False)["blocks/complete"][1, 0] = 0


def test_an_unfinished_run_is_refused_and_reported_in_part(copied):
    unfinish(copied)
    result = call("report", copied)
    assert result.exit_code == 2 and "unfinished" in result.output and "--partial" in result.output
    assert not (copied / "report.html").exists()
    assert call("report", copied, "--partial").exit_code == 0
    text = (copied / "report.html").read_text()
    assert "This run is unfinished: the page is about chains [0, 2] of 3" in text
    assert "Against the exact posterior" not in text
    assert "80 draws by Exact: 2 chains of 40." in text


def test_a_run_of_which_nothing_is_there_yet(copied):
    import zarr

    zarr.open_group(copied / "posterior.zarr", mode="r+", use_consolidated=False)["blocks/complete"][:] = 0
    result = call("report", copied, "--partial")
    assert result.exit_code == 2 and "no draw to look at yet" in result.output


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("run.json", b"{", "is no record of a run"),
        ("run.json", b'{"format": "bayes_ir run, version 1", "task": 1}', "is no record of a run"),
        ("run.json", b'{"format": "bayes_ir run, version 9"}', "has the format 'bayes_ir run, version 9'"),
        ("truth.npy", b"nothing", "is no array of numbers"),
        ("exact.csv", b",floor\nsd ratio,one", "is no table of numbers"),
        ("exact.csv", b"", "is no table of numbers"),
    ],
)
def test_a_damaged_file_is_named(copied, name, content, words):
    (copied / name).write_bytes(content)
    result = call("report", copied)
    assert result.exit_code == 2 and words in result.output and name in result.output


def test_places_that_are_no_runs(tmp_path):
    missing = call("report", tmp_path / "none")
    assert missing.exit_code == 1 and "there is no run at" in missing.output
    empty = call("report", tmp_path)
    assert empty.exit_code == 2 and "expected a folder made by `bayes-ir run`" in empty.output


def test_a_truth_of_another_shape(copied):
    np.save(copied / "truth.npy", np.zeros((1, 3, 3)))
    result = call("report", copied)
    assert result.exit_code == 2 and "truth has shape (1, 3, 3)" in result.output


def test_a_name_that_is_no_page(made):
    result = call("report", made, "--out", "page.pdf")
    assert result.exit_code == 2 and "expected a name that ends in .html" in result.output


PRIOR = GaussianPrior(torch.zeros(1, 4, 4).flatten(), torch.eye(16), event_shape=(1, 4, 4))


def plate_with_noise():
    noise = pyro.sample("noise", dist.LogNormal(-1.0, 0.2))
    with pyro.plate("images", 3):
        x = pyro.sample("x", PRIOR)
        pyro.sample("y", Gaussian(Identity((1, 4, 4))(x), noise).to_event(3))


def sampled(**how):
    operator = Identity(PRIOR.event_shape)

    def model():
        x = pyro.sample("x", PRIOR)
        pyro.sample("y", Gaussian(operator(x), 0.3))

    data = {"y": bir.simulate(model, seed=1)["y"]}
    return bir.sample(model, Exact(), data, progress=False, **({"draws": 30, "chains": 2} | how))


def test_a_plate_with_unknown_noise(tmp_path):
    torch.manual_seed(0)
    data = {"y": torch.randn(3, 1, 4, 4)}
    kernel = BlockedGibbs(image=GuidedDiffusion(steps=4), warmup=4, max_tree_depth=2)
    tree = bir.sample(plate_with_noise, kernel, data, draws=6, chains=2, progress=False)
    path, _ = write_page(report_run(Run("a plate", tree), plate_with_noise, data), tmp_path / "p")
    text = path.read_text()
    assert "y ~ Gaussian(noise_std from noise) given noise, x, observed, in the plate images" in text
    assert "The other sites of the model" in text and "NUTS divergences" in text


def test_draws_that_are_not_finite():
    tree = sampled()
    tree["posterior"]["x"].values[0, 3] = np.nan
    tree["sample_stats"]["diverging"].values[0, 3] = True
    page = report_run(Run("r", tree))
    lights = {d.name: d for s in page.sections for b in s.blocks if b.kind == "lights" for d in b.diagnostics}
    assert lights["diverging draws"].value == "1 of 60" and lights["diverging draws"].light.value == "bad"
    said = [b.text for s in page.sections for b in s.blocks if b.kind == "paragraph"]
    assert any(text.startswith("1 of 60 draws are not finite") for text in said)
    assert any(text.startswith("Not to be relied on as it stands: diverging draws.") for text in said)
    tree["posterior"]["x"].values[:] = np.nan
    with pytest.raises(ValueError, match="none of the 60 draws is finite"):
        report_run(Run("r", tree))


def test_a_single_draw_is_refused():
    with pytest.raises(ValueError, match="needs two finite draws at least, got 1"):
        report_run(Run("r", sampled(draws=1, chains=1)))


def test_every_text_is_escaped(tmp_path):
    odd = '<script>alert("1")</script> & | `x` *y* _z_'
    blocks = [Paragraph(odd), Code(odd), Facts([(odd, odd)]), Table([odd, "b"], [[odd, odd]], odd)]
    html_file, markdown = write_page(Page(odd, odd, [Section(odd, blocks)], odd), tmp_path / "odd.html")
    assert "script" not in Fetched(html_file.read_text()).tags
    assert html_file.read_text().count("&lt;script&gt;") == 13
    lines = markdown.read_text().splitlines()
    escaped = r'\<script\>alert("1")\</script\> \& \| \`x\` \*y\* \_z\_'
    assert f"# {escaped}" in lines and f"| {escaped} | {escaped} |" in lines
    assert lines[lines.index("```text") + 1] == odd
